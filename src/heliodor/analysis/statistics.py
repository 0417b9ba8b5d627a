"""Statistics of correlated series: how many independent samples, what error of the mean, from where on in equilibrium.

Series are plain numpy arrays [T] in whatever unit; times are counted in samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heliodor.errors import InputError

SHORTEST = 10
"""Values below which nothing is said about correlation."""

LONE = 3
"""Lags always summed, so that a first noisy zero of the correlation does not end the sum (Chodera et al. 2007)."""

STARTS = 100
"""Trial starts of the equilibrated region; a finer grid changes the effective samples by less than 1 %."""


@dataclass(frozen=True)
class Mean:
    """Of a correlated series.

    Attributes:
        mean: in the unit of the series.
        error: standard error of the mean, same unit.
        inefficiency: samples per independent sample, >= 1.
        effective: number of independent samples.
    """

    mean: float
    error: float
    inefficiency: float
    effective: float


@dataclass(frozen=True)
class Equilibrated:
    """The part of a series that holds most independent samples.

    Attributes:
        start: index of its first sample.
        inefficiency, effective: of that part, as in `Mean`.
    """

    start: int
    inefficiency: float
    effective: float


@dataclass(frozen=True)
class Blocks:
    """Standard error of the mean from blocks of growing size.

    Attributes:
        sizes: [K] samples per block: 1, 2, 4, ...
        errors: [K] standard error of the mean if blocks were independent; rises to a plateau.
        uncertainties: [K] of those errors.
        error: on the plateau; without one the largest, which is then too small.
        plateau: whether blocks long enough to be independent were found.
    """

    sizes: np.ndarray
    errors: np.ndarray
    uncertainties: np.ndarray
    error: float
    plateau: bool


def autocorrelation(series: np.ndarray) -> np.ndarray:
    """C(t) = <δx(0) δx(t)> / <δx²> for t = 0..T-1, each lag divided by its own number of products; by FFT.

    A series that does not vary has C = 0 beyond t = 0.

    Raises:
        InputError: fewer than `SHORTEST` values, or not finite.
    """
    x = _checked(series)
    n = len(x)
    x = x - x.mean()
    spectrum = np.fft.rfft(x, 1 << (2 * n - 1).bit_length())
    products = np.fft.irfft(spectrum * spectrum.conj())[:n] / np.arange(n, 0, -1)
    variance = products[0]
    if variance <= (1e-14 * max(1.0, float(np.abs(series).max()))) ** 2:
        return np.eye(1, n)[0]
    correlation: np.ndarray = products / variance
    return correlation


def inefficiency(series: np.ndarray) -> float:
    """Statistical inefficiency g = 1 + 2τ: samples per independent sample (Chodera et al., JCTC 3, 26 (2007)).

    The sum g = 1 + 2 Σ (1 - t/T) C(t) ends where C first falls to zero, for beyond it is noise. From fewer than about
    20 independent samples it comes out too small, because the mean subtracted is the series' own.

    Raises:
        InputError: fewer than `SHORTEST` values, or not finite.
    """
    correlation = autocorrelation(series)
    n = len(correlation)
    crossed = np.flatnonzero(correlation[LONE + 1 :] <= 0.0)
    end = LONE + 1 + (int(crossed[0]) if len(crossed) else n - LONE - 1)
    lags = np.arange(1, end)
    return max(1.0, float(1.0 + 2.0 * ((1.0 - lags / n) * correlation[1:end]).sum()))


def slow_inefficiency(series: np.ndarray) -> float:
    """`inefficiency`, or what blocks say where that is certainly more.

    The sum over the autocorrelation ends at its first zero. Where a fast oscillation brings that about, as in energies
    and dipoles saved every few fs, slow wandering beneath it is missed, which blocks see. They count where their error
    of the mean, less twice its own uncertainty, is still the larger one.

    Raises:
        InputError: fewer than `SHORTEST` values, or not finite.
    """
    x = _checked(series)
    g = inefficiency(x)
    variance = float(x.var())
    if variance <= (1e-12 * max(1.0, float(np.abs(x).max()))) ** 2:
        return g
    blocks = block_average(x)
    uncertainty = float(blocks.uncertainties[int(np.argmin(np.abs(blocks.errors - blocks.error)))])
    if max(blocks.error - 2.0 * uncertainty, 0.0) ** 2 * len(x) / variance > g:
        g = blocks.error**2 * len(x) / variance
    return min(g, 0.5 * len(x))


def correlation_time(series: np.ndarray) -> float:
    """Integrated autocorrelation time τ = (g - 1)/2, in samples.

    Raises:
        InputError: fewer than `SHORTEST` values, or not finite.
    """
    return 0.5 * (inefficiency(series) - 1.0)


def correlated_mean(series: np.ndarray) -> Mean:
    """Mean of a stationary series with its standard error s √(g/T); s² = Σ δx² / (T - g), g by `slow_inefficiency`.

    From 20 independent samples two standard errors cover the truth in about 9 cases of 10, from 100 on in 19 of 20.

    Raises:
        InputError: fewer than `SHORTEST` values, or not finite.
    """
    x = _checked(series)
    g = slow_inefficiency(x)
    # the mean's own error narrows the spread around it: T - g rather than T - 1 for correlated samples
    return Mean(float(x.mean()), float(x.std() * np.sqrt(g / max(len(x) - g, 0.5 * len(x)))), g, len(x) / g)


def mean_with_error(series: np.ndarray) -> tuple[float, float | None]:
    """Mean and standard error, for series that may both oscillate fast and wander slowly; no error of fewer than 10.

    The larger of two errors: the sum over the autocorrelation of `correlated_mean` ends at its first zero, and where a
    fast oscillation brings that about, as in energies and dipoles saved every few fs, slow wandering beneath is missed,
    which blocks see. Values that are all equal have the error 0.

    Raises:
        InputError: values that are not finite.
    """
    if len(series) < SHORTEST:
        return float(np.mean(series)), None
    found = correlated_mean(series)
    error = max(found.error, block_average(series).error)
    # the mean of equal numbers is off by rounding, which is no error
    return found.mean, error if error > 1e-12 * float(np.abs(series).max()) else 0.0


def block_average(series: np.ndarray) -> Blocks:
    """Error of the mean by blocking: neighbours averaged in pairs, again and again.

    Flyvbjerg & Petersen, J. Chem. Phys. 91, 461 (1989). The plateau is taken at the smallest blocks of B samples with
    B³ > 2 T (error_B/error_1)⁴, where blocks are long against the correlation and still many (Lee et al., Phys. Rev. E
    83, 066706 (2011)).

    Raises:
        InputError: fewer than `SHORTEST` values, or not finite.
    """
    x = _checked(series)
    total = len(x)
    sizes, errors, uncertainties = [], [], []
    size = 1
    while len(x) >= 2:
        error = np.sqrt(x.var() / (len(x) - 1))
        sizes.append(size)
        errors.append(error)
        uncertainties.append(error / np.sqrt(2.0 * (len(x) - 1)))
        pairs = len(x) // 2
        x = 0.5 * (x[0 : 2 * pairs : 2] + x[1 : 2 * pairs : 2])
        size *= 2
    first = max(errors[0], np.finfo(float).tiny)
    for size, error in zip(sizes, errors, strict=True):
        if size**3 > 2.0 * total * (error / first) ** 4:
            return Blocks(np.array(sizes), np.array(errors), np.array(uncertainties), float(error), True)
    return Blocks(np.array(sizes), np.array(errors), np.array(uncertainties), float(max(errors)), False)


def equilibrated(series: np.ndarray, latest: float = 0.9) -> Equilibrated:
    """Where equilibrium begins: the start that leaves most independent samples (Chodera, JCTC 12, 1799 (2016)).

    What relaxes at the beginning looks like a long correlation; leaving it out costs samples but shortens that.

    Args:
        latest: fraction of the series after which no start is tried.

    Raises:
        InputError: fewer than `SHORTEST` values, or not finite.
    """
    x = _checked(series)
    last = max(0, min(int(latest * len(x)), len(x) - SHORTEST))
    found = []
    for start in np.unique(np.linspace(0, last, STARTS).astype(int)).tolist():
        g = inefficiency(x[start:])
        found.append(Equilibrated(start, g, (len(x) - start) / g))
    return max(found, key=lambda trial: trial.effective)


def _checked(series: np.ndarray) -> np.ndarray:
    x = np.asarray(series, dtype=np.float64)
    if x.ndim != 1:
        raise InputError(f"statistics are of one series of numbers, not of an array of shape {x.shape}")
    if len(x) < SHORTEST:
        raise InputError(
            f"{len(x)} values are too few to tell how correlated they are, {SHORTEST} the least: "
            "log more often or run longer"
        )
    if not np.isfinite(x).all():
        raise InputError(f"value {int(np.flatnonzero(~np.isfinite(x))[0])} of the series is not a finite number")
    return x


def population(visited: np.ndarray, memory: float = 1.0) -> tuple[float, float | None]:
    """Fraction of samples in which a state is visited, and its standard error; no error of fewer than 10.

    The larger of two errors. That of `mean_with_error`; and √(q(1 - q)/n) of n independent samples with two visits and
    two absences added, q = (np + 2)/(n + 4) (Agresti & Coull, Am. Stat. 52, 119 (1998)), so that a state never or
    always visited has an error too: 1.4/n, of which two cover the truth in 19 cases of 20, where Jeffreys' prior (one
    half added) gives 0.7/n and does not. n is the smallest by ``memory``, by the series' own correlation, and by that
    of a two-state process with as many visits as were seen: correlation cannot be had from a state seen once or twice,
    dwell times can. A state that is not visited because the run is too short for it is beyond all of them.

    Args:
        visited: [T] whether, or 0 and 1.
        memory: samples per independent sample (`inefficiency`) of what the state depends on, such as an angle; the
            series' own counts where that is larger.

    Raises:
        InputError: other values than 0 and 1.
    """
    state = np.asarray(visited)
    if not np.isin(state, (0, 1)).all():
        raise InputError("a population is of a series of 0 and 1")
    series = state.astype(np.float64)
    total = len(series)
    share = float(series.mean())
    if total < SHORTEST:
        return share, None
    error = 0.0
    if 0.0 < share < 1.0:
        visits = 0.5 * np.count_nonzero(np.diff(series))
        # (1 + λ)/(1 - λ) of a process that correlates as λ^t, by its rates
        dwelling = 2.0 * total * share * (1.0 - share) / visits - 1.0
        memory = max(memory, inefficiency(series), dwelling)
        error = mean_with_error(series)[1] or 0.0
    count = max(1.0, total / max(memory, 1.0))
    likely = (count * share + 2.0) / (count + 4.0)
    return share, max(error, float(np.sqrt(likely * (1.0 - likely) / count)))
