"""Series along time: their axis, their mean with an error, frames chosen evenly."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.show import Axis
from heliodor.analysis.statistics import mean_with_error

PICOSECOND, NANOSECOND = 1e3, 1e6
"""fs."""

LONG = 10.0 * NANOSECOND
"""fs; longer trajectories are drawn in ns."""


def time_axis(time: Float[np.ndarray, "T"], label: str = "time") -> tuple[Float[np.ndarray, "T"], Axis]:
    """Times (fs) as they are drawn: in ps, or in ns if they span more than 10 ns; with their axis."""
    if len(time) and float(time[-1] - time[0]) > LONG:
        return time / NANOSECOND, Axis(label, "ns")
    return time / PICOSECOND, Axis(label, "ps")


def mean_error(series: Float[np.ndarray, "T"]) -> tuple[float, float | None]:
    """Mean and standard error of a correlated series; no error for a series too short to have one."""
    if len(series) == 0 or not np.isfinite(series).all():
        return (float(np.mean(series)) if len(series) else float("nan")), None
    return mean_with_error(series)


def even_frames(count: int, limit: int) -> Int[np.ndarray, "F"]:
    """At most ``limit`` of ``count`` frames, ascending, with one stride."""
    stride = max(1, -(-count // max(limit, 1)))
    return np.arange(0, count, stride)
