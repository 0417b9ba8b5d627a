"""RMSD(t, t+Δt): a molecule of harmonic oscillators, for which it is known."""

from __future__ import annotations

import ase
import numpy as np
import pytest

import heliodor.analysis.conformations.wandering as module
from heliodor.analysis.conformations.wandering import show_wandering, wandering
from heliodor.errors import InputError

N, SIGMA, TAU = 30, 0.05, 8.0


@pytest.fixture
def oscillators(rng, record, scramble):
    """Ornstein-Uhlenbeck processes around fixed places, correlation time 8 frames, turned at random."""
    places = np.stack(np.meshgrid(range(3), range(2), range(5), indexing="ij"), -1).reshape(-1, 3) * 1.5
    frames = 1500
    noise = rng.normal(size=(frames, N, 3))
    path = np.empty_like(noise)
    keep = np.exp(-1.0 / TAU)
    path[0] = noise[0]
    for k in range(1, frames):
        path[k] = keep * path[k - 1] + np.sqrt(1.0 - keep**2) * noise[k]
    positions = scramble(places + SIGMA * path, rng)
    return record(ase.Atoms(f"C{N}", places), positions, 5.0)


def expected(lag_frames: np.ndarray) -> np.ndarray:
    """<|x(t) - x(0)|²> of 3N oscillators, six of whose directions the superposition takes away."""
    return np.sqrt(2.0 * SIGMA**2 * (1.0 - np.exp(-lag_frames / TAU)) * (3 * N - 6) / N)


def test_oscillators_reach_their_plateau(oscillators):
    found = wandering(oscillators, lags=15)
    np.testing.assert_allclose(found.mean, expected(found.lag / 5.0), rtol=0.02)
    np.testing.assert_allclose(found.median, expected(found.lag / 5.0), rtol=0.02)
    assert (found.low < found.median).all()
    assert (found.median < found.high).all()
    assert found.lag[0] == 5.0
    assert found.lag[-1] == 750 * 5.0
    assert found.origins.max() <= 500
    # quartiles of a chi distribution with 3N-6 degrees of freedom, at long times
    from scipy.stats import chi

    quartiles = chi.ppf([0.25, 0.75], 3 * N - 6) * np.sqrt(2.0 * SIGMA**2 / N)
    np.testing.assert_allclose([found.low[-1], found.high[-1]], quartiles, rtol=0.02)


def test_reading_pairs_gives_the_same(oscillators, monkeypatch):
    kept = wandering(oscillators, lags=5, origins=40)
    monkeypatch.setattr(module, "KEPT", 48 * N * 7)
    read = wandering(oscillators, lags=5, origins=40)
    np.testing.assert_array_equal(kept.mean, read.mean)
    np.testing.assert_array_equal(kept.high, read.high)


def test_shown_and_refused(oscillators, record, butane):
    shown = show_wandering(oscillators, lags=6, origins=50)
    assert shown.panels[0].x.log
    assert shown.panels[0].x.unit == "ps"
    assert len({len(column) for column in shown.tables["wandering"].values()}) == 1
    with pytest.raises(InputError, match="needs four"):
        wandering(record(butane, butane.positions + np.zeros((3, 1, 1))))
    with pytest.raises(InputError, match="must be positive"):
        wandering(oscillators, lags=0)
