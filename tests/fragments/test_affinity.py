"""Affinity propagation: scikit-learn's answers, clusters that are known, warnings."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from heliodor.errors import InputError
from heliodor.fragments import affinity
from heliodor.fragments.affinity import SelectionWarning, affinity_propagation


@pytest.fixture(params=["numba", "numpy"])
def loops(request, monkeypatch):
    """Both implementations."""
    if request.param == "numpy":
        monkeypatch.setattr(affinity, "_sweeper", lambda: affinity._sweep)
    else:
        pytest.importorskip("numba")
    # several pieces, the last of them short
    monkeypatch.setattr(affinity, "ROWS", 70)


def clouds(seed: int, count: int, centres: int, width: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Similarities of points about some centres, and which centre each is of."""
    rng = np.random.default_rng(seed)
    owner = rng.integers(centres, size=count)
    x = 10.0 * rng.normal(size=(centres, 3))[owner] + width * rng.normal(size=(count, 3))
    return -np.square(x[:, None] - x[None]).sum(-1), owner


CASES = [
    (0, 500, 20, 0.7, -50.0),
    (1, 300, 5, 0.9, -10.0),
    (2, 101, 3, 0.5, -200.0),
    (3, 120, 120, 0.8, -5.0),
    (4, 16, 2, 0.95, -1e4),
]


# in float32 scikit-learn rounds elsewhere, and isolated pairs of case 3 are ties that the last bits decide
PRECISE = [(*case, np.float64) for case in CASES] + [(*CASES[k], np.float32) for k in (0, 1, 2, 4)]


@pytest.mark.parametrize(("seed", "count", "centres", "damping", "preference", "dtype"), PRECISE)
def test_scikit_learn(loops, seed, count, centres, damping, preference, dtype):
    cluster = pytest.importorskip("sklearn.cluster")
    similarity = clouds(seed, count, centres)[0].astype(dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
        warnings.filterwarnings("ignore", category=SelectionWarning)
        expected = cluster.AffinityPropagation(
            affinity="precomputed", preference=preference, damping=damping, max_iter=300, random_state=seed
        ).fit(similarity.copy())
        found = affinity_propagation(similarity, preference, damping=damping, most=300, seed=seed)
    np.testing.assert_array_equal(found.exemplars, expected.cluster_centers_indices_)
    np.testing.assert_array_equal(found.label, expected.labels_)
    assert found.iterations == expected.n_iter_


def test_not_converged_as_scikit_learn(loops):
    """Stopped on the way: the same clusters as they were left, and a warning."""
    cluster = pytest.importorskip("sklearn.cluster")
    similarity = clouds(7, 150, 6)[0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
        expected = cluster.AffinityPropagation(
            affinity="precomputed", preference=-30.0, damping=0.7, max_iter=12, random_state=0
        ).fit(similarity.copy())
    with pytest.warns(SelectionWarning, match="did not converge in 12 iterations"):
        found = affinity_propagation(similarity, -30.0, damping=0.7, most=12)
    assert not found.converged
    np.testing.assert_array_equal(found.label, expected.labels_)


def test_no_clusters_at_all(loops):
    with pytest.warns(SelectionWarning, match="no clusters at all"):
        found = affinity_propagation(clouds(7, 40, 3)[0], -1e9, most=1)
    assert len(found.exemplars) == 0
    assert (found.label == -1).all()


def test_separate_clouds_are_clusters(loops):
    """Eight tight clouds far apart: one cluster each, whose exemplar is the medoid."""
    rng = np.random.default_rng(3)
    corners = 100.0 * np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    owner = rng.permutation(np.repeat(np.arange(8), 25))
    x = corners[owner] + rng.normal(size=(200, 3))
    similarity = -np.square(x[:, None] - x[None]).sum(-1).astype(np.float32)
    plain = similarity.copy()
    found = affinity_propagation(similarity, -300.0)
    assert found.converged
    assert len(found.exemplars) == 8
    for exemplar, label in zip(found.exemplars, range(8), strict=True):
        members = np.flatnonzero(found.label == label)
        assert set(members) == set(np.flatnonzero(owner == owner[exemplar]))
        assert exemplar == members[plain[np.ix_(members, members)].sum(axis=0).argmax()]


def test_threads_and_scratch_change_nothing(tmp_path):
    import torch

    similarity = clouds(5, 700, 30)[0].astype(np.float32)
    one = affinity_propagation(similarity.copy(), -20.0)
    torch.set_num_threads(2)
    try:
        two = affinity_propagation(similarity.copy(), -20.0, scratch=tmp_path)
    finally:
        torch.set_num_threads(1)
    np.testing.assert_array_equal(one.label, two.label)
    assert one.iterations == two.iterations
    assert not list(tmp_path.iterdir())


def test_all_alike():
    """As scikit-learn: everybody, or anybody."""
    same = np.full((5, 5), -4.0)
    np.testing.assert_array_equal(affinity_propagation(same.copy(), -1.0).label, np.arange(5))
    np.testing.assert_array_equal(affinity_propagation(same.copy(), -9.0).label, np.zeros(5))
    assert affinity_propagation(np.zeros((1, 1)), -1.0).exemplars.tolist() == [0]


def test_memory_stays_at_three_matrices():
    """No temporary matrix: what is allocated beside the similarity is two matrices and a few rows."""
    import tracemalloc

    similarity = clouds(5, 3000, 30)[0].astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        affinity_propagation(clouds(5, 50, 3)[0].astype(np.float32), -20.0, most=2)
        tracemalloc.start()
        affinity_propagation(similarity, -20.0, most=2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert affinity.memory_needed(3000) == 3 * similarity.nbytes
    # two more, and pieces of 256 rows in float64 for the noise and of the last answers
    assert peak < 2.0 * similarity.nbytes + 4 * 256 * 3000 * 8


def test_refusals():
    similarity = clouds(0, 10, 2)[0]
    with pytest.raises(InputError, match="square"):
        affinity_propagation(similarity[:4], -1.0)
    with pytest.raises(InputError, match="damping"):
        affinity_propagation(similarity, -1.0, damping=0.3)
    with pytest.raises(InputError, match="finite"):
        affinity_propagation(similarity, float("nan"))
    with pytest.raises(InputError, match="no distance"):
        affinity_propagation(np.where(np.eye(10) == 1, np.nan, similarity), -1.0)
