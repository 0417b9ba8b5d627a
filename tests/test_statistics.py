"""Statistics of correlated series against series whose correlation is known on paper."""

import numpy as np
import pytest

from heliodor.analysis.statistics import (
    autocorrelation,
    block_average,
    correlated_mean,
    correlation_time,
    equilibrated,
    inefficiency,
)
from heliodor.errors import InputError


def autoregressive(phi: float, length: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """[count, length] stationary series x' = φ x + noise of unit variance: C(t) = φ^t, g = (1 + φ)/(1 - φ)."""
    noise = rng.normal(size=(count, length))
    series = np.empty_like(noise)
    series[:, 0] = noise[:, 0]
    scale = np.sqrt(1.0 - phi**2)
    for k in range(1, length):
        series[:, k] = phi * series[:, k - 1] + scale * noise[:, k]
    return series


def test_autocorrelation_is_its_definition(rng):
    x = rng.normal(3.0, 2.0, 57).cumsum()
    d = x - x.mean()
    plain = [(d[: 57 - t] * d[t:]).mean() / (d * d).mean() for t in range(57)]
    np.testing.assert_allclose(autocorrelation(x), plain, atol=1e-12)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, 0.98])
def test_inefficiency_of_autoregressive_series(phi, rng):
    exact = (1.0 + phi) / (1.0 - phi)
    found = [inefficiency(x) for x in autoregressive(phi, int(500 * exact), 30, rng)]
    # sums that end at the first zero come out a little large: by 6 % here
    assert np.mean(found) == pytest.approx(exact, rel=0.12)
    assert correlation_time(autoregressive(phi, int(2000 * exact), 1, rng)[0]) == pytest.approx(
        (exact - 1.0) / 2.0, rel=0.2, abs=0.1
    )


def test_alternating_series_are_never_better_than_independent_ones(rng):
    assert inefficiency(autoregressive(-0.8, 2000, 1, rng)[0]) == 1.0


@pytest.mark.parametrize(("phi", "length", "low"), [(0.0, 200, 0.92), (0.9, 400, 0.85), (0.9, 4000, 0.92)])
def test_error_bars_cover_the_truth_as_often_as_they_say(phi, length, low, rng):
    means = [correlated_mean(x) for x in autoregressive(phi, length, 400, rng)]
    covered = np.mean([abs(m.mean) < 2.0 * m.error for m in means])
    assert low < covered < 0.985
    exact = np.sqrt((1.0 + phi) / (1.0 - phi) / length)
    assert np.mean([m.error for m in means]) == pytest.approx(exact, rel=0.1)
    assert means[0].effective * means[0].inefficiency == pytest.approx(length)


@pytest.mark.parametrize(("phi", "length"), [(0.0, 4096), (0.9, 20_000)])
def test_blocks_rise_to_the_same_error(phi, length, rng):
    exact = np.sqrt((1.0 + phi) / (1.0 - phi) / length)
    blocks = [block_average(x) for x in autoregressive(phi, length, 60, rng)]
    assert all(b.plateau for b in blocks)
    assert np.mean([b.error for b in blocks]) == pytest.approx(exact, rel=0.08)
    naive = np.mean([b.errors[0] for b in blocks])
    assert naive == pytest.approx(1.0 / np.sqrt(length), rel=0.05)
    assert blocks[0].sizes.tolist()[:4] == [1, 2, 4, 8]
    np.testing.assert_allclose(
        blocks[0].uncertainties[:2], blocks[0].errors[:2] / np.sqrt(2.0 * (length / np.array([1, 2]) - 1))
    )


def test_blocks_of_too_short_a_series_have_no_plateau(rng):
    assert not block_average(rng.normal(size=400).cumsum()).plateau


def test_the_start_of_equilibrium_is_found_behind_a_relaxation(rng):
    series = autoregressive(0.8, 1000, 40, rng)
    relaxing = series + 12.0 * np.exp(-np.arange(1000) / 40.0)
    found = [equilibrated(x) for x in relaxing]
    # the relaxation falls below the noise after 40 ln 12 = 100 samples, below a tenth of it after 190
    assert 80 < np.median([e.start for e in found]) < 300
    naive = abs(relaxing.mean())
    late = np.mean([x[e.start :].mean() for x, e in zip(relaxing, found, strict=True)])
    assert naive > 0.4 and abs(late) < 0.1
    assert np.mean([e.effective for e in found]) > 3.0 * np.mean([1000 / inefficiency(x) for x in relaxing])
    still = [equilibrated(x) for x in series]
    assert np.median([e.start for e in still]) < 150


def test_a_series_that_does_not_vary_has_no_error():
    mean = correlated_mean(np.full(50, 3.7))
    assert (mean.mean, mean.inefficiency) == (pytest.approx(3.7), 1.0)
    assert mean.error < 1e-14
    assert equilibrated(np.full(50, -1e5)).start == 0


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (np.arange(9.0), "9 values are too few .*log more often or run longer"),
        (np.array([1.0] * 11 + [np.nan]), "value 11 of the series is not a finite number"),
        (np.zeros((4, 20)), r"not of an array of shape \(4, 20\)"),
    ],
)
@pytest.mark.parametrize("function", [inefficiency, correlated_mean, block_average, equilibrated])
def test_what_cannot_be_judged_is_refused(series, message, function):
    with pytest.raises(InputError, match=message):
        function(series)
