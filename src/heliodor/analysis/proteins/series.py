"""Series along time: how they are shown, and what is said of their means."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from heliodor.analysis.show import Axis
from heliodor.analysis.statistics import SHORTEST, correlated_mean, mean_with_error

LONG = 1e7
"""fs; longer trajectories are shown in ns."""

FEW = 20.0
"""Independent samples below which an error is doubtful (`correlated_mean`)."""


def time_axis(time: Float[np.ndarray, "T"]) -> tuple[Float[np.ndarray, "T"], Axis]:
    """Times (fs) in the unit they are shown in, and the axis."""
    long = len(time) > 0 and time[-1] - time[0] > LONG
    return time / (1e6 if long else 1e3), Axis("time", "ns" if long else "ps")


def mean_of(series: np.ndarray) -> tuple[float, float | None, str]:
    """Mean, its standard error (None from too few frames) and words on how far to trust it."""
    if len(series) < SHORTEST:
        return float(np.mean(series)), None, ""
    found = correlated_mean(np.asarray(series, dtype=np.float64))
    mean, error = mean_with_error(series)
    few = f", error from {found.effective:.0f} independent samples" if found.effective < FEW else ""
    return mean, error, few


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
