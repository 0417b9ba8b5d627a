"""Path-integral runs: frames, spectra, pressure, restarts, refusals."""

from __future__ import annotations

import json
import shutil

import ase
import ase.io
import numpy as np
import pytest
from path_fields import Field
from toys import LennardJones, Morse, argon_box, dimers

import heliodor
from heliodor.errors import HeliodorError, InputError
from heliodor.paths import PathSettings, read_paths, run_paths
from heliodor.paths.distances import bead_radial, bond_lengths
from heliodor.paths.report import write_report
from heliodor.paths.spectra import infrared
from heliodor.paths.structures import write_beads, write_centroids

MASS = 1.008


class Killed(BaseException):
    """As a kill: nothing tidies up."""


def test_killed_run_goes_on_as_if_nothing_had_happened(tmp_path):
    field = Field(3, 20.0)
    settings = PathSettings(
        400.0, 4, "20 fs", timestep=0.5, stride=2, bead_stride=5, seed=1, thermostat="gle", centroid=True
    )
    straight = run_paths(field, field.atoms(), tmp_path / "straight", settings)

    def kill(done: int, total: int) -> None:
        if done == 23:
            raise Killed

    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        run_paths(field, field.atoms(), folder, settings, tell=kill, save=0.0)
    # a state of step 14, with frames after it in the files, and half a frame
    early = tmp_path / "early"
    with pytest.raises(Killed):
        run_paths(
            field, field.atoms(), early, settings, save=0.0,
            tell=lambda done, _: (_ for _ in ()).throw(Killed) if done == 14 else None,
        )  # fmt: skip
    shutil.copy(early / "state.json", folder / "state.json")
    with (folder / "properties.f64").open("ab") as file:
        file.write(b"half a f")
    assert len(read_paths(folder).time) == 7
    with pytest.raises(InputError, match="already"):
        run_paths(field, field.atoms(), folder, settings)
    seen = []
    gone_on = run_paths(field, field.atoms(), folder, settings, restart=True, tell=lambda done, _: seen.append(done))
    assert seen == list(range(15, 41))
    assert gone_on.properties["step"].tolist() == list(range(2, 41, 2))
    for name, values in straight.properties.items():
        np.testing.assert_allclose(gone_on.properties[name], values, rtol=1e-9, err_msg=name)
    assert gone_on.beads().shape == (8, 4, 3, 3)
    np.testing.assert_allclose(gone_on.beads(), straight.beads(), atol=1e-5)
    # the force on a centroid of springs is the spring at the centroid; not at all true of one bead
    assert gone_on.centroids is not None
    np.testing.assert_allclose(gone_on.centroid_forces, -20.0 * (gone_on.centroids - field.places()), atol=1e-8)
    # done: nothing more to do, but a longer time can be asked for, and nothing else
    assert (
        run_paths(
            field, field.atoms(), folder, settings, restart=True, tell=lambda *_: pytest.fail("it was done")
        ).time[-1]
        == 20.0
    )
    longer = PathSettings(**json.loads((folder / "settings.json").read_text())["settings"] | {"time": "22 fs"})
    assert run_paths(field, field.atoms(), folder, longer, restart=True).time[-1] == 22.0
    warmer = PathSettings(300.0, 4, "30 fs", timestep=0.5, stride=2, bead_stride=5, seed=1, thermostat="gle")
    with pytest.raises(InputError, match="temperature"):
        run_paths(field, field.atoms(), folder, warmer, restart=True)
    with pytest.raises(InputError, match="another structure"):
        run_paths(field, field.atoms("Li"), folder, longer, restart=True)
    heavy = field.atoms()
    heavy.set_masses([1.008, 2.014, 1.008])
    with pytest.raises(InputError, match="different set of masses"):
        run_paths(field, heavy, folder, longer, restart=True)
    with pytest.raises(InputError, match="different charge"):
        run_paths(field, field.atoms(), folder, longer, charge=2.0, spin=1, restart=True)


@pytest.mark.parametrize("beads", [1, 6])
def test_spectrum_of_a_spring_is_at_its_frequency(tmp_path, beads):
    field = Field(30, 20.0)
    settings = PathSettings(300.0, beads, "200 fs", timestep=0.8, thermostat="trpmd", stride=3, fixed_center=False)
    result = run_paths(field, field.atoms(), tmp_path / "run", settings)
    spectrum = infrared(result, 270.0, skip=0.05)
    peak = float(spectrum.wavenumber[spectrum.intensity.argmax()])
    assert peak == pytest.approx(field.wavenumber(MASS), abs=30.0)
    if beads == 1:
        return
    files, notes = write_report({"springs": result}, tmp_path, resolution=340.0)
    # one block, of which no strength of a line can be had, and a fifth of the thermostat's time
    assert any("1 block" in words for words in notes)
    assert any("errors are too small" in words for words in notes)
    assert {"infrared.png", "kinetic.png", "course.png", "properties-springs.csv"} <= {file.name for file in files}
    assert all(file.stat().st_size for file in files)


def test_pressure_moves_the_box_and_is_accounted_for(tmp_path):
    box = argon_box()
    box.set_cell(np.array(box.cell) + np.array([[0, 0, 0], [0.5, 0, 0], [-0.3, 0.4, 0]]), scale_atoms=True)
    settings = PathSettings(60.0, 3, "160 fs", timestep=1.0, pressure=8000.0, stride=4, bead_stride=40, seed=4)
    result = run_paths(LennardJones(cutoff=5.5), box, tmp_path / "run", settings)
    volume, kept = result.properties["volume"], result.properties["conserved"]
    assert result.cells is not None
    np.testing.assert_allclose(np.abs(np.linalg.det(result.cells)), volume, rtol=1e-9)
    work = 8000.0 * 6.241509e-7 * (volume[0] - volume.min())
    # a virial of the wrong sign, or in other units, would not balance the work done on the box
    assert work > 1.0
    assert np.abs(kept - kept[0]).max() < 0.01 * work
    # nothing but pairs of argon: the closest are those of the crystal
    (radial,) = bead_radial(result, tmp_path / "beads.xyz", "Ar-Ar", 0.5)
    assert radial.r[radial.g > 0.0][0] > 2.8


def test_bonds_of_beads_are_spread_wider_than_classical_ones(tmp_path):
    atoms = ase.Atoms("HF", [[0, 0, 0], [0.95, 0, 0]], info={"charge": 0})
    model = Morse(5.8, 2.2, 0.95)
    runs = {}
    for name, beads in (("quantum", 12), ("classical", 1)):
        settings = PathSettings(300.0, beads, "60 fs", timestep=0.4, stride=20, bead_stride=3, friction_time=10.0)
        runs[name] = run_paths(model, atoms, tmp_path / name, settings)
    quantum, classical = (bond_lengths(runs[name])["F-H"] for name in runs)
    # harmonic: σ² = kT/k and ħ/2mω coth(ħω/2kT)
    k, reduced = 2.0 * 5.8 * 2.2**2, 1.008 * 18.998 / 20.006
    omega = np.sqrt(k * 9.648533e-3 / reduced)
    assert quantum.std() == pytest.approx(np.sqrt(0.6582120 / (2 * omega) * 9.648533e-3 / reduced), rel=0.25)
    assert classical.std() < 0.7 * quantum.std()
    with pytest.raises(InputError, match="without charges"):
        infrared(runs["classical"])


def test_forces_that_are_no_numbers_end_the_run_at_once(tmp_path):
    field = Field(2, 20.0)
    field.spoiled_after = 6
    settings = PathSettings(300.0, 2, "50 fs", stride=1)
    with pytest.raises(InputError, match="finite"):
        run_paths(field, field.atoms(), tmp_path / "run", settings, save=0.0)
    assert len(read_paths(tmp_path / "run").time) >= 3


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"beads": 0}, "bead"),
        ({"thermostat": "pille"}, "did you mean 'pile'"),
        ({"time": "soon"}, "time"),
        ({"time": "0.1 fs"}, "shorter"),
        ({"stride": 0}, "stride"),
        ({"time": "2 fs", "timestep": 0.5, "stride": 5}, "fewer than the 5"),
        ({"thermostat": "trpmd", "pressure": 1.0}, "constant volume"),
    ],
)
def test_settings_refused(changed, words):
    with pytest.raises(HeliodorError, match=words):
        PathSettings(**({"temperature": 300.0, "beads": 4, "time": "1 ps"} | changed))


def test_a_molecule_has_no_pressure(tmp_path):
    with pytest.raises(InputError, match="periodic"):
        run_paths(Morse(), dimers(1)[0], tmp_path / "run", PathSettings(300.0, 2, "5 fs", pressure=1.0))
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="holds no path-integral run"):
        read_paths(tmp_path)


def test_a_layer_has_forces_but_no_pressure(tmp_path):
    layer = argon_box()
    cell = np.array(layer.cell)
    cell[0] = 0.0
    layer.set_cell(cell)
    layer.pbc = (False, True, True)
    settings = PathSettings(60.0, 2, "2 fs", timestep=1.0, stride=1, bead_stride=1, centroid=True)
    model = LennardJones(cutoff=5.5)
    result = run_paths(model, layer, tmp_path / "run", settings)
    assert np.isnan(result.properties["pressure"]).all()
    assert np.isnan(result.properties["volume"]).all()
    energies = []
    for positions in result.beads()[-1]:
        layer.positions = positions
        energies.append(float(heliodor.evaluate(model, layer).energy[0]))
    assert result.properties["potential"][-1] == pytest.approx(np.mean(energies), abs=1e-5)
    # without the long vector that i-PI needs
    for path in (write_beads(result, tmp_path / "beads.xyz", 0.0), write_centroids(result, tmp_path / "centroids.xyz")):
        last = ase.io.read(path, -1)
        np.testing.assert_allclose(np.array(last.cell), cell, atol=1e-7)
        assert last.pbc.tolist() == [False, True, True]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("here")
    field = Field(1, 20.0)
    with pytest.raises(InputError, match="cannot be written to"):
        run_paths(field, field.atoms(), tmp_path / "file", PathSettings(300.0, 1, "5 fs"))
