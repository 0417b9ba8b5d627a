"""Errors of forces where they are used: checkpoints, kernels, restraints, committees, runs, eval, report, ASE."""

from __future__ import annotations

import json

import ase.io
import numpy as np
import pytest
import torch

import heliodor
from heliodor.checkpoint import load_checkpoint, read_header, save_checkpoint
from heliodor.dynamics.restraints.restrained import Restrained, read_restraints
from heliodor.dynamics.watch.watchdog import WatchWarning
from heliodor.errors import CheckpointError, InputError
from heliodor.potential import ModelWarning, evaluate_system
from heliodor.system import System
from uncertain import NAMES, fresh, labelled, mini, shaken


def acetamide(seed=21):
    return shaken(("CH3CONH2",), 1, 0.05, seed)[0]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "told.safetensors"
    save_checkpoint(mini(), path, {"licence": "MIT"})
    return path


# checkpoints ------------------------------------------------------------------------------------------------


def test_a_checkpoint_brings_it_back_in_any_precision(checkpoint):
    atoms, first = acetamide(), mini()
    expected = heliodor.evaluate(first, atoms).force_error
    again = heliodor.load(checkpoint, device="cpu", kernels="reference")
    assert torch.equal(heliodor.evaluate(again, atoms).force_error, expected)
    assert again.uncertainty.config == first.uncertainty.config
    double = heliodor.load(checkpoint, device="cpu", dtype="float64")
    found = heliodor.evaluate(double, atoms).force_error
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=0)
    copy = checkpoint.with_name("copy.safetensors")
    save_checkpoint(double, copy, {"licence": "MIT", "name": "told"})
    assert torch.equal(load_checkpoint(copy).uncertainty.slope, double.uncertainty.slope)


def test_models_without_one_are_written_as_before(tmp_path):
    plain = heliodor.load("heliodor-mini", device="cpu", dtype="float64")
    plain.uncertainty = None
    save_checkpoint(plain, tmp_path / "plain.safetensors", plain.card)
    assert "uncertainty" not in read_header(tmp_path / "plain.safetensors")
    assert heliodor.load(tmp_path / "plain.safetensors").uncertainty is None


def test_with_other_weights_it_does_not_travel(tmp_path):
    model = fresh()
    with torch.no_grad():
        next(model.parameters()).mul_(1.01)
    with pytest.warns(ModelWarning, match="belongs to other weights"):
        save_checkpoint(model, tmp_path / "tuned.safetensors")
    assert load_checkpoint(tmp_path / "tuned.safetensors").uncertainty is None


def test_damaged_numbers_are_refused(tmp_path):
    model = fresh()
    model.uncertainty.slope[0, 0] = torch.nan
    save_checkpoint(model, tmp_path / "nan.safetensors")
    with pytest.raises(CheckpointError, match="not finite"):
        load_checkpoint(tmp_path / "nan.safetensors")


# around a model ---------------------------------------------------------------------------------------------


def test_restraints_leave_it_and_its_doubts():
    model, system = mini(), System.from_atoms(acetamide())
    pull = read_restraints([{"kind": "distance", "atoms": [0, 1], "value": 2.0, "k": 5.0}])
    held = Restrained(model, pull, system)
    p, q = evaluate_system(model, system), evaluate_system(held, system)
    assert torch.equal(p.force_error, q.force_error) and not torch.equal(p.forces, q.forces)
    assert held.doubts(system, q, 1e-3) == model.doubts(system, p, 1e-3) != []


def test_doubts_name_the_worst_atom_first_and_each_structure():
    model = mini()
    system = System.from_atoms([acetamide(), acetamide(22)])
    p = evaluate_system(model, system)
    first, second = model.doubts(system, p, 1e-3)
    assert first.atoms[0] == int(p.force_error[:9].argmax())
    assert set(first.atoms) == set(range(9)) and set(second.atoms) == set(range(9, 18))
    assert f"{float(p.force_error[:9].max()):.2f} eV/Å (half-width of its 90 % interval, limit 0.001)" in first.text
    assert model.doubts(system, p, 1e3) == []
    above = model.doubts(system, p, float(p.force_error.sort().values[-2]))
    assert sum(len(doubt.atoms) for doubt in above) == 1


def test_a_committee_has_the_mean_of_its_members_and_doubts_by_their_spread():
    committee = heliodor.Committee([mini(), fresh()])
    atoms = acetamide()
    torch.testing.assert_close(
        heliodor.evaluate(committee, atoms).force_error, heliodor.evaluate(mini(), atoms).force_error
    )
    mixed = heliodor.Committee([mini(), heliodor.load("so3lr", device="cpu")])
    p = heliodor.evaluate(mixed, atoms)
    assert p.force_error is None
    assert len(mixed.doubts(System.from_atoms(atoms), p, 1e-6)) == 1


def test_ase_has_it_in_its_results():
    atoms = acetamide()
    atoms.calc = heliodor.Calculator(mini())
    atoms.get_forces()
    np.testing.assert_allclose(
        atoms.calc.results["force_error"], heliodor.evaluate(mini(), atoms).force_error, rtol=1e-5
    )


def test_a_kernel_tells_none_and_says_so():
    model = mini()
    from heliodor.potentials.mace import MACE, MACEConfig

    shape = {"channels": 4, "degrees": (1, 0), "edge_degree": 2, "correlation": 2, "radial_hidden": (8,)}
    mace = MACE(MACEConfig(4.0, (1, 6, 7, 8), isolated_energies=(0.0,) * 4, average_neighbors=(6.0, 6.0), **shape))
    system = System.from_atoms(acetamide())
    mace.uncertainty = model.uncertainty
    mace.use_kernel(lambda s, n: (s.positions * 0.0).sum(-1), "some")
    assert evaluate_system(mace, system).force_error is None
    assert any("gives no features" in line for line in mace.advice(system))


# runs -------------------------------------------------------------------------------------------------------


def test_a_run_logs_the_worst_atom_and_stops_where_it_doubts(tmp_path):
    model, atoms = mini(), acetamide()
    options = {"steps": 20, "timestep": 0.5, "seed": 4, "temperature": 300.0, "log_every": "2 fs", "progress": False}
    run = heliodor.simulate(atoms, model, output=tmp_path / "run.h5", **options)
    column = run.log["force_error_max_eV_per_A"]
    last = heliodor.evaluate(model, run.frames[0] if isinstance(run.frames, list) else run.frames)
    assert column[-1] == pytest.approx(float(last.force_error.max()), rel=1e-3)
    assert run.ended == "finished" and not run.events
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["model"]["force_error"] == {"level": 0.9, "limit_eV_per_A": model.uncertainty.limit}
    with pytest.warns(WatchWarning, match=r"doubts itself at .*: the force may be off by .* eV/Å"):
        stopped = heliodor.simulate(
            atoms, model, output=None, on_doubt="stop", doubt_above=float(0.9 * column.min()), **options
        )
    assert stopped.ended == "asked" and "may be off by" in stopped.reason
    assert stopped.events[0].kind == "doubt" and len(stopped.events[0].atoms) >= 1
    with pytest.raises(InputError, match="doubt_above must be a positive force"):
        heliodor.simulate(atoms, model, output=None, doubt_above=-1.0, **options)


def test_several_structures_have_a_worst_atom_each(tmp_path):
    model = mini()
    run = heliodor.simulate(
        [acetamide(), shaken(("CH4",), 1, 0.02, 3)[0]], model, steps=2, output=None, seed=1, progress=False
    )
    first = run.log["force_error_max_eV_per_A"]
    assert first.shape[1] == 2 and (first[:, 0] != first[:, 1]).all()


def test_the_report_has_a_panel_and_words(tmp_path):
    from dataclasses import replace

    from heliodor.report.force_error import force_error
    from heliodor.trajectory import open_trajectory

    heliodor.simulate(
        acetamide(),
        mini(),
        steps=20,
        output=tmp_path / "run.h5",
        seed=4,
        save_every="1 fs",
        log_every="1 fs",
        progress=False,
    )
    trajectory = open_trajectory(tmp_path / "run.h5")
    check, shown = force_error(trajectory)
    values = trajectory.log["force_error_max_eV_per_A"]
    assert check.verdict == "ok" and f"±{values.max():.3g} at most" in check.words
    assert shown.panels[0].curves[0].y is values and "90 % interval" in shown.notes[0]
    low = {**trajectory.record, "settings": {**trajectory.record["settings"], "doubt_above": float(np.median(values))}}
    check, _ = force_error(replace(trajectory, record=low))
    assert check.verdict == "look"
    assert force_error(replace(trajectory, record={}))[0].verdict == "unknown"
    log = {k: v for k, v in trajectory.log.items() if not k.startswith("force_error")}
    assert force_error(replace(trajectory, log=log)) is None


# command line -----------------------------------------------------------------------------------------------


def test_eval_prints_and_writes_whether_it_held(tmp_path, checkpoint, capsys, monkeypatch):
    from heliodor.cli import main
    from heliodor.train.uncertainty import coverage

    data = labelled(shaken(NAMES[:8], 3, 0.05, 31, "same") + shaken(NAMES[:8], 2, 0.12, 32, "hot"))
    frames = []
    for k in range(len(data)):
        frame = data.atoms(k)
        frame.arrays["ref_forces"] = data.forces[data.span(k)]
        frames.append(frame)
    ase.io.write(tmp_path / "set.extxyz", frames, format="extxyz")
    monkeypatch.chdir(tmp_path)
    words = ["eval", "set.extxyz", "--model", str(checkpoint), "--forces-key", "ref_forces", "--no-plots", "-o", "out"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "force error  |ΔF| of" in printed and "hot: |ΔF| of" in printed
    found = json.loads((tmp_path / "out" / "errors.json").read_text())["force_error"]
    expected = coverage(mini(), data)
    assert found["level"] == 0.9
    for kind in ("all", "hot", "same"):
        assert found["kinds"][kind]["by_structures"] == pytest.approx(expected.row(kind).by_structures, abs=0.01)
    head, *lines = (tmp_path / "out" / "structures.csv").read_text().splitlines()
    assert "force_error_max_eV_per_A" in head and "force_error_covered" in head and len(lines) == 40


def test_md_shows_it_and_takes_a_limit(tmp_path, checkpoint, capsys, monkeypatch):
    from heliodor.cli import main

    ase.io.write(tmp_path / "start.xyz", acetamide(), format="extxyz")
    monkeypatch.chdir(tmp_path)
    common = ["md", "start.xyz", "--model", str(checkpoint), "--time", "5 fs", "--seed", "2", "--device", "cpu"]
    assert main(common) == 0
    printed = capsys.readouterr().out
    assert "uncertainty  90 % intervals" in printed and "force error  of the worst atom ±" in printed
    assert main([*common, "-o", "again.h5", "--on-doubt", "stop", "--doubt-above", "0.001", "--json"]) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["ended"] == "asked" and "the force may be off by" in found["events"][0]
    assert found["force_error_max_eV_per_A"]["max"] > 0.001 and "doubts itself at" in err
