"""The stages: a small run through all of them, taken up again, with what cannot be refused at once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from rings import stand_in

import heliodor
from heliodor.checkpoint import read_header
from heliodor.errors import InputError, SimulationError
from heliodor.pigs import coarse_grain, read_pigs_choices
from heliodor.pigs.config import PigsChoices, explain
from heliodor.pigs.spectra import centroid_spectra
from heliodor.potentials.sum import Sum
from heliodor.train.dataset import Dataset

TINY = {
    "paths": {"time": "20 fs", "beads": 4, "stride": 1, "timestep": 0.5},
    "correction": {"size": {"channels": 4, "degrees": [0, 0], "correlation": 1, "radial_hidden": [8], "cutoff": 3.0}},
    "train": {"epochs": 3, "plot_every": 0, "batch_size": 16, "threads": 1},
    "dynamics": {"time": "104 fs", "settle": "5 fs", "copies": 2, "timestep": 1.0, "resolution": 500.0},
}
MODEL = "heliodor-mini"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, dict]:
    """One run of everything, ring polymers by the stand-in."""
    folder = tmp_path_factory.mktemp("pigs") / "water"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heliodor.pigs.pipeline.run_paths", stand_in)
        found = coarse_grain(MODEL, molecule("H2O"), folder, read_pigs_choices(TINY), kernels="reference")
    return folder, found


def test_all_stages_and_their_files(made):
    folder, found = made
    assert list(found) == ["paths", "residuals", "train", "judge", "classical", "corrected", "spectra"]
    for name in ("corrected.safetensors", "judgement.json", "spectrum.png", "vdos.csv", "infrared.csv", "curves.png"):
        assert (folder / name).stat().st_size > 0
    frames = Dataset.read(folder / "centroids.h5")
    assert len(frames) == 40
    sizes = [len(Dataset.read(folder / f"{name}.h5")) for name in ("training", "validation", "test")]
    assert sizes == [25, 4, 7]
    judgement = json.loads((folder / "judgement.json").read_text())
    assert judgement["frames"] == 7 and judgement["before"] > 0.0
    spectra = json.loads((folder / "spectra.json").read_text())
    assert set(spectra["vdos"]) == set(spectra["infrared"]) == {"classical", "corrected"}
    assert all(2400.0 < line["mean_per_cm"] < 4600.0 for line in spectra["vdos"].values())
    table = np.genfromtxt(folder / "vdos.csv", delimiter=",", names=True)
    assert table.dtype.names == ("wavenumber_per_cm", "classical", "classical_error", "corrected", "corrected_error")


def test_residuals_are_centroid_forces_less_classical_ones(made):
    folder, _ = made
    frames, last = Dataset.read(folder / "centroids.h5"), Dataset.read(folder / "test.h5")
    model = heliodor.load(MODEL, dtype="float64", kernels="reference")
    ends = [frames.atoms(k) for k in range(33, 40)]
    classical = heliodor.evaluate(model, ends).forces.numpy()
    np.testing.assert_allclose(last.forces, frames.take(range(33, 40)).forces - classical, atol=2e-5)


def test_the_corrected_model_is_complete_in_itself(made, tmp_path):
    folder, _ = made
    shutil.copy(folder / "corrected.safetensors", tmp_path / "alone.safetensors")
    total = heliodor.load(tmp_path / "alone.safetensors", dtype="float64", kernels="reference")
    assert isinstance(total, Sum)
    base = heliodor.load(MODEL, dtype="float64", kernels="reference")
    part = heliodor.load(folder / "correction.safetensors", dtype="float64", kernels="reference")
    atoms = molecule("H2O")
    whole, one, two = (heliodor.evaluate(m, atoms) for m in (total, base, part))
    torch.testing.assert_close(whole.forces, one.forces + two.forces, rtol=0, atol=1e-12)
    torch.testing.assert_close(whole.dipole, one.dipole, rtol=0, atol=1e-12)
    card = read_header(folder / "corrected.safetensors")["card"]
    assert card["elevated_temperature_K"] == 500.0 and card["beads"] == 4 and card["licence"] == base.card["licence"]


def test_nothing_is_done_twice(made, monkeypatch):
    folder, found = made

    def never(*args, **options):
        raise AssertionError("done again")

    monkeypatch.setattr("heliodor.pigs.pipeline.run_paths", never)
    monkeypatch.setattr("heliodor.pigs.pipeline.classical_run", never)
    told = []
    again = coarse_grain(
        MODEL,
        molecule("H2O"),
        folder,
        read_pigs_choices(TINY),
        kernels="reference",
        tell=lambda stage, what, done, of: told.append(what),
    )
    assert all(what.startswith("unchanged") for what in told)
    assert {k: v.outputs for k, v in again.items()} == {k: v.outputs for k, v in found.items()}


def test_another_temperature_keeps_the_correction(made, monkeypatch, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(made[0], folder)
    colder = read_pigs_choices({**TINY, "temperature": 200.0})
    told, runs = {}, []

    def stand_in_dynamics(model, atoms, choices, place, name, say):
        runs.append((name, choices.temperature))
        shutil.copy(made[0] / "classical.h5", place / f"{name}.h5")
        return place / f"{name}.h5"

    monkeypatch.setattr("heliodor.pigs.pipeline.classical_run", stand_in_dynamics)
    coarse_grain(
        MODEL,
        molecule("H2O"),
        folder,
        colder,
        until="corrected",
        kernels="reference",
        tell=lambda stage, what, done, of: told.setdefault(stage, what),
    )
    assert all(told[stage].startswith("unchanged") for stage in ("paths", "residuals", "train", "judge"))
    assert runs == [("classical", 200.0), ("corrected", 200.0)]


def test_other_long_range_cutoffs_are_other_forces(made, monkeypatch):
    """The base's forces change with it, though its weights do not: what was learned does not hold."""
    folder, _ = made

    def again(*args, **options):
        raise InputError("done again")

    monkeypatch.setattr("heliodor.pigs.pipeline.run_paths", again)
    same = {"kernels": "reference", "until": "paths"}
    coarse_grain(MODEL, molecule("H2O"), folder, read_pigs_choices(TINY), **same)
    with pytest.raises(InputError, match="done again"):
        coarse_grain(MODEL, molecule("H2O"), folder, read_pigs_choices(TINY), long_range_cutoff=9.0, **same)


def test_a_killed_run_of_the_dynamics_goes_on(made, monkeypatch, tmp_path):
    from heliodor.pigs.runs import classical_run

    model = heliodor.load(MODEL, dtype="float64", kernels="reference")
    choices = read_pigs_choices(TINY)
    choices = replace(choices, dynamics=replace(choices.dynamics, time="20 fs", copies=1))

    from heliodor.dynamics.run import restart, simulate

    def short(*args, **options):
        if options.get("ensemble") == "nve":
            options["walltime"] = "0.01 s"
        return simulate(*args, **options)

    monkeypatch.setattr("heliodor.pigs.runs.simulate", short)
    with pytest.raises(SimulationError, match=r"was stopped .*give the same command again"):
        classical_run(model, molecule("H2O"), choices, tmp_path, "classical", lambda *told: None)
    seen = []
    monkeypatch.setattr("heliodor.pigs.runs.simulate", None)
    monkeypatch.setattr("heliodor.pigs.runs.restart", lambda *a, **o: seen.append(1) or restart(*a, **o))
    for _ in range(2):
        path = classical_run(model, molecule("H2O"), choices, tmp_path, "classical", lambda *told: None)
    assert len(seen) == 1
    from heliodor.trajectory import open_trajectory

    assert open_trajectory(path).time[-1] == pytest.approx(20.0)


def test_with_ring_polymers_of_ipi(made, tmp_path, monkeypatch):
    """The real thing: its settings, its results, the centre of mass at rest."""
    pytest.importorskip("ipi")

    def stand_in_dynamics(model, atoms, choices, place, name, say):
        shutil.copy(made[0] / f"{name}.h5", place / f"{name}.h5")
        return place / f"{name}.h5"

    def learned_before(*inputs):
        model = heliodor.load(made[0] / "correction.safetensors", dtype="float64", kernels="reference")
        return SimpleNamespace(model=model, path=made[0] / "model.safetensors", steps=0, epochs=0.0, seconds=0.0)

    monkeypatch.setattr("heliodor.pigs.pipeline.classical_run", stand_in_dynamics)
    monkeypatch.setattr("heliodor.pigs.pipeline.fit_correction", learned_before)
    dynamics = {**TINY["dynamics"], "trpmd": "107 fs", "trpmd_beads": 2}
    choices = read_pigs_choices({**TINY, "dynamics": dynamics})
    found = coarse_grain(MODEL, molecule("H2O"), tmp_path / "w", choices, kernels="reference")
    assert found["paths"].facts["frames"] == 40
    spectra = json.loads((tmp_path / "w" / "spectra.json").read_text())
    assert set(spectra["infrared"]) == {"classical", "corrected", "trpmd"}
    frames = Dataset.read(tmp_path / "w" / "centroids.h5")
    center = frames.positions.reshape(40, 3, 3) * molecule("H2O").get_masses()[:, None]
    assert np.ptp(center.sum(1), axis=0).max() < 1e-6


def test_lines_of_centroids_stand_where_they_vibrate():
    wavenumber, interval = 3000.0, 1.0
    t = interval * np.arange(4000)
    x = np.zeros((4000, 2, 3))
    x[:, 0, 0] = 0.02 * np.cos(2.0 * np.pi * 2.99792458e-5 * wavenumber * t)
    found = centroid_spectra(x, 0.3 * x[:, 0], np.array([1.0, 16.0]), interval, 300.0, 30.0, "trpmd")
    for line in found.values():
        assert line.mean_of(2400, 4600) == pytest.approx(wavenumber, abs=3.0)
        assert line.peak_of(2400, 4600) == pytest.approx(wavenumber, abs=10.0)
    total = found["vdos"]
    assert np.trapezoid(total.values, total.wavenumber) == pytest.approx(6.0, rel=1e-3)


def test_explained_choices_can_be_read_again():
    import yaml

    assert read_pigs_choices(yaml.safe_load(explain())) == PigsChoices()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"path": {}}, "unknown entry path; did you mean 'paths'"),
        ({"paths": {"temperature": 200}}, "cannot be below the temperature of the dynamics"),
        ({"paths": {"beads": 1}}, "one bead is classical"),
        ({"paths": {"thermostat": "trpmd"}}, "pile or gle"),
        ({"paths": {"skip": 1.0}}, "skip lies from 0"),
        ({"paths": {"time": "20 fs"}}, "paths.time '20 fs' is too short: it leaves 4 frames of centroids, and 20 are"),
        ({"temperature": -1.0}, "temperature must be positive"),
        ({"correction": {"architecture": "so3lr"}}, "would be counted twice"),
        ({"correction": {"test": 0.0}}, "shares above 0"),
        ({"train": {"loss": "robust"}}, "only squared errors"),
        ({"train": {"epochs": 2, "lr": 1}}, "has no setting 'lr'"),
        ({"dynamics": {"copies": 0}}, "copies is 1 or more"),
        ({"dynamics": {"time": "90 fs"}}, "dynamics.time is too short for a spectrum: 50 frames are"),
        ({"dynamics": {"trpmd": "1050 fs"}}, "50 frames after dynamics.settle"),
    ],
)
def test_impossible_choices_are_refused(values, words):
    with pytest.raises(InputError, match=words):
        read_pigs_choices(values)


def test_other_refusals(tmp_path):
    water = molecule("H2O")
    with pytest.raises(InputError, match="there is no stage 'path'; did you mean 'paths'"):
        coarse_grain(MODEL, water, tmp_path / "a", until="path", kernels="reference")
    with pytest.raises(InputError, match="give one model"):
        coarse_grain(f"{MODEL},heliodor-s", water, tmp_path / "a", kernels="reference")
    with pytest.raises(heliodor.HeliodorError, match="knows only"):
        coarse_grain(MODEL, ase.Atoms("Au"), tmp_path / "a", kernels="reference")
    assert not (tmp_path / "a" / "centroids.h5").exists()
