"""Runs that are killed and go on, their files, reweighted averages, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
from ase.constraints import FixAtoms
from metad_toys import Nothing, Springs, pairs, zigzag

from heliodor.analysis.proteins.couplings import karplus
from heliodor.dynamics.files.trajectory import read_trajectory
from heliodor.errors import InputError, MissingExtraError, SimulationError
from heliodor.metadynamics import (
    Result,
    Settings,
    distance,
    metadynamics,
    peptide_torsion,
    phi_psi,
    read_result,
    reweighted_average,
    reweighted_couplings,
    torsion,
    weighted_average,
)
from heliodor.metadynamics.basins import basins
from heliodor.metadynamics.walker import Walker
from heliodor.trajectory import open_trajectory

pytest.importorskip("openmm")

SHORT = Settings(time=600.0, timestep=2.0, stride=20.0, height=0.02, save_every=40.0, checkpoint_every=100.0, seed=5)
TWO = (distance((0, 3), 1.0, 6.0, width=0.8), distance((0, 2), 1.0, 5.0, width=0.8))


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second each; those of other tests are drawn."""
    monkeypatch.setattr("heliodor.metadynamics.result.draw", lambda samples, surface, basins, path: path.touch())


class Killed(Exception):
    pass


def go(folder: Path, settings: Settings = SHORT, **more: Any) -> Result:
    return metadynamics(Springs(), zigzag(4), TWO, settings, output=folder / "metad.h5", **more)


def same_files(one: Path, other: Path) -> bool:
    hills = [(folder / "metad.hills.csv").read_bytes() for folder in (one, other)]
    frames = [read_trajectory(folder / "metad.h5") for folder in (one, other)]
    steps = [[frame.info["step"] for frame in part] for part in frames]
    positions = [np.array([frame.positions for frame in part]) for part in frames]
    return hills[0] == hills[1] and steps[0] == steps[1] and np.array_equal(*positions)


def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, killed, longer = (tmp_path / name for name in ("whole", "killed", "longer"))
    for folder in (whole, killed, longer):
        folder.mkdir()
    result = go(whole)
    assert result.ended == "finished" and len(result.samples) == 30

    def die(done: int, total: int, words: str) -> None:
        assert total == 30 and "Å" in words
        if done == 17:
            raise Killed

    with pytest.raises(Killed):
        go(killed, progress=die)
    # after the 17th Gaussian; the last restart file is of the 15th
    assert len((killed / "metad.hills.csv").read_text().splitlines()) == 18
    # also twice: the first leaves a record
    for _ in range(2):
        assert read_result(killed / "metad.h5").ended == "interrupted"
    assert go(killed, restart=True).ended == "finished"
    assert same_files(whole, killed)
    # asked to stop, then made longer
    asked = iter([False] * 12 + [True])
    first = go(longer, Settings(**{**SHORT.to_dict(), "time": 400.0}), stop=lambda: next(asked))
    assert first.ended == "interrupted" and len(first.samples) == 12
    go(longer, restart=True)
    assert same_files(whole, longer)


def test_restart_without_openmms_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter([False] * 12 + [True])
    first = go(tmp_path, stop=lambda: next(asked))
    monkeypatch.setattr(Walker, "load", lambda self, checkpoint: False)
    with pytest.warns(UserWarning, match="new random numbers"):
        second = go(tmp_path, restart=True)
    assert len(second.samples) == 30
    assert second.samples.steps[-1] == 300
    np.testing.assert_array_equal(first.samples.values, second.samples.values[:12])
    assert np.abs(np.diff(second.samples.values, axis=0)).max() < 1.0


def test_a_bias_is_not_mixed_with_other_settings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no restart file"):
        go(tmp_path, restart=True)
    go(tmp_path)
    with pytest.raises(InputError, match="exists already: go on"):
        go(tmp_path)
    for name, value in (("height", 0.01), ("temperature", 310.0), ("timestep", 1.0), ("save_every", 80.0), ("seed", 1)):
        other = Settings(**{**SHORT.to_dict(), name: value})
        with pytest.raises(InputError, match=f"of a run with another {name.replace('_', ' ')}"):
            go(tmp_path, other, restart=True)
    files = {"output": tmp_path / "metad.h5", "restart": True}
    with pytest.raises(InputError, match="another variables"):
        metadynamics(Springs(), zigzag(4), TWO[:1], SHORT, **files)
    with pytest.raises(InputError, match="another model"):
        metadynamics(Nothing(), zigzag(4), TWO, SHORT, **files)
    with pytest.raises(InputError, match="another atoms"):
        metadynamics(Springs(), ase.Atoms("C3N", zigzag(4).positions), TWO, SHORT, **files)
    boxed, heavy = (zigzag(4) for _ in range(2))
    boxed.set_cell([30.0, 30.0, 30.0])
    boxed.pbc = True
    heavy.set_masses([12.0, 12.0, 12.0, 13.0])
    for atoms, told in ((boxed, "another cell"), (heavy, "another masses")):
        with pytest.raises(InputError, match=told):
            metadynamics(Springs(), atoms, TWO, SHORT, **files)
    (tmp_path / "metad.restart").write_bytes(b"PK not one")
    with pytest.raises(InputError, match="damaged"):
        go(tmp_path, restart=True)


def test_a_finished_run_is_read_again(tmp_path: Path) -> None:
    result = go(tmp_path)
    for path in result.files.to_list():
        assert path.is_file(), path
    again = read_result(tmp_path / "metad.h5", skip=0.0)
    assert again.ended == "finished"
    np.testing.assert_array_equal(again.samples.bias, result.samples.bias)
    trajectory = open_trajectory(tmp_path / "metad.h5")
    assert len(trajectory) == 15
    assert trajectory.temperature == 300.0
    # of 3N degrees of freedom, in a chain that was at rest in no way
    frames = read_trajectory(tmp_path / "metad.h5")
    assert 50.0 < np.mean([frame.get_temperature() for frame in frames]) < 900.0
    now = Springs().energy
    import torch

    assert frames[3].get_potential_energy() == pytest.approx(float(now(torch.as_tensor(frames[3].positions))), abs=1e-5)
    distances = [frame.get_distance(0, 3) for frame in frames]
    assert distances == pytest.approx(result.samples.values[1::2, 0].tolist(), abs=1e-5)
    # an average over frames with the weights of their samples
    mean, error = reweighted_average(again, np.array(distances), skip=0.0, blocks=3)
    weight = np.exp(again.samples.log_weights(skip=0.0))[1::2]
    assert mean == pytest.approx((weight * distances).sum() / weight.sum(), rel=1e-5)
    assert error > 0.0
    with pytest.raises(InputError, match="not one for each of the 15 frames"):
        reweighted_average(again, np.zeros(7))
    with pytest.raises(InputError, match="do not make 10 blocks"):
        reweighted_average(again, np.array(distances))
    _, unknown = reweighted_average(again, np.array(distances), skip=0.0, blocks=3, method="final-bias")
    assert np.isnan(unknown)
    # what others read of it says that there is a bias
    assert any("under a bias" in note for note in trajectory.notes)
    with pytest.raises(InputError, match="two blocks"):
        read_result(tmp_path / "metad.h5", blocks=1)
    with pytest.raises(InputError, match="no way of reweighting 'umbrella'"):
        read_result(tmp_path / "metad.h5", method="umbrella")


def test_couplings_are_karplus_relations_with_weights(tmp_path: Path, dipeptide: ase.Atoms) -> None:
    settings = Settings(time=40.0, timestep=0.05, stride=0.5, height=0.05, save_every=0.5, temperature=30.0)
    variables = phi_psi(dipeptide, 1, width=60.0)
    assert [v.name for v in variables] == ["ALA 1 φ", "ALA 1 ψ"]
    result = metadynamics(Nothing(), dipeptide, variables, settings, output=tmp_path / "metad.h5")
    found = reweighted_couplings(result, "hu-bax")
    assert {residue for residue, _ in found} == {"ALA 1"}
    frames = read_trajectory(tmp_path / "metad.h5")
    phi = np.array([frame.get_dihedral(*variables[0].atoms) for frame in frames])
    p = karplus()["sets"]["hu-bax"]["couplings"]["hn_ha"]
    x = np.cos(np.radians(phi + p["delta"]))
    weight = np.exp(result.samples.log_weights())
    assert np.ptp(weight[16:] / weight.max()) > 0.1
    expected = (weight * (p["A"] * x**2 + p["B"] * x + p["C"])).sum() / weight.sum()
    assert found["ALA 1", "hn_ha"][0] == pytest.approx(expected, abs=2e-3)


@pytest.fixture
def dipeptide() -> ase.Atoms:
    """Ace-Ala-Nme with the names of a PDB file."""
    atoms = ase.io.read(Path(__file__).parents[1] / "data" / "metadynamics" / "ace-ala-nme.xyz")
    assert isinstance(atoms, ase.Atoms)
    return atoms


def test_torsions_of_peptides_by_name(dipeptide: ase.Atoms) -> None:
    phi = peptide_torsion(dipeptide, "phi1", width=15.0)
    names = [str(dipeptide.arrays["atom_name"][k]) for k in phi.atoms]
    assert names == ["C", "N", "CA", "C"] and phi.width == 15.0
    psi = peptide_torsion(dipeptide, "PSI:1")
    assert [str(dipeptide.arrays["atom_name"][k]) for k in psi.atoms] == ["N", "CA", "C", "N"]
    for words, told in (("phi7", "the peptide has"), ("theta1", "cannot read"), ("chi1", "cannot read")):
        with pytest.raises(InputError, match=told):
            peptide_torsion(dipeptide, words)
    with pytest.raises(InputError, match="no peptide could be recognised"):
        peptide_torsion(zigzag(5), "phi1")


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ([], "no collective variables"),
        ([torsion((0, 1, 2, 3))] * 3, "3 collective variables"),
        ([torsion((0, 1, 2, 3)), distance((0, 2), 1.0, 5.0)], "cannot be biased together"),
        ([torsion((0, 1, 2, 3)), torsion((3, 2, 1, 0))], "given twice"),
        ([torsion((0, 1, 2, 9))], "names atom 9, which is not there"),
        ([torsion((-1, 1, 2, 3))], "names atom -1"),
        ([torsion((4, 5, 6, 7))], "lie in a line"),
        ([distance((0, 2), 4.0, 8.0)], "outside its walls"),
    ],
)
def test_variables_that_cannot_be(variables: list[Any], told: str, tmp_path: Path) -> None:
    atoms = zigzag(4) + ase.Atoms("C4", [[9, 0, 0], [10.5, 0, 0], [12, 0, 0], [13, 1, 0]])
    with pytest.raises(InputError, match=told):
        metadynamics(Nothing(), atoms, variables, SHORT, output=tmp_path / "metad.h5")
    assert not list(tmp_path.iterdir())


def test_walls_boxes_and_grids_that_cannot_be(tmp_path: Path) -> None:
    def told(atoms: ase.Atoms, variables: list[Any], words: str, settings: Settings = SHORT) -> None:
        with pytest.raises(InputError, match=words):
            metadynamics(Nothing(), atoms, variables, settings, output=tmp_path / "metad.h5")
        assert not list(tmp_path.iterdir())

    atoms, far = pairs(), distance((0, 1), 1.0, 5.0)
    # 0.3 Å to the end of the grid: 10 kT at 300 K need 5.7 eV/Å²
    told(atoms, [far], "make them 6 or stiffer", Settings(**{**SHORT.to_dict(), "wall": 5.7}))
    atoms.set_cell([[20.0, 0.0, 0.0], [8.0, 10.6, 0.0], [0.0, 0.0, 12.0]])
    atoms.pbc = True
    # the faces along b are 10.6 Å apart, though b is 13.3 Å long
    metadynamics(Nothing(), atoms, [far], SHORT, output=tmp_path / "there.h5")
    for path in tmp_path.iterdir():
        path.unlink()
    atoms.set_cell([[20.0, 0.0, 0.0], [8.0, 10.5, 0.0], [0.0, 0.0, 12.0]])
    told(atoms, [far], r"over half the box \(5.25 Å\)")
    narrow = [torsion((0, 1, 2, 3), width=3.0), torsion((1, 2, 3, 4), width=3.0)]
    told(zigzag(5), narrow, "360,000 points")
    fixed = zigzag(5)
    fixed.set_constraint(FixAtoms([0]))
    told(fixed, narrow[:1], "held fixed")


def test_random_numbers_are_its_own() -> None:
    """Noise is not made of the velocities' numbers, and the generator of everyone is as it was."""
    atoms = ase.Atoms("Ne300", np.random.default_rng(0).uniform(0.0, 300.0, (300, 3)))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    settings = Settings(timestep=1.0, stride=1.0, friction=1e6)
    walker = Walker(Nothing(), atoms, [distance((0, 1), 1.0, 400.0, width=5.0)], settings)
    first = walker.motion()[1].ravel()
    walker.step(1)
    # friction so high that only noise is left
    second = walker.motion()[1].ravel()
    for shift in range(-3, 4):
        assert abs(np.corrcoef(first, np.roll(second, shift))[0, 1]) < 0.2
    assert second.std() == pytest.approx(first.std(), rel=0.2)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_the_surface_is_blank_where_nothing_was(tmp_path: Path) -> None:
    result = metadynamics(Springs(), zigzag(4), TWO[:1], SHORT, output=tmp_path / "metad.xyz")
    found = read_result(tmp_path / "metad.xyz", skip=0.0).surface
    assert found is not None
    values = result.samples.values[:, 0]
    apart = np.abs(found.centers[0][:, None] - values).min(1)
    assert apart.max() > 2.0
    assert np.isnan(found.from_bias[apart > 1.0]).all() and np.isfinite(found.from_bias[apart < 0.6]).all()
    assert (np.isfinite(found.from_bias) >= np.isfinite(found.reweighted)).all()
    # extended xyz has no place for a word on the bias, but the record has
    assert any("under a bias" in note for note in open_trajectory(tmp_path / "metad.xyz").notes)


def test_numbers_that_cannot_be() -> None:
    for values, told in (
        ({"bias_factor": 1.0}, "bias factor must be above 1"),
        ({"height": 0.0}, "height must be"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"friction": 0.0}, "friction must be"),
        ({"stride": 0.1}, "shorter than a timestep"),
        ({"time": "-1 ps"}, "as a time above zero"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(InputError, match=told):
            Settings(**values)
    for make, told in (
        (lambda: torsion((0, 1, 2, 2)), "4 different atoms"),
        (lambda: torsion((0, 1, 2, 3), width=90.0), "at most 60°"),
        (lambda: distance((0, 1, 2), 1.0, 2.0), "2 different atoms"),
        (lambda: distance((0, 1), 3.0, 2.0), "leave room"),
        (lambda: distance((0, 1), 2.0, 2.1), "leave room"),
    ):
        with pytest.raises(InputError, match=told):
            make()


def test_openmm_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openmm", None)
    with pytest.raises(MissingExtraError, match=r"heliodor\[openmm\]"):
        go(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unstable_run_is_one_clear_error_and_keeps_its_restart_file(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match=r"became unstable after step .* shorter timestep") as caught:
        metadynamics(Springs(130), zigzag(4), TWO, SHORT, output=tmp_path / "metad.h5")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "metad.restart").is_file()
    assert 5 <= len(read_result(tmp_path / "metad.h5").samples) < 14


def test_slabs_and_boxes(tmp_path: Path) -> None:
    atoms = pairs()
    atoms.set_cell([10.0, 10.0, 10.0])
    atoms.pbc = (True, True, False)
    with pytest.raises(InputError, match="no slabs"):
        Walker(Nothing(), atoms, TWO, SHORT)
    atoms.pbc = True
    atoms.positions[1, 0] = 9.0
    near = distance((0, 1), 0.5, 3.0)
    assert Walker(Nothing(), atoms, [near], SHORT).values() == pytest.approx([1.0])
    atoms.set_cell([[0.0, 10.0, 0.0], [10.0, 0.0, 0.0], [0.0, 0.0, -10.0]])
    with pytest.raises(InputError, match="does not take this cell"):
        Walker(Nothing(), atoms, [near], SHORT)


def test_weights_and_errors_of_averages() -> None:
    """Against independent samples, whose error is known, and weights known by construction."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=20000)
    _, error = weighted_average(np.zeros(20000), x, 50)
    assert error == pytest.approx(1.0 / np.sqrt(20000), rel=0.3)
    # exp(a x) moves a normal distribution by a
    moved, error = weighted_average(0.5 * x, x, 50)
    assert abs(moved - 0.5) < 4.0 * error < 0.1
    # what does not count, does not
    part, _ = weighted_average(np.where(x > 0, 0.0, -np.inf), np.stack([x, x**2], -1))
    assert part == pytest.approx([x[x > 0].mean(), (x[x > 0] ** 2).mean()])


def test_basins_of_a_drawn_surface() -> None:
    x = np.arange(0.0, 360.0, 6.0)
    a, b = np.meshgrid(np.radians(x), np.radians(x), indexing="ij")
    # wells at (0, 90) and (180, 90): the first, deeper one lies across the edge of the grid
    surface = -np.cos(2 * a) - np.cos(b - np.pi / 2) - 0.3 * np.cos(a) + 0.001 * np.sin(9 * a + 7 * b)
    labels, minima = basins(surface, True, 0.2)
    assert x[minima].tolist() == pytest.approx(np.array([[0, 90], [180, 90]]), abs=7) or x[minima][0, 0] > 350
    assert labels[0, 15] == labels[-1, 15] == 0
    assert labels[30, 15] == 1
    assert np.count_nonzero(labels == 1) == pytest.approx(0.5 * labels.size, rel=0.08)
    assert len(basins(surface, True, 5.0)[1]) == 1
    line, lowest = basins(np.array([1.0, 0.0, 2.0, 0.5, 3.0, 2.9, 4.0]), False, 0.3)
    assert line.tolist() == [0, 0, 0, 1, 1, 1, 1] and lowest[:, 0].tolist() == [1, 3]
