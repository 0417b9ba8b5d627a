"""Series along time: how they are shown, and what is said of their means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from heliodor.analysis.statistics import SHORTEST, correlated_mean, inefficiency, mean_with_error, population

POPULATIONS = (
    "Errors of populations: the larger of that from the correlation along time and the binomial one of as many "
    "independent samples as there are (by the correlation of the angles and of the state, and by the number of its "
    "visits), two visits and two absences added (Agresti and Coull, Am. Stat. 52, 119, 1998); so a state never seen "
    "has one too. States that a run is too short to reach are beyond all of them."
)
"""What is said of errors of populations."""

FEW = 20.0
"""Independent samples below which an error is doubtful (`correlated_mean`)."""


def mean_of(series: np.ndarray) -> tuple[float, float | None, str]:
    """Mean, its standard error (None from too few frames) and words on how far to trust it."""
    if len(series) < SHORTEST:
        return float(np.mean(series)), None, ""
    found = correlated_mean(np.asarray(series, dtype=np.float64))
    mean, error = mean_with_error(series)
    few = f", error from {found.effective:.0f} independent samples" if found.effective < FEW else ""
    return mean, error, few


def memory_of(angles: np.ndarray) -> float:
    """Samples per independent sample of an angle in degrees [T]: of its sine or cosine, whichever remembers longer."""
    if len(angles) < SHORTEST:
        return 1.0
    radians = np.radians(angles.astype(np.float64))
    return max(inefficiency(np.sin(radians)), inefficiency(np.cos(radians)))


def longest_memory(states: Sequence[np.ndarray]) -> float:
    """Samples per independent sample of those of several series [T] of 0 and 1 that remember longest."""
    if not states or len(states[0]) < SHORTEST:
        return 1.0
    return max(inefficiency(np.asarray(state, dtype=np.float64)) for state in states)


def share_of(
    inside: Bool[np.ndarray, "T R"], memories: Sequence[float]
) -> tuple[float, float | None, str, list[tuple[float, float | None]]]:
    """Population of a state averaged over R residues, its error, words on how far to trust it; and each residue's.

    The error is the larger of that of the average's own series and that of residues that do not know of each other.

    Args:
        memories: samples per independent sample of each residue (`heliodor.analysis.statistics.population`).
    """
    each = [population(inside[:, r], memories[r]) for r in range(inside.shape[1])]
    if inside.shape[1] == 1:
        mean, error = each[0]
    else:
        mean, error = mean_with_error(inside.mean(1))
        if error is not None:
            apart = np.array([0.0 if one[1] is None else one[1] for one in each])
            error = max(error, float(np.sqrt(np.square(apart).sum())) / len(each))
    if error is None:
        return mean, None, "", each
    if not inside.any():
        return mean, error, ", never seen", each
    words = trust(len(inside) / max(1.0, *memories))
    return mean, error, f", {words}" if words else "", each


def trust(samples: float) -> str:
    """Words on an error from so many independent samples, where these are few."""
    return f"error from {samples:.0f} independent samples" if samples < FEW else ""


def running_mean(
    series: Float[np.ndarray, "T"], time: Float[np.ndarray, "T"], window: float
) -> tuple[Float[np.ndarray, "T"], int]:
    """Centred mean over about ``window`` fs (0: a fiftieth of the whole), narrower at both ends; and frames in it."""
    n = len(series)
    frames = window / max((time[-1] - time[0]) / max(n - 1, 1), 1e-12) if window > 0.0 else 0.02 * n
    half = min(round(0.5 * frames), (n - 1) // 2)
    total = np.concatenate([[0.0], np.cumsum(series)])
    k = np.arange(n)
    reach = np.minimum(np.minimum(k, n - 1 - k), half)
    return (total[k + reach + 1] - total[k - reach]) / (2 * reach + 1), 2 * half + 1


def thinned(frames: int, columns: int, most: int) -> tuple[slice, list[str]]:
    """Which frames a table keeps so that it holds no more than ``most`` numbers, and a note if not all."""
    step = max(1, -(-frames * columns // most))
    note = [f"The table along time holds every {step}th frame; averages are over all."] if step > 1 else []
    return slice(None, None, step), note
