"""Molecules cut by the cell are put together, and paths across its faces continued, exactly as they were."""

import ase
import numpy as np
import pytest

from heliodor.topology import topology_of
from heliodor.trajectory import open_trajectory
from heliodor.trajectory.images import Follower, made_whole, minimum_image, tree_of
from trajectories import waters, write_frames

CELLS = {
    "cubic": np.diag([6.4, 6.4, 6.4]),
    "triclinic": np.array([[6.4, 0, 0], [2.0, 6.2, 0], [-1.5, 1.1, 6.3]]),
}


def wrapped(positions, cell):
    fractional = positions @ np.linalg.inv(cell)
    return (fractional - np.floor(fractional)) @ cell


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_molecules_are_put_together(cell, rng):
    atoms = waters()
    atoms.set_cell(cell)
    cells = cell[None] * (1.0 + 0.02 * np.arange(4))[:, None, None]
    true = atoms.positions + rng.uniform(-30, 30, (4, 1, 3)) + rng.normal(0, 0.03, (4, len(atoms), 3))
    cut = wrapped(true, cells)
    assert np.linalg.norm(cut[:, ::3] - cut[:, 1::3], axis=2).max() > 4.0, "no molecule was cut"
    whole = made_whole(cut, cells, tree_of(topology_of(atoms)))
    # the shape of each molecule is what it was, and its first atom where it lay
    np.testing.assert_allclose(whole[:, ::3], cut[:, ::3], atol=1e-12)
    for h in (1, 2):
        np.testing.assert_allclose(whole[:, h::3] - whole[:, ::3], true[:, h::3] - true[:, ::3], atol=1e-9)
    np.testing.assert_allclose(made_whole(whole, cells, tree_of(topology_of(atoms))), whole, atol=1e-9)


@pytest.mark.parametrize("size", [1, 3, 50])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_paths_are_continued(cell, size, rng):
    path = np.cumsum(rng.normal(0, 0.6, (50, 5, 3)), axis=0)
    cells = np.broadcast_to(cell, (50, 3, 3))
    cut = wrapped(path, cells)
    follower = Follower()
    found = np.concatenate([follower.follow(cut[k : k + size], cells[k : k + size]) for k in range(0, 50, size)])
    np.testing.assert_allclose(found - found[0], path - path[0], atol=1e-9)
    # what never was cut comes back as it is
    follower = Follower()
    np.testing.assert_allclose(follower.follow(path, cells), path, atol=1e-9)


def test_shortest_vectors_agree_with_ase(rng):
    from ase.geometry import find_mic

    cell = CELLS["triclinic"]
    vectors = rng.uniform(-10, 10, (1, 200, 3))
    mine = minimum_image(vectors, cell[None])[0]
    theirs, lengths = find_mic(vectors[0], cell)
    half = 0.5 / np.linalg.norm(np.linalg.inv(cell), axis=0).max()
    near = lengths < half
    assert near.sum() > 20
    np.testing.assert_allclose(mine[near], theirs[near], atol=1e-9)


def test_open_directions_are_not_folded():
    cell = np.diag([5.0, 5.0, 0.0])[None]
    vectors = np.array([[[4.0, -4.0, 40.0]]])
    np.testing.assert_allclose(minimum_image(vectors, cell), [[[-1.0, 1.0, 40.0]]])
    np.testing.assert_array_equal(minimum_image(vectors, None), vectors)


def test_bonds_across_faces_and_rings(tmp_path):
    from ase.build import molecule

    ring = molecule("C6H6")
    ring.set_cell(np.diag([9.0, 9.0, 9.0]))
    ring.pbc = True
    moved = ring.copy()
    moved.positions += 4.3
    moved.wrap()
    topology = topology_of(moved)
    assert len(topology.bonds) == 12
    assert set(topology.molecules.tolist()) == {0}
    whole = made_whole(moved.positions[None], moved.cell.array[None], tree_of(topology))[0]
    a, b = np.triu_indices(12, 1)
    distance = lambda x: np.linalg.norm(x[a] - x[b], axis=1)  # noqa: E731
    np.testing.assert_allclose(distance(whole), distance(ring.positions), atol=1e-9)
    trajectory = open_trajectory(write_frames(tmp_path / "r.h5", moved, moved.positions[None]))
    assert isinstance(trajectory.atoms(), ase.Atoms)
