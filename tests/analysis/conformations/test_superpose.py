"""RMSD, radius of gyration: against MDTraj, and by what cannot change."""

from __future__ import annotations

import MDAnalysis
import mdtraj
import numpy as np
import pytest

from heliodor.analysis.conformations.deviation import deviation, show_deviation
from heliodor.analysis.conformations.features import dihedral_angles, dihedrals_of, features
from heliodor.analysis.conformations.size import show_size, size
from heliodor.analysis.conformations.solute import find_solute, solute_atoms, unfit
from heliodor.analysis.conformations.superpose import rmsd_matrix, rmsd_of_pairs, superposed
from heliodor.errors import InputError
from heliodor.topology import topology_of
from heliodor.trajectory.foreign import to_mdtraj


def in_mdtraj(positions: np.ndarray, topology) -> mdtraj.Trajectory:
    return mdtraj.Trajectory((positions / 10.0).astype(np.float32), topology)


def test_rmsd_against_mdtraj(butane, rng, scramble):
    positions = scramble(butane.positions + rng.normal(scale=0.3, size=(12, len(butane), 3)), rng)
    top = to_mdtraj(topology_of(butane))
    made = in_mdtraj(positions, top)
    expected = np.array([10.0 * mdtraj.rmsd(made, made, k) for k in range(12)])
    np.testing.assert_allclose(rmsd_matrix(positions, positions), expected, atol=3e-3)
    np.testing.assert_allclose(rmsd_of_pairs(positions, positions[:1]), expected[0], atol=3e-3)
    # and by superposing in full
    fitted = superposed(positions, positions[3])
    target = positions[3] - positions[3].mean(0)
    direct = np.sqrt(np.square(fitted - target).sum(2).mean(1))
    np.testing.assert_allclose(rmsd_matrix(positions, positions)[:, 3], direct, atol=1e-7)


def test_mirror_images_are_not_superposed(rng):
    chiral = rng.normal(size=(1, 8, 3))
    mirrored = chiral * np.array([1.0, 1.0, -1.0])
    distance = rmsd_of_pairs(chiral, mirrored)[0]
    assert distance > 0.1
    direct = np.square(superposed(mirrored, chiral[0]) - (chiral[0] - chiral[0].mean(0))).sum(2).mean()
    assert distance == pytest.approx(np.sqrt(direct), abs=1e-8)


def test_size_against_mdtraj(butane, rng, scramble, record):
    positions = scramble(butane.positions + rng.normal(scale=0.05, size=(15, len(butane), 3)), rng)
    run = record(butane, positions)
    found = size(run, ends=(0, 1))
    made = in_mdtraj(positions, to_mdtraj(run.topology))
    # MDTraj's radius of gyration is about the geometric centre, MDAnalysis' about that of mass
    universe = MDAnalysis.Universe.empty(len(butane), trajectory=True)
    universe.add_TopologyAttr("masses", run.masses)
    universe.load_new(positions)
    expected = np.array([universe.atoms.radius_of_gyration() for _ in universe.trajectory])
    np.testing.assert_allclose(found.gyration, expected, rtol=1e-5)
    pairs = [(i, j) for i in range(len(butane)) for j in range(i)]
    distances = 10.0 * mdtraj.compute_distances(made, pairs, periodic=False)
    np.testing.assert_allclose(found.extent, distances.max(1), rtol=1e-5)
    np.testing.assert_allclose(found.ends, distances[:, pairs.index((1, 0))], rtol=1e-5)
    shown = show_size(run, ends="0,1")
    assert [n.unit for n in shown.numbers] == ["Å"] * 3
    assert shown.numbers[0].value == pytest.approx(expected.mean(), rel=1e-5)


def test_a_molecule_across_the_faces_of_the_cell_is_one(butane, rng, record, scramble):
    whole = butane.positions + rng.normal(scale=0.03, size=(12, len(butane), 3))
    boxed = butane.copy()
    boxed.set_cell([[11.0, 0.0, 0.0], [2.0, 12.0, 0.0], [-1.0, 1.5, 10.0]])
    boxed.pbc = True
    inverse = np.linalg.inv(boxed.cell.array)
    wrapped = ((whole + rng.normal(scale=5.0, size=(12, 1, 3))) @ inverse % 1.0) @ boxed.cell.array
    free, cut = record(butane, whole), record(boxed, wrapped, name="wrapped")
    np.testing.assert_allclose(size(cut).gyration, size(free).gyration, atol=1e-6)
    np.testing.assert_allclose(deviation(cut).rmsd, deviation(free).rmsd, atol=1e-6)
    np.testing.assert_allclose(deviation(cut, reference=butane).rmsd, deviation(free, reference=butane).rmsd, atol=1e-6)
    assert deviation(free, reference=butane).rmsd[0] > 0.01


def test_reference_files(butane, record, tmp_path):
    run = record(butane, butane.positions + np.zeros((3, 1, 1)))
    path = tmp_path / "reference.xyz"
    butane.write(path)
    assert show_deviation(run, reference=str(path)).numbers[1].value == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(InputError, match="there is no file"):
        show_deviation(run, reference="missing.xyz")
    with pytest.raises(InputError, match="must hold the 14 atoms"):
        deviation(run, reference=butane[:5])


def test_dihedrals_against_mdtraj(butane, rng):
    positions = butane.positions + rng.normal(scale=0.2, size=(9, len(butane), 3))
    topology = topology_of(butane)
    quads = dihedrals_of(topology)
    expected = mdtraj.compute_dihedrals(in_mdtraj(positions, to_mdtraj(topology)), quads, periodic=False)
    np.testing.assert_allclose(dihedral_angles(positions, quads), expected, atol=1e-4)
    assert {tuple(sorted(q[1:3])) for q in quads.tolist()} == {tuple(b) for b in topology.bonds.tolist() if b[1] < 4}


@pytest.mark.parametrize("kind", ["distances", "dihedrals", "coordinates"])
def test_features_know_no_place_or_direction(kind, butane, rng, record, scramble):
    positions = butane.positions + rng.normal(scale=0.1, size=(6, len(butane), 3))
    solute = find_solute(record(butane, positions))
    heavy = positions[:, solute.shape]
    np.testing.assert_allclose(
        features(heavy, solute, kind, heavy[0]), features(scramble(heavy, rng), solute, kind, heavy[0]), atol=1e-9
    )


def test_solutes(butane, record):
    from ase.build import molecule

    water = molecule("H2O")
    box = butane.copy()
    for k in range(6):
        moved = water.copy()
        moved.positions += (6.0 + 4.0 * k, 0.0, 0.0)
        box += moved
    assert solute_atoms(topology_of(box)).tolist() == list(range(14))
    assert solute_atoms(topology_of(water)).tolist() == [0, 1, 2]
    liquid = butane.copy()
    for k in range(6):
        moved = butane.copy()
        moved.positions += (10.0 * (k + 1), 0.0, 0.0)
        liquid += moved
    run = record(liquid, liquid.positions[None], name="liquid")
    assert "no solute" in unfit(run)
    with pytest.raises(InputError, match="no solute"):
        size(run)
    assert len(size(run, "molecule 0").gyration) == 1
    with pytest.raises(InputError, match="a shape needs three"):
        size(run, "0-1")


def test_a_chain_without_end_has_no_shape(record):
    import ase

    zigzag = ase.Atoms("C4", [[0, 0, 0], [1.25, 0.8, 0], [2.5, 0, 0], [3.75, 0.8, 0]], cell=[5.0, 15, 15], pbc=True)
    with pytest.raises(InputError, match="has no end"):
        size(record(zigzag, zigzag.positions[None]))
