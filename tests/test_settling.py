"""Whether a run has settled: false alarms and drifts found, counted over series whose truth is known."""

import numpy as np
import pytest

from heliodor.analysis.settling import settled
from heliodor.analysis.statistics import correlated_mean
from heliodor.errors import InputError
from test_statistics import autoregressive


def judged(series):
    return [settled(0.1 * np.arange(len(x)), x, "density", "g/cm³") for x in series]


def drift_error(phi, length):
    """Of the least-squares drift over a stationary series of unit variance: √(12 g/T)."""
    return np.sqrt(12.0 * (1.0 + phi) / (1.0 - phi) / length)


CASES = [(0.0, 200), (0.9, 400), (0.98, 2000)]


@pytest.mark.parametrize(("phi", "length"), CASES)
def test_fewer_than_one_stationary_series_in_twenty_is_called_drifting(phi, length, rng):
    found = judged(autoregressive(phi, length, 200, rng))
    assert np.mean(["drifting" in s.words for s in found]) < 0.05
    assert np.mean([s.settled for s in found]) > 0.85
    assert np.mean([s.drift_error for s in found]) == pytest.approx(drift_error(phi, length), rel=0.15)


@pytest.mark.parametrize(("phi", "length"), CASES)
def test_a_drift_of_six_standard_errors_is_found_in_nine_of_ten(phi, length, rng):
    size = 6.0 * drift_error(phi, length)
    found = judged(autoregressive(phi, length, 100, rng) + np.linspace(0.0, size, length))
    assert np.mean([not s.settled for s in found]) > 0.87
    caught = [s for s in found if "drifting" in s.words]
    assert np.mean([s.drift for s in caught]) == pytest.approx(size, rel=0.1)


def test_a_relaxation_at_the_beginning_is_set_aside(rng):
    series = autoregressive(0.8, 1000, 60, rng) + 15.0 * np.exp(-np.arange(1000) / 40.0)
    found = judged(series)
    good = [s for s in found if s.settled]
    assert len(good) > 0.85 * len(found)
    assert all(5.0 < s.start < 51.0 for s in good)
    assert np.mean([s.mean for s in good]) == pytest.approx(0.0, abs=0.1)
    assert any("no drift within error after the first" in s.words for s in good)


def test_a_relaxation_that_goes_on_to_the_end_has_not_settled(rng):
    series = autoregressive(0.5, 500, 40, rng) + 15.0 * np.exp(-np.arange(500) / 300.0)
    assert not any(s.settled for s in judged(series))


def test_the_words_are_one_plain_sentence(rng):
    time = np.linspace(0.0, 50.0, 501)
    noise = 0.006 * autoregressive(0.8, 501, 1, rng)[0]
    still = settled(time, 0.997 + noise, "density", "g/cm³")
    assert still.settled
    assert still.words == (
        f"density {still.mean:.4f} ± {still.error:.4f} g/cm³ ({still.effective:.0f} independent samples), "
        "no drift within error"
    )
    moving = settled(time, 0.9 + 0.003 * time + noise, "density", "g/cm³")
    assert moving.words == (
        f"density is still drifting: +{moving.drift:.3f} ± {moving.drift_error:.3f} g/cm³ over 50 ps; run longer"
    )
    assert moving.drift == pytest.approx(0.15, abs=0.01)
    slow = settled(time, np.sin(time / 8.0), "energy", "")
    assert not slow.settled


def test_too_few_independent_samples_are_no_verdict(rng):
    found = [s for s in judged(autoregressive(0.98, 300, 100, rng)) if "drifting" not in s.words]
    assert np.mean([s.settled for s in found]) < 0.3
    few = next(s for s in found if not s.settled)
    assert "too few to tell a drift; run longer" in few.words


def test_units_and_origin_of_time_do_not_matter(rng):
    time, x = 0.1 * np.arange(400), autoregressive(0.7, 400, 1, rng)[0]
    a, b = settled(time, x, "q", "u"), settled(time + 1000.0, 1000.0 * x - 5e4, "q", "u")
    assert (a.settled, a.start) == (b.settled, pytest.approx(b.start))
    assert b.drift == pytest.approx(1000.0 * a.drift)
    assert b.error == pytest.approx(1000.0 * a.error)
    assert b.mean == pytest.approx(1000.0 * a.mean - 5e4)


def test_series_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="two series of one length"):
        settled(np.arange(20.0), np.zeros(21), "density", "g/cm³")
    with pytest.raises(InputError, match="ascending"):
        settled(np.zeros(20), np.arange(20.0), "density", "g/cm³")
    with pytest.raises(InputError, match="too few"):
        settled(np.arange(5.0), np.zeros(5), "density", "g/cm³")


def test_slow_wandering_beneath_a_fast_oscillation_is_seen():
    rng = np.random.default_rng(11)
    found, errors = [], []
    n, slow = 4000, 40.0
    keep = np.exp(-1.0 / slow)
    for _ in range(100):
        wander = np.zeros(n)
        wander[0] = rng.normal()
        kicks = rng.normal(size=n) * np.sqrt(1.0 - keep**2)
        for k in range(1, n):
            wander[k] = keep * wander[k - 1] + kicks[k]
        x = wander + 3.0 * np.sin(2.0 * np.pi * (np.arange(n) / 12.0 + rng.uniform()))
        judged = settled(np.arange(n) * 0.01, x, "dipole", "D")
        found.append(judged.settled)
        mean = correlated_mean(x)
        errors.append(mean.mean / mean.error)
    # with the autocorrelation's first zero alone 35 of 100 are called unsettled, and z spreads by 2.5
    assert np.mean(found) > 0.9
    assert np.std(errors) < 1.35
