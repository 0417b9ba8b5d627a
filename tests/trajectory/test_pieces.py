"""Molecules stay beside each other on the side where the first frame has them, whatever the cell does to them."""

import ase
import numpy as np
import pytest
from ase.build import molecule

from heliodor.analysis.conformations.deviation import deviation
from heliodor.analysis.conformations.size import size
from heliodor.analysis.proteins.backbone import view_of
from heliodor.trajectory import open_trajectory
from heliodor.trajectory.pieces import pieces_of
from memory_trajectories import in_memory
from trajectories import write_frames

BOX = 20.0


def dimer():
    """Two ethanes 9.9 Å apart in a cell of 20 Å, the second swinging by 0.3 Å along x."""
    one = molecule("C2H6")
    two = one.copy()
    two.positions += [9.9, 0.0, 0.0]
    atoms = one + two
    atoms.set_cell([BOX] * 3)
    atoms.pbc = True
    positions = np.repeat(atoms.positions[None], 40, axis=0)
    positions[:, 8:, 0] += 0.3 * np.sin(np.arange(40) * 0.5)[:, None]
    return atoms, positions


def true_rmsd(positions, heavy):
    """Along one line of two rigid molecules superposition only moves the middle."""
    from ase.build.rotate import rotation_matrix_from_points

    first = positions[0, heavy] - positions[0, heavy].mean(0)
    found = []
    for frame in positions[:, heavy]:
        frame = frame - frame.mean(0)
        turned = frame @ rotation_matrix_from_points(frame.T, first.T).T
        found.append(np.sqrt(((turned - first) ** 2).sum(1).mean()))
    return np.array(found)


@pytest.mark.parametrize("fold", ["own", "whole", "atoms"])
def test_molecules_half_a_cell_apart_do_not_change_sides(tmp_path, fold, rng):
    atoms, positions = dimer()
    expected = true_rmsd(positions, atoms.numbers > 1)
    assert expected.max() == pytest.approx(0.15, abs=0.01)
    if fold == "own":
        trajectory = open_trajectory(write_frames(tmp_path / "run.h5", atoms, positions, precision="double"))
        assert trajectory.continuous
    else:
        moved = positions + np.cumsum(rng.normal(0, 3, (40, 1, 3)), axis=0)
        if fold == "atoms":
            moved -= BOX * np.floor(moved / BOX)
        else:
            moved[:, 8:] -= BOX * np.floor(moved[:, 8:].mean(1, keepdims=True) / BOX)
        trajectory = in_memory(atoms, moved, bonds=open_bonds(atoms))
        assert not trajectory.continuous
    np.testing.assert_allclose(deviation(trajectory).rmsd, expected, atol=1e-6)


def open_bonds(atoms):
    from heliodor.topology import bonds_by_distance

    return bonds_by_distance(atoms)


def test_own_files_are_followed_however_far_molecules_go(tmp_path):
    atoms, positions = dimer()
    positions[:, 8:, 1] += 2.0 * np.arange(40)[:, None]
    trajectory = open_trajectory(write_frames(tmp_path / "run.h5", atoms, positions, precision="double"))
    view = view_of(trajectory, np.arange(16))
    np.testing.assert_allclose(view.whole(trajectory.read(np.arange(40))), positions, atol=1e-9)


@pytest.mark.parametrize("own", [True, False])
def test_a_selection_is_joined_by_what_lies_between(tmp_path, own):
    """Oxygens at the ends of a chain longer than half the cell, wrapped and not."""
    n = 12
    carbons = np.stack([1.25 * np.arange(n), 0.4 * (np.arange(n) % 2), np.zeros(n)], axis=1)
    places = np.concatenate([[[-1.2, 0.3, 0.0], [1.25 * (n - 1) + 1.2, 0.0, 0.3]], carbons, [[5.0, 1.4, 0.0]]])
    atoms = ase.Atoms(["O", "O"] + ["C"] * n + ["O"], places + 3.0, cell=[24.0] * 3, pbc=True)
    expected = np.linalg.norm(places[0] - places[1])
    assert expected > 12.0
    positions = np.repeat(atoms.positions[None], 4, axis=0) + 7.0 * np.arange(4)[:, None, None]
    if own:
        trajectory = open_trajectory(write_frames(tmp_path / "run.h5", atoms, positions, precision="double"))
    else:
        trajectory = in_memory(atoms, positions % 24.0, bonds=open_bonds(atoms))
    np.testing.assert_allclose(size(trajectory, "O").extent, expected, atol=1e-6)


def test_only_the_way_between_is_read():
    atoms = molecule("C6H6")
    hexane = in_memory(atoms, atoms.positions[None])
    pieces = pieces_of(hexane, np.array([6]))
    assert pieces.read.tolist() == [6]
    bonded = {tuple(pair) for pair in hexane.topology.bonds.tolist()}
    pieces = pieces_of(hexane, np.array([6, 7]))
    assert len(pieces.read) == 4
    assert {(0, 6), (1, 7), (0, 1)} <= bonded
    assert pieces.read.tolist() == [0, 1, 6, 7]


def test_open_directions_do_not_fold():
    """Two ethanes 8 Å apart along the open axis of a slab whose file gives that axis 10 Å."""
    atoms = molecule("C2H6")
    other = atoms.copy()
    other.positions[:, 2] += 8.0
    atoms += other
    atoms.set_cell([20.0, 20.0, 10.0])
    atoms.pbc = [True, True, False]
    trajectory = in_memory(atoms, np.stack([atoms.positions] * 3), bonds=open_bonds(atoms))
    middle = atoms.get_center_of_mass()
    masses = atoms.get_masses()
    expected = np.sqrt((masses * ((atoms.positions - middle) ** 2).sum(1)).sum() / masses.sum())
    assert expected == pytest.approx(4.1, abs=0.1)
    np.testing.assert_allclose(size(trajectory).gyration, expected, atol=1e-9)
    np.testing.assert_array_equal(trajectory.read(np.array([0])).cell[0], np.diag([20.0, 20.0, 0.0]))
    # but the structure is handed on with the cell of the file
    assert trajectory.atoms().cell.array[2, 2] == 10.0
