"""Selection: thinning, farthest points, vectors, presets, groups, coverage; against brute force and known answers."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.transform import Rotation

from heliodor.errors import InputError
from heliodor.fragments import select as module
from heliodor.fragments.affinity import SelectionWarning
from heliodor.fragments.aligned import shapes, squared_distances
from heliodor.fragments.coverage import plot_coverage, preference_scan, rolling_mean
from heliodor.fragments.farthest import add_farthest, nearest
from heliodor.fragments.select import criteria, select_conformations, select_structures
from heliodor.fragments.thinning import thin
from heliodor.fragments.vectors import Vectors, vectors


def folded(rng: np.random.Generator, each: int, kinds: int = 4, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """A chain of ten carbons in some conformations far from each other, shaken, turned; and which is which."""
    ideal = np.cumsum(rng.normal(scale=1.5, size=(kinds, 10, 3)), axis=1)
    kind = rng.permutation(np.repeat(np.arange(kinds), each))
    x = ideal[kind] + rng.normal(scale=noise, size=(len(kind), 10, 3))
    turned = Rotation.random(len(kind), random_state=3).as_matrix()
    return np.einsum("fij,fnj->fni", turned, x) + rng.normal(scale=30.0, size=(len(kind), 1, 3)), kind


CARBONS = np.full(10, 6)


class TestThinning:
    def test_one_partition_is_exact(self, rng):
        points = Vectors(rng.uniform(size=(300, 2)))
        stay, counts = thin(points, 0.01, random=np.random.default_rng(1))
        assert counts == (len(stay),)
        left = points.take(stay).squared(points.take(stay)) + np.eye(len(stay))
        assert left.min() >= 0.01
        # each that was taken out is near one that stays
        assert points.squared(points.take(stay)).min(axis=1).max() < 0.01

    def test_rounds_find_duplicates_that_had_not_met(self, rng):
        """Twins that lie in different partitions at first."""
        twins = np.repeat(rng.normal(scale=50.0, size=(200, 3)), 2, axis=0) + rng.normal(scale=0.01, size=(400, 3))
        stay, counts = thin(Vectors(twins), 1.0, rounds=30, partition=80, random=np.random.default_rng(0))
        assert counts[0] > 300
        assert list(counts) == sorted(counts, reverse=True)
        assert len(stay) == 200
        assert set(stay // 2) == set(range(200))
        # rounds after all fits one partition are left out
        assert len(counts) < 30 or counts[-1] > 80

    def test_seed(self, rng):
        points = Vectors(rng.uniform(size=(300, 2)))
        one, two, other = (thin(points, 0.01, random=np.random.default_rng(k))[0] for k in (1, 1, 2))
        np.testing.assert_array_equal(one, two)
        assert not np.array_equal(one, other)

    def test_refusals(self, rng):
        points = Vectors(rng.uniform(size=(9, 2)))
        for threshold, rounds, partition in ((0.0, 4, 9), (1.0, 0, 9), (1.0, 4, 1)):
            with pytest.raises(InputError):
                thin(points, threshold, rounds=rounds, partition=partition, random=rng)


class TestFarthest:
    def test_brute_force(self, rng):
        x = rng.normal(size=(90, 7, 3))
        points = shapes(x)
        full = squared_distances(points)
        chosen = [5, 17]
        for _ in range(12):
            chosen.append(int(full[:, chosen].min(axis=1).argmax()))
        found = add_farthest(points, nearest(points, np.array([5, 17])), 12)
        assert found.chosen.tolist() == chosen
        np.testing.assert_allclose(found.squared, full[:, chosen].min(axis=1), atol=1e-5)
        np.testing.assert_array_equal(found.place, full[:, chosen].argmin(axis=1))

    def test_ends_of_a_line(self):
        points = Vectors(np.linspace(0.0, 1.0, 101)[:, None])
        found = add_farthest(points, nearest(points, np.array([50])), 4)
        assert sorted(found.chosen[1:].tolist()) == [0, 25, 75, 100]

    def test_never_the_same_twice(self):
        points = Vectors(np.array([[0.0], [0.0], [1.0], [1.0]]))
        assert len(add_farthest(points, nearest(points, np.array([0])), 3).chosen) == 2


class TestVectors:
    def test_invariant_and_size_independent(self):
        atoms = molecule("CH3CH2OH")
        turned = atoms.copy()
        turned.rotate(77, (1, 2, 3))
        turned.translate((5.0, 6.0, 7.0))
        shuffled = atoms[[3, 0, 8, 1, 2, 7, 4, 5, 6]]
        # two of them far apart are one of them, as seen from an atom
        twice = atoms + atoms
        twice.positions[9:] += 50.0
        found = vectors([atoms, turned, shuffled, twice, molecule("CH3OCH3")])
        distance = np.sqrt(found.squared(found)[0])
        assert distance[:4].max() < 1e-3
        assert distance[4] > 0.1

    def test_of_a_model(self):
        heliodor = pytest.importorskip("heliodor")
        potential = heliodor.load("heliodor-mini", device="cpu", dtype="float64")
        atoms = molecule("CH3OH")
        turned = atoms.copy()
        turned.rotate(50, (1, 0, 2))
        found = vectors([atoms, turned, molecule("H2O")], potential)
        distance = found.squared(found)
        assert distance[0, 1] < 1e-6 * distance[0, 2]

    def test_periodic(self):
        atoms = ase.Atoms("Ar2", [[0.5, 5, 5], [9.5, 5, 5]], cell=[10.0, 10, 10], pbc=True)
        near = ase.Atoms("Ar2", [[0.0, 0, 0], [1.0, 0, 0]])
        found = vectors([atoms, near])
        assert found.squared(found)[0, 1] < 1e-6

    def test_euclidean(self, rng):
        x = rng.normal(size=(20, 5)) + 100.0
        expected = np.square(x[:, None] - x[None]).sum(-1)
        np.testing.assert_allclose(Vectors(x).squared(Vectors(x)), expected, atol=1e-4)


class TestConformations:
    def test_one_of_each(self, rng):
        x, kind = folded(rng, 30)
        how = criteria("s4", stride=1, thin=None, preference=-20.0, farthest=0)
        found = select_conformations(x, CARBONS, how)
        assert found.converged
        assert sorted(kind[found.index]) == [0, 1, 2, 3]
        np.testing.assert_array_equal(kind[found.index[found.place]], kind)
        assert found.size.tolist() == [30] * 4
        # noise of 0.05 Å in each of two structures, less what superposition takes away
        assert found.distance.max() < 0.05 * np.sqrt(6) * 1.6
        assert found.distance[found.index].max() == 0.0

    def test_stages_of_s4(self, rng):
        x, _ = folded(rng, 40, kinds=6, noise=0.4)
        how = criteria("s4", thin=1.0, preference=-40.0, farthest=5)
        found = select_conformations(x, CARBONS, how, seed=4)
        again = select_conformations(x, CARBONS, how, seed=4)
        np.testing.assert_array_equal(found.index, again.index)
        assert (found.looked == np.arange(0, 240, 2)).all()
        assert set(found.index) <= set(found.looked)
        assert found.counts["looked at"] == 120 >= found.counts["after thinning"] >= found.counts["clusters"]
        assert (found.origin == "farthest").sum() == 5
        assert len(found) == found.counts["clusters"] + 5
        assert found.size.sum() == 120
        # what is written is what SciPy finds between each and the nearest of all representatives
        full = shapes(x).squared(shapes(x[found.index]))[found.looked]
        np.testing.assert_allclose(found.squared, full.min(axis=1), atol=1e-4)

    def test_presets_say_what_the_paper_says(self):
        s3, s4 = criteria("S3"), criteria("s4")
        assert (s3.atoms, s3.centre, s3.preference, s3.thin, s3.stride) == ("all", "mass", -5000.0, None, 1)
        assert (s4.atoms, s4.centre, s4.preference, s4.thin) == ("heavy", "mean", -1500.0, 9.0)
        assert (s4.stride, s4.rounds, s4.farthest) == (2, 4, 1000)

    def test_hydrogens_are_not_compared(self, rng):
        x = np.repeat(rng.normal(size=(1, 6, 3)), 20, axis=0)
        x[:, 3:] += rng.normal(size=(20, 3, 3))
        numbers = np.array([6, 7, 8, 1, 1, 1])
        assert len(select_conformations(x, numbers, criteria("s4", stride=1))) == 1
        assert len(select_conformations(x, numbers, criteria("s3", preference=-0.1))) > 5

    def test_count(self, rng):
        x, kind = folded(rng, 10)
        found = select_conformations(x, CARBONS, criteria("s4", stride=1, thin=None, count=4, farthest=0))
        assert sorted(kind[found.index]) == [0, 1, 2, 3]

    def test_files_change_nothing(self, rng, tmp_path):
        x, _ = folded(rng, 20)
        how = criteria("s4", stride=1, thin=None, preference=-20.0, farthest=2)
        found = select_conformations(x, CARBONS, how)
        kept = select_conformations(x, CARBONS, how, distances=tmp_path / "d.npy", scratch=tmp_path)
        np.testing.assert_array_equal(found.index, kept.index)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["d.json", "d.npy"]

    def test_not_converged_is_said(self, rng):
        x, _ = folded(rng, 20)
        how = criteria("s4", stride=1, thin=None, preference=-20.0, farthest=0, patience=500, iterations=60)
        with pytest.warns(SelectionWarning, match="did not converge"):
            found = select_conformations(x, CARBONS, how)
        assert not found.converged

    def test_refusals(self, rng, monkeypatch):
        x, _ = folded(rng, 5)
        with pytest.raises(InputError, match="no structures"):
            select_conformations(x[:0], CARBONS, criteria("s4"))
        with pytest.raises(InputError, match="did you mean 'groups'"):
            criteria("group")
        for change in ({"preference": 5.0}, {"stride": 0}, {"atoms": "backbone"}, {"kind": "all"}, {"damping": 0.2}):
            with pytest.raises(InputError):
                criteria("s4", **change)
        monkeypatch.setattr(module, "memory_available", lambda: 1000)
        with pytest.raises(InputError, match=r"are free: thin more.*scratch"):
            select_conformations(x, CARBONS, criteria("s3"))


class TestSets:
    def test_groups(self, rng):
        """Two conformations of each of three molecules, shaken: each is kept, whatever the molecule's size."""
        structures = []
        for name in ("CH3CH2OH", "CH3CONH2", "HCOOH"):
            flat = molecule(name)
            bent = flat.copy()
            bent.positions[np.flatnonzero(bent.numbers > 1)[0]] += (1.5, 1.0, 2.0)
            for k in range(16):
                atoms = (flat if k % 2 else bent).copy()
                atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
                structures.append(atoms)
        structures.append(molecule("H2O"))
        found = select_structures(structures, criteria("groups"))
        assert sorted((index // 16, index % 2) for index in found.index) == [
            (0, 0),
            (0, 1),
            (1, 0),
            (1, 1),
            (2, 0),
            (2, 1),
            (3, 0),
        ]
        assert found.origin[-1] == "alone"
        assert found.counts["groups"] == 4
        assert found.group[0] == structures[0].get_chemical_formula()
        assert found.distance.max() < 0.1

    def test_charge_and_group_part(self):
        water = molecule("H2O")
        other = water.copy()
        other.info["group"] = "O"
        ion = water.copy()
        ion.info["charge"] = 1
        assert len(select_structures([water, water.copy(), other, ion], criteria("groups"))) == 3

    def test_mixed(self, rng):
        structures = []
        for name in ("CH3CH2OH", "C6H6", "NH3", "CH3SH", "CH4"):
            for _ in range(12):
                atoms = molecule(name)
                atoms.rattle(0.02, seed=int(rng.integers(1 << 30)))
                structures.append(atoms)
        found = select_structures(structures, criteria("mixed", preference=-0.5))
        assert sorted(found.index // 12) == [0, 1, 2, 3, 4]
        found = select_structures(structures, criteria("mixed", count=5))
        assert sorted(found.index // 12) == [0, 1, 2, 3, 4]

    def test_conformations_of_different_molecules_are_refused(self):
        with pytest.raises(InputError, match="structure 1 has other atoms"):
            select_structures([molecule("H2O"), molecule("NH3")], criteria("s4"))


class TestCoverage:
    def test_rolling_mean(self):
        x = np.arange(10.0) ** 2
        expected = [x[k : k + 4].mean() for k in range(7)]
        np.testing.assert_allclose(rolling_mean(x, 4), expected)
        assert rolling_mean(x, 50).tolist() == [x.mean()]
        with pytest.raises(InputError):
            rolling_mean(x, 0)

    def test_scan_and_picture(self, rng, tmp_path):
        x, _ = folded(rng, 12)
        counts = preference_scan(shapes(x), [-1e-3, -20.0, -1e5])
        assert counts[0] > 15
        assert counts[1] == 4
        assert counts[2] < 4
        how = criteria("s4", stride=1, thin=None, preference=-20.0, farthest=3)
        found = select_conformations(x, CARBONS, how)
        plot_coverage(found, tmp_path / "c.png", title="test", scan=([-1e-3, -20.0, -1e5], counts.tolist()))
        assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"
