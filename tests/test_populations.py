"""Errors of populations of states, against two-state processes whose populations are known."""

from __future__ import annotations

import numpy as np
import pytest

from heliodor.analysis.proteins.series import longest_memory, memory_of, share_of
from heliodor.analysis.statistics import population
from heliodor.errors import InputError


def two_state(share: float, memory: float, length: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """[count, length] stationary chains of 0 and 1 with C(t) = (1 - 2/(memory + 1))^t: g = memory."""
    change = 1.0 - (memory - 1.0) / (memory + 1.0)
    chance = rng.random((count, length))
    state = np.empty((count, length))
    state[:, 0] = chance[:, 0] < share
    for k in range(1, length):
        inside = state[:, k - 1] == 1.0
        state[:, k] = np.where(inside, chance[:, k] >= (1.0 - share) * change, chance[:, k] < share * change)
    return state


@pytest.mark.parametrize(
    ("share", "memory", "length"),
    [(0.5, 1.0, 500), (0.5, 20.0, 1000), (0.1, 10.0, 500), (0.02, 10.0, 1000), (0.01, 20.0, 1000), (0.003, 1.0, 500)],
)
def test_the_truth_lies_within_two_errors(share, memory, length, rng):
    chains = two_state(share, memory, length, 200, rng)
    found = np.array([population(chain, memory) for chain in chains])
    assert (found[:, 1] > 0.0).all()
    assert (np.abs(found[:, 0] - share) < 2.0 * found[:, 1]).mean() > 0.91
    # and not by being huge
    exact = np.sqrt(share * (1.0 - share) * memory / length)
    floor = 1.42 * memory / length
    assert np.median(found[:, 1]) < 2.0 * max(exact, floor)


def test_states_seen_once_never_and_always():
    never, always = np.zeros(400), np.ones(400)
    # no visit in 400 samples: more than 3/400 has a probability below 5 %
    assert 2.0 * population(never)[1] == pytest.approx(3.0 / 400, rel=0.1)
    assert population(never, 40.0)[1] == pytest.approx(np.sqrt(2 / 14 * 12 / 14 / 10))
    assert population(always, 40.0) == (1.0, pytest.approx(population(never, 40.0)[1]))
    # a single change of state says nothing about the balance
    once = np.repeat([0.0, 1.0], 200)
    assert population(once)[0] == 0.5 and population(once)[1] == pytest.approx(0.5, rel=0.01)
    assert population(np.array([0, 1, 1])) == (pytest.approx(2.0 / 3.0), None)
    with pytest.raises(InputError, match="0 and 1"):
        population(np.linspace(0.0, 1.0, 30))


def test_populations_of_many_residues(rng):
    chains = two_state(0.2, 10.0, 1000, 20, rng).T == 1.0
    mean, error, words, each = share_of(chains, [10.0] * 20)
    assert mean == pytest.approx(0.2, abs=3.0 * error) and words == "" and len(each) == 20
    assert error == pytest.approx(np.sqrt(0.16 / 100 / 20), rel=0.4)
    mean, error, words, _ = share_of(np.zeros((1000, 20), dtype=bool), [10.0] * 20)
    assert mean == 0.0 and error > 0.0 and words == ", never seen"
    assert longest_memory(list(chains.T)) == pytest.approx(10.0, rel=0.6)


def test_angles_remember_across_the_cut(rng):
    """An angle about 180° is not two states."""
    noise = rng.normal(scale=8.0, size=2000)
    folded = (180.0 + noise + 180.0) % 360.0 - 180.0
    assert memory_of(folded) == pytest.approx(1.0, abs=0.3)
    assert memory_of(np.repeat(rng.uniform(-180.0, 180.0, 100), 50)) == pytest.approx(50.0, rel=0.3)
