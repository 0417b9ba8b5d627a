"""Whether a quantity of a run has settled: mean, error, and a test for drift that knows about correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heliodor.analysis.statistics import correlated_mean, equilibrated, slow_inefficiency
from heliodor.errors import InputError

ENOUGH = 15.0
"""Independent samples, as estimated: of a truth of 3 the estimate exceeds this once in ten times, of 20 nine times."""

LATEST = 0.5
"""Fraction of the run that may be set aside as relaxation; what is still relaxing at half time has not settled."""

FLATTER = 1.0 / 3.0
"""The kept part must run flatter than this fraction of the whole: a steady drift is as steep everywhere."""

TOLD = 0.05
"""Fraction of the run; a beginning set aside that is longer is mentioned."""

_NORMAL = 2.5758
"""99 % of a normal distribution lie within as many standard deviations."""


@dataclass(frozen=True)
class Settling:
    """Whether and where a quantity settled.

    Attributes:
        name, unit: of the quantity.
        mean, error: of the equilibrated region, with the standard error of that mean.
        inefficiency: samples per independent sample.
        effective: independent samples in the equilibrated region.
        start: ps, where the equilibrated region begins.
        drift, drift_error: slope × length and its standard error, of the equilibrated region; of the whole run where
            that drifts steadily.
        settled: no drift within error, and enough independent samples to tell.
        words: all this in one sentence.
    """

    name: str
    unit: str
    mean: float
    error: float
    inefficiency: float
    effective: float
    start: float
    drift: float
    drift_error: float
    settled: bool
    words: str


def settled(time_ps: np.ndarray, values: np.ndarray, name: str, unit: str) -> Settling:
    """Judge a column of a log, such as density or energy after a stage at constant pressure.

    The region of most independent samples is found (Chodera, JCTC 12, 1799 (2016)), beginning at half time at the
    latest. Straight lines through it and through the whole run give drifts, their errors taking correlation into
    account. The run has not settled where the region drifts significantly (99 %, Student's t at the number of
    independent samples), or where the whole does and the region is not much flatter: then what was set aside was no
    relaxation but part of the drift.

    Calibration, on stationary first-order autoregressive series: of runs of 20 independent samples or more fewer
    than 1 in 20 are called drifting (of 20 about 1 in 10 too short to tell). A steady drift of six of its standard
    errors is found in more than 9 of 10.

    Args:
        time_ps: [T] ps, ascending.
        values: [T] in `unit`.

    Raises:
        InputError: fewer than 10 values, not finite, or times that do not fit.
    """
    t, x = np.asarray(time_ps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if t.shape != x.shape or t.ndim != 1:
        raise InputError(f"times {t.shape} and values {x.shape} must be two series of one length")
    region = equilibrated(x, LATEST)
    if not bool((np.diff(t) > 0).all()):
        raise InputError("times must be finite and ascending")
    whole, kept = _line(t, x), _line(t[region.start :], x[region.start :])
    steady = whole.drifts and not bool(kept.slope * np.sign(whole.slope) < FLATTER * abs(whole.slope))
    judged = whole if steady else kept
    drifts = steady or kept.drifts
    average = correlated_mean(x[region.start :])
    enough = average.effective >= ENOUGH
    start = float(t[region.start] - t[0])

    length = float(t[-1] - t[0])
    part = length if steady else length - start
    digits = _digits(average.error)
    value = f"{name} {average.mean:.{digits}f} ± {average.error:.{digits}f} {unit}".rstrip()
    moved = f"{judged.drift:+.{digits}f} ± {judged.error:.{digits}f} {unit}".rstrip()
    if drifts:
        last = "" if part == length else "the last "
        words = f"{name} is still drifting: {moved} over {last}{part:.4g} ps; run longer"
    elif not enough:
        words = f"{value}, but only {_count(average.effective)} in {length:.4g} ps: too few to tell a drift; run longer"
    else:
        after = f" after the first {start:.3g} ps" if start > TOLD * length else ""
        words = f"{value} ({_count(average.effective)}), no drift within error{after}"
    return Settling(
        name=name,
        unit=unit,
        mean=average.mean,
        error=average.error,
        inefficiency=average.inefficiency,
        effective=average.effective,
        start=start,
        drift=judged.drift,
        drift_error=judged.error,
        settled=enough and not drifts,
        words=words,
    )


@dataclass(frozen=True)
class _Line:
    """A straight line: slope per ps, drift (slope × length) with its standard error, and whether it is significant."""

    slope: float
    drift: float
    error: float
    drifts: bool


def _line(t: np.ndarray, x: np.ndarray) -> _Line:
    n = len(x)
    t = t - t.mean()
    slope = float(t @ (x - x.mean()) / (t @ t))
    rest = x - x.mean() - slope * t
    g = slow_inefficiency(rest)
    # the fit takes two degrees of freedom out of the residuals' long waves: g comes out about 3 g/n too small
    g *= 1.0 + 3.0 * g / n
    free = max(n - 2.0 * g, n / 3.0)
    length = float(t[-1] - t[0])
    error = float(np.sqrt(g * (rest @ rest) / free / (t @ t))) * length
    return _Line(slope, slope * length, error, abs(slope) * length > _student(n / g - 2.0) * error)


def _student(freedom: float) -> float:
    """The two-sided 99 % limit of Student's t, by its expansion about the normal one (error < 2 % from 4 on)."""
    f, z = max(freedom, 4.0), _NORMAL
    first = (z**3 + z) / 4.0
    second = (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0
    third = (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0
    return z + first / f + second / f**2 + third / f**3


def _digits(error: float) -> int:
    """Decimals that show an error to one figure, two if it begins with a one."""
    if error <= 0.0:
        return 6
    exponent = int(np.floor(np.log10(error)))
    return int(np.clip((1 if error < 2.0 * 10.0**exponent else 0) - exponent, 0, 9))


def _count(effective: float) -> str:
    return f"{effective:.0f} independent samples"
