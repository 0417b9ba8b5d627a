"""Conformal calibration against exact results for known distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, spearmanr

from heliodor.errors import InputError
from heliodor.train.conformal import conformal_scale, coverage_of, groups_of, rank_correlation


def alone(k: int) -> np.ndarray:
    return np.arange(k)


@pytest.mark.parametrize(("k", "level"), [(9, 0.9), (19, 0.9), (30, 0.8), (50, 0.9)])
def test_the_coverage_of_few_values_is_the_order_statistics(k, level, rng):
    """The m-th of K numbers from any distribution covers the next one with probability m/(K + 1), whatever it is."""
    expected = np.ceil(level * (k + 1) - 1e-9) / (k + 1)
    scales = [conformal_scale(rng.lognormal(size=k), alone(k), alone(k), level) for _ in range(700)]
    from scipy.stats import lognorm

    covered = lognorm.cdf(scales, 1.0)
    assert covered.mean() == pytest.approx(expected, abs=4.0 * covered.std() / np.sqrt(len(covered)))


def test_three_components_of_normal_errors(rng):
    """|ΔF| of normal errors with known widths is χ of three degrees of freedom: its 90 % quantile is 2.50 widths."""
    n = 40_000
    widths = rng.lognormal(sigma=0.7, size=n)
    errors = widths * np.linalg.norm(rng.normal(size=(n, 3)), axis=1)
    structure = np.arange(n) // 10
    scale = conformal_scale(errors / widths, structure, structure, 0.9)
    assert scale == pytest.approx(np.sqrt(chi2.ppf(0.9, 3)), rel=0.01)


def families(rng, groups: int, structures: int, atoms: int):
    """Scores whose size is common to a group: what its members know of a new group is little."""
    group = np.repeat(np.arange(groups), structures * atoms)
    structure = np.repeat(np.arange(groups * structures), atoms)
    scores = np.repeat(rng.lognormal(sigma=1.0, size=groups), structures * atoms) * rng.uniform(0.8, 1.2, len(group))
    return scores, structure, group


def test_atoms_of_new_groups_are_covered_and_by_atoms_alone_they_would_not_be(rng):
    """14 molecules of 10 frames of 12 atoms: 1680 atoms are 14 observations and not 1680."""
    level, found, naive = 0.9, [], []
    for _ in range(400):
        scores, structure, group = families(rng, 15, 10, 12)
        new = group == 14
        by = [conformal_scale(scores[~new], structure[~new], g[~new], level) for g in (group, np.arange(len(group)))]
        found.append((scores[new] <= by[0]).mean())
        naive.append((scores[new] <= by[1]).mean() if by[1] < by[0] else found[-1])
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) > level - 3.0 * error
    assert np.mean(found) < level + 1.0 / 15 + 3.0 * error
    assert np.mean(naive) < np.mean(found)


def test_structures_count_the_same_whatever_their_size():
    structure = np.repeat(np.arange(100), np.where(np.arange(100) < 50, 1, 1000))
    scores = np.where(structure < 50, 2.0, 1.0)
    assert conformal_scale(scores, structure, structure, 0.9) == 2.0
    assert conformal_scale(scores, structure, structure, 0.4) == 1.0


def test_too_few_groups_are_refused():
    k = np.arange(8)
    with pytest.raises(InputError, match="at least 9 independent groups"):
        conformal_scale(np.ones(8), k, k, 0.9)
    with pytest.raises(InputError, match=r"as many as 1\.0 of equal size"):
        conformal_scale(np.ones(400), np.arange(400), np.zeros(400, dtype=np.int64), 0.9)
    with pytest.raises(InputError, match="between 0 and 1"):
        conformal_scale(np.ones(8), k, k, 90.0)


def test_coverage_is_counted_by_hand():
    structure = np.array([0, 0, 1, 1, 1, 2])
    kind = np.array(["a", "a", "b", "b", "b", "b"])
    found = coverage_of(
        np.array([1.0, 3.0, 1.0, 1.0, 9.0, 1.0]),
        np.array([2.0, 2.0, 2.0, 2.0, 2.0, 4.0]),
        structure,
        structure,
        kind,
        0.9,
    )
    assert (found.all.structures, found.all.atoms) == (3, 6)
    assert found.all.by_atoms == pytest.approx(4 / 6)
    assert found.all.by_structures == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert found.row("b").by_structures == pytest.approx((2 / 3 + 1) / 2)
    assert found.all.half_width == pytest.approx((2 + 2 + 4) / 3)
    shares = np.array([1 / 2, 2 / 3, 1])
    assert found.all.error == pytest.approx(shares.std(ddof=1) / np.sqrt(3))
    assert "covered %" in found.table() and found.to_dict()["kinds"]["a"]["atoms"] == 2


def test_ranks_as_scipy_has_them(rng):
    x, y = rng.integers(0, 9, 200).astype(float), rng.normal(size=200)
    assert rank_correlation(x, x + y) == pytest.approx(spearmanr(x, x + y)[0], abs=1e-12)
    assert np.isnan(rank_correlation(np.ones(5), y[:5]))


def test_structures_without_a_group_are_their_own():
    found = groups_of(np.array(["a", "", "a", "", "b"]))
    assert found[0] == found[2] and len(set(found.tolist())) == 4
