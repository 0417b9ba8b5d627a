"""Radial distributions of what is known exactly, and beside MDTraj and MDAnalysis."""

from __future__ import annotations

import warnings
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import bulk

from heliodor.analysis.liquids.experiment import water_rdf
from heliodor.analysis.liquids.rdf import first_peak, radial_distributions, read_pairs, usual_pairs
from heliodor.analysis.liquids.rdf_show import show
from heliodor.errors import InputError
from heliodor.trajectory import Trajectory, open_trajectory
from memory_trajectories import in_memory
from support import shared
from trajectories import waters, write_frames


def gas(frames: int = 300, atoms: int = 60, seed: int = 1, edge: float = 20.0) -> Trajectory:
    rng = np.random.default_rng(seed)
    argon = ase.Atoms(f"Ar{atoms}", cell=[edge] * 3, pbc=True)
    return in_memory(argon, rng.uniform(0.0, edge, size=(frames, atoms, 3)))


def shaken(frames: int = 12, seed: int = 2) -> tuple[ase.Atoms, np.ndarray]:
    rng = np.random.default_rng(seed)
    box = waters(3, 3.3)
    moved = np.repeat(rng.normal(scale=0.4, size=(frames, 27, 3)), 3, axis=1)
    return box, box.positions + moved + rng.normal(scale=0.02, size=(frames, len(box), 3))


def test_an_ideal_gas_is_one_everywhere_within_errors() -> None:
    (found,) = radial_distributions(gas(), width=0.25)
    assert found.outer[-1] == pytest.approx(10.0)
    inner = found.r > 1.0
    deviation = (found.g - 1.0)[inner] / found.error[inner]
    # errors from ten blocks: Student's t, whose square is 9/7 on average
    assert 0.7 < np.square(deviation).mean() < 2.0
    weights = found.error[inner] ** -2
    assert found.g[inner] @ weights / weights.sum() == pytest.approx(1.0, abs=4.0 / np.sqrt(weights.sum()))
    # within r: the other 59 atoms' share of the cell
    volume = 4.0 / 3.0 * np.pi * found.outer**3
    assert found.coordination[-1] == pytest.approx(59.0 * volume[-1] / 8000.0, rel=5e-3)


@pytest.mark.parametrize("cubic", [True, False])
def test_the_shells_of_a_crystal_are_exact(cubic: bool) -> None:
    crystal = bulk("Ar", "fcc", a=5.26, cubic=cubic).repeat(3 if cubic else 6)
    (found,) = radial_distributions(in_memory(crystal, crystal.positions[None] + 17.0), width=0.1, reach=7.0)
    for shell, neighbours in ((0.5, 12), (1.0, 18), (1.5, 42)):
        radius = 5.26 * np.sqrt(shell)
        assert found.coordination[np.searchsorted(found.outer, radius + 0.1)] == pytest.approx(neighbours)
        assert found.coordination[np.searchsorted(found.outer, radius - 0.1) - 1] < neighbours
    assert (found.g > 0.0).sum() == 3
    assert np.isnan(found.error).all()


def test_other_programs_find_the_same() -> None:
    mdtraj = pytest.importorskip("mdtraj")
    box, positions = shaken()
    trajectory = in_memory(box, positions)
    found = {item.name: item for item in radial_distributions(trajectory, width=0.1, reach=4.9)}
    top = mdtraj.Topology()
    chain = top.add_chain()
    for k in range(27):
        residue = top.add_residue("HOH", chain)
        for name, symbol in (("O", "O"), ("H1", "H"), ("H2", "H")):
            top.add_atom(name, mdtraj.element.Element.getBySymbol(symbol), residue)
        assert k == residue.index
    other = mdtraj.Trajectory(positions.astype(np.float32) / 10.0, top)
    other.unitcell_vectors = np.tile(np.asarray(box.cell) / 10.0, (len(positions), 1, 1)).astype(np.float32)
    for a, b in (("O", "O"), ("O", "H"), ("H", "H")):
        pairs = top.select_pairs(f"symbol {a}", f"symbol {b}")
        pairs = pairs[pairs[:, 0] // 3 != pairs[:, 1] // 3]
        _, g = mdtraj.compute_rdf(other, pairs, r_range=(0.0, 0.49), bin_width=0.01)
        # single precision may put a distance into the next bin
        np.testing.assert_allclose(found[f"{a}-{b}"].g, g, atol=2e-2)
        assert np.abs(found[f"{a}-{b}"].g - g).mean() < 1e-3


def test_mdanalysis_finds_the_same_between_oxygen_and_hydrogen() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mda = pytest.importorskip("MDAnalysis")
        from MDAnalysis.analysis.rdf import InterRDF

        box, positions = shaken()
        universe = mda.Universe.empty(81, n_residues=27, atom_resindex=np.repeat(np.arange(27), 3), trajectory=True)
        edges = np.tile([*box.cell.lengths(), 90.0, 90.0, 90.0], (len(positions), 1))
        universe.load_new(positions.astype(np.float32), dimensions=edges)
        oxygens, hydrogens = universe.atoms[box.numbers == 8], universe.atoms[box.numbers == 1]
        other = InterRDF(oxygens, hydrogens, nbins=49, range=(0.0, 4.9), exclusion_block=(1, 2), norm="rdf").run()
    found = radial_distributions(in_memory(box, positions), width=0.1, reach=4.9)[1]
    np.testing.assert_allclose(found.g, other.results.rdf, atol=1e-2)
    # MDAnalysis counts pairs; ours are neighbours of one oxygen
    counted = np.cumsum(other.results.count) / len(positions) / 27.0
    np.testing.assert_allclose(found.coordination, counted, atol=1e-2)


def test_images_do_not_matter_and_each_frame_has_its_own_volume() -> None:
    rng = np.random.default_rng(4)
    box, positions = shaken(2)
    edge = box.cell.lengths()[0]
    elsewhere = positions + edge * rng.integers(-4, 5, size=(2, len(box), 3))
    plain = radial_distributions(in_memory(box, positions), reach=4.0)
    moved = radial_distributions(in_memory(box, elsewhere, bonds=in_memory(box, positions).topology.bonds), reach=4.0)
    for one, two in zip(plain, moved, strict=True):
        np.testing.assert_allclose(one.g, two.g, atol=1e-12)
    cells = np.stack([np.eye(3) * edge, np.eye(3) * edge * 1.3])
    positions[1] *= 1.3
    both = radial_distributions(in_memory(box, positions, cells=cells), reach=4.0)[0]
    single = [
        radial_distributions(in_memory(box, positions[k : k + 1], cells=cells[k : k + 1]), reach=4.0)[0] for k in (0, 1)
    ]
    np.testing.assert_allclose(both.g, 0.5 * (single[0].g + single[1].g))
    np.testing.assert_allclose(both.coordination, 0.5 * (single[0].coordination + single[1].coordination))


def test_processes_and_thinning(tmp_path: Path) -> None:
    box, positions = shaken(9)
    trajectory = open_trajectory(write_frames(tmp_path / "a.h5", box, positions, precision="double"))
    told: list[tuple[int, int]] = []
    one = radial_distributions(trajectory, progress=lambda a, b: told.append((a, b)))
    two = radial_distributions(trajectory, processes=2)
    np.testing.assert_allclose(one[0].g, two[0].g)
    np.testing.assert_allclose(one[2].error, two[2].error)
    assert told[-1] == (9, 9)
    few = radial_distributions(trajectory, frames=4)
    every_third = radial_distributions(in_memory(box, positions[::3]))
    assert few[0].frames == 3
    np.testing.assert_allclose(few[1].g, every_third[1].g)


def test_pairs_in_words() -> None:
    topology = in_memory(*shaken(1)).topology
    usual = usual_pairs(topology)
    assert [pair.name for pair in usual] == ["O-O", "O-H", "H-H"]
    read = read_pairs(topology, "O-H; molecule 0-2 : water and O;")
    assert [len(side) for side in (read[0].first, read[0].second, read[1].first, read[1].second)] == [27, 54, 9, 27]
    with pytest.raises(InputError, match="cannot read 'O' as a pair"):
        read_pairs(topology, "O")
    with pytest.raises(InputError, match="no pairs are given"):
        read_pairs(topology, " ; ")
    metal = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    assert [pair.name for pair in usual_pairs(in_memory(metal, metal.positions[None]).topology)] == [
        "Cl-Cl",
        "Cl-Na",
        "Na-Na",
    ]


def test_pairs_that_are_not_there_are_left_out() -> None:
    box, positions = shaken(2)
    with_ion = box + ase.Atoms("Na", [[1.6, 1.6, 1.6]])
    topology = in_memory(with_ion, with_ion.positions[None]).topology
    assert [pair.name for pair in usual_pairs(topology)] == ["O-O", "O-H", "H-H"]
    heavy = box[box.numbers == 8]
    heavy.set_array("residue_name", np.array(["HOH"] * 27))
    oxygens = in_memory(heavy, positions[:, box.numbers == 8])
    (found,) = radial_distributions(oxygens)
    np.testing.assert_allclose(found.g, radial_distributions(in_memory(box, positions))[0].g)
    salt = ase.Atoms("Ar6Na", np.random.default_rng(1).uniform(0, 9, (7, 3)), cell=[9.0] * 3, pbc=True)
    assert [pair.name for pair in usual_pairs(in_memory(salt, salt.positions[None]).topology)] == ["Ar-Ar", "Ar-Na"]
    lone = ase.Atoms("Ar", cell=[9.0] * 3, pbc=True)
    with pytest.raises(InputError, match="no pairs of atoms of different molecules"):
        radial_distributions(in_memory(lone, lone.positions[None]))
    shown = show(in_memory(with_ion, np.tile(with_ion.positions, (2, 1, 1))))
    assert any("does not end at 1" in note for note in shown.notes)


def test_what_has_no_radial_distribution_is_refused() -> None:
    box, positions = shaken(1)
    trajectory = in_memory(box, positions)
    with pytest.raises(InputError, match=r"half the smallest thickness of the cell, 4.95 Å"):
        radial_distributions(trajectory, reach=5.0)
    with pytest.raises(InputError, match="width of a shell"):
        radial_distributions(trajectory, width=0.0)
    open_box = box.copy()
    open_box.pbc = (True, True, False)
    with pytest.raises(InputError, match="not periodic in all directions"):
        radial_distributions(in_memory(open_box, positions))
    with pytest.raises(InputError, match="has no pairs to count between molecules"):
        radial_distributions(trajectory, read_pairs(trajectory.topology, "molecule 0 : molecule 0"))
    positions[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="frame 0 holds positions that are no numbers"):
        radial_distributions(in_memory(box, positions, bonds=trajectory.topology.bonds))


def test_the_measured_functions_are_those_of_the_original() -> None:
    original = np.loadtxt(shared("data/experimental/water/soper2013_rdf.txt"))
    for column, pair in ((1, "O-O"), (3, "O-H"), (5, "H-H")):
        ours = water_rdf(pair)
        np.testing.assert_allclose(ours.g, np.interp(ours.r, original[:, 0], original[:, column]), atol=1e-9)
        np.testing.assert_allclose(ours.error, np.interp(ours.r, original[:, 0], original[:, column + 1]), atol=1e-9)


def test_peaks_of_measured_water() -> None:
    oxygen = first_peak(water_rdf("O-O").r, water_rdf("O-O").g)
    hydrogen = first_peak(water_rdf("O-H").r, water_rdf("O-H").g)
    assert oxygen is not None and hydrogen is not None
    # of Soper (2013), as read from its table: 2.79 Å, 2.50; minimum of the hydrogen bond near 2.4 Å
    assert (oxygen.position, oxygen.height) == pytest.approx((2.79, 2.50), abs=0.02)
    assert (hydrogen.position, hydrogen.minimum) == pytest.approx((1.86, 2.43), abs=0.03)
    assert first_peak(np.arange(1.0, 4.0, 0.1), np.zeros(30)) is None


def test_experiment_is_shown_only_where_it_belongs() -> None:
    box, positions = shaken(3)
    for temperature, compared in (("300", True), ("400", False)):
        settings = {"ensemble": "nvt", "temperature_K": temperature}
        shown = show(in_memory(box, positions, settings=settings))
        references = [curve for panel in shown.panels for curve in panel.curves if curve.reference]
        assert len(references) == (3 if compared else 0)
        assert any("Soper" in note if compared else "Not held against" in note for note in shown.notes)
    whole = show(in_memory(box, positions), intermolecular=False)
    first = whole.tables["rdf_O_H"]
    # its own two hydrogens
    assert first["coordination"][np.searchsorted(first["outer_A"], 1.2)] == pytest.approx(2.0)
    assert {len(column) for column in first.values()} == {len(first["r_A"])}
