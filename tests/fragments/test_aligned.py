"""Aligned distances: superposition by SciPy and MDTraj, invariances, chirality, the file that is gone on with."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from heliodor.errors import InputError
from heliodor.fragments import aligned, distance_file
from heliodor.fragments.aligned import Shapes, shapes, squared_distances
from heliodor.fragments.distance_file import distance_matrix


@pytest.fixture(params=["numba", "numpy"])
def loops(request, monkeypatch):
    """Both implementations."""
    if request.param == "numpy":
        monkeypatch.setattr(aligned, "_filler", lambda: aligned._distances)
    else:
        pytest.importorskip("numba")


def walk(rng: np.random.Generator, count: int, n: int = 12) -> np.ndarray:
    """Conformations that drift apart, far from the origin."""
    start = rng.normal(scale=4.0, size=(n, 3))
    return start + 50.0 + np.cumsum(rng.normal(scale=0.3, size=(count, n, 3)), axis=0)


def kabsch(x: np.ndarray, y: np.ndarray, masses: np.ndarray | None = None) -> float:
    """One pair, by SciPy's Wahba solver, of coordinates about the centre."""
    x, y = (z - np.average(z, axis=0, weights=masses) for z in (x, y))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal rotation is not uniquely")
        turned = Rotation.align_vectors(x, y)[0].apply(y)
    return float(np.square(x - turned).sum())


def test_scipy(loops, rng):
    x = walk(rng, 20)
    found = shapes(x).squared(shapes(x[:7]))
    assert found.dtype == np.float32
    expected = np.array([[kabsch(a, b) for b in x[:7]] for a in x])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)


def test_centre_of_mass(loops, rng):
    x = walk(rng, 8)
    masses = rng.uniform(1.0, 32.0, 12)
    expected = np.array([[kabsch(a, b, masses) for b in x] for a in x])
    about_mass = squared_distances(shapes(x, masses))
    np.testing.assert_allclose(about_mass, expected, rtol=1e-6, atol=1e-5)
    # no other centre gives a smaller sum than the mean position
    off = ~np.eye(8, dtype=bool)
    assert (about_mass > squared_distances(shapes(x)))[off].all()


def test_mdtraj(rng):
    md = pytest.importorskip("mdtraj")
    x = walk(rng, 30, n=20) - 50.0
    topology = md.Topology()
    residue = topology.add_residue("ALA", topology.add_chain())
    for _ in range(20):
        topology.add_atom("C", md.element.carbon, residue)
    run = md.Trajectory(x / 10.0, topology)
    # precision is mdtraj's: single
    expected = np.array([md.rmsd(run, run, k) * 10.0 for k in range(30)])
    found = np.sqrt(squared_distances(shapes(x)) / 20)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_invariant_to_place_and_turn(loops, rng):
    x = walk(rng, 10)
    turned = Rotation.random(10, random_state=5)
    moved = np.array([turned[k].apply(x[k]) for k in range(10)]) + rng.normal(scale=1e4, size=(10, 1, 3))
    np.testing.assert_allclose(squared_distances(shapes(moved)), squared_distances(shapes(x)), atol=1e-5)
    own = np.diag(shapes(x).squared(shapes(moved)))
    assert own.max() < 1e-5


def test_mirror_images_differ(loops, rng):
    """No reflection: a chiral cloud is away from its mirror image by what SciPy's proper rotation leaves."""
    x = rng.normal(size=(6, 3))
    mirror = x * (1.0, 1.0, -1.0)
    found = shapes(x[None]).squared(shapes(mirror[None]))[0, 0]
    assert found == pytest.approx(kabsch(x, mirror), rel=1e-5)
    assert found > 0.5
    flat = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [3, 1, 0]])
    assert shapes(flat[None]).squared(shapes(flat[None] * (1.0, -1.0, 1.0)))[0, 0] < 1e-5


def test_few_atoms_and_atoms_in_a_line(loops):
    one = shapes(np.array([[[1.0, 2, 3]], [[4.0, 5, 6]]]))
    assert squared_distances(one).max() == 0.0
    # two bonds of 1.0 and 1.3 Å: each atom is off by 0.15 Å
    two = shapes(np.array([[[0.0, 0, 0], [1, 0, 0]], [[0.0, 0, 0], [0, 0, 1.3]]]))
    assert two.squared(two)[0, 1] == pytest.approx(2 * 0.15**2, rel=1e-4)
    line = np.array([[-1.2, 0, 0], [0, 0, 0], [1.2, 0, 0]])
    both = shapes(np.array([line, line[:, [1, 0, 2]] * (1.0, 1.25, 1.0)]))
    assert both.squared(both)[0, 1] == pytest.approx(2 * 0.3**2, rel=1e-4)


def test_all_pairs_once_are_all_pairs(rng, monkeypatch):
    monkeypatch.setattr(aligned, "TILE", 7)
    points = shapes(walk(rng, 33))
    found = squared_distances(points)
    np.testing.assert_allclose(found, points.squared(points), atol=1e-5)
    np.testing.assert_array_equal(found, found.T)
    assert (np.diag(found) == 0.0).all()


def test_refusals(rng):
    x = walk(rng, 3)
    with pytest.raises(InputError, match="structure 1 has a coordinate"):
        shapes(np.where(np.arange(3)[:, None, None] == 1, np.nan, x))
    with pytest.raises(InputError, match="12 and of 4 atoms"):
        shapes(x).squared(shapes(x[:, :4]))
    with pytest.raises(InputError, match="masses"):
        shapes(x, np.zeros(12))
    with pytest.raises(InputError, match="without atoms"):
        shapes(np.zeros((3, 0, 3)))


class TestFile:
    """Distances in a file."""

    @pytest.fixture(autouse=True)
    def small_tiles(self, monkeypatch):
        for module in (aligned, distance_file):
            monkeypatch.setattr(module, "TILE", 10)
        monkeypatch.setattr(distance_file, "SEVERAL", 2)

    def test_goes_on_where_it_was_killed(self, rng, tmp_path):
        points = shapes(walk(rng, 95))
        file = tmp_path / "d.npy"

        def killed(what: str, done: int, total: int) -> None:
            if done >= 50:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            distance_matrix(points, file, killed)
        assert json.loads(file.with_suffix(".json").read_text())["rows_done"] == 40
        seen = []
        found = distance_matrix(points, file, lambda what, done, total: seen.append(done))
        assert seen == [40, 50, 60, 70, 80, 90, 95]
        np.testing.assert_array_equal(found, squared_distances(points))
        assert not found.flags.writeable
        # all done: nothing more is computed
        seen.clear()
        distance_matrix(points, file, lambda what, done, total: seen.append(done))
        assert seen == [95]

    def test_other_structures_are_not_mistaken(self, rng, tmp_path):
        file = tmp_path / "d.npy"
        x = walk(rng, 30)
        distance_matrix(shapes(x), file)
        x[3, 0, 0] += 0.1
        np.testing.assert_array_equal(distance_matrix(shapes(x), file), squared_distances(shapes(x)))

    def test_damaged_file_is_made_anew(self, rng, tmp_path):
        points = shapes(walk(rng, 30))
        file = tmp_path / "d.npy"
        distance_matrix(points, file)
        file.write_bytes(file.read_bytes()[:500])
        np.testing.assert_array_equal(distance_matrix(points, file), squared_distances(points))

    def test_refusals(self, rng, tmp_path, monkeypatch):
        points: Shapes = shapes(walk(rng, 5))
        foreign = tmp_path / "mine.npy"
        np.save(foreign, np.zeros(3))
        with pytest.raises(InputError, match="no file of distances"):
            distance_matrix(points, foreign)
        assert np.load(foreign).shape == (3,)
        with pytest.raises(InputError, match=r"\.npy"):
            distance_matrix(points, tmp_path / "d.h5")

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(distance_file.os, "posix_fallocate", full)
        with pytest.raises(InputError, match="no room"):
            distance_matrix(points, tmp_path / "d.npy")
        assert not list(tmp_path.glob("*d.npy*"))
