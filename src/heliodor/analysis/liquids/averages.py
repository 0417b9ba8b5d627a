"""Means of series that both oscillate fast and wander slowly, as dipoles and energies saved every few fs do."""

from __future__ import annotations

import numpy as np

from heliodor.analysis.statistics import SHORTEST, block_average, correlated_mean


def mean_with_error(series: np.ndarray) -> tuple[float, float | None]:
    """Mean and standard error; no error of fewer than 10 values.

    The larger of two errors: the sum over the autocorrelation ends at its first zero, and where a fast oscillation
    brings that about, slow wandering beneath is missed, which blocks see.

    Raises:
        InputError: values that are not finite.
    """
    if len(series) < SHORTEST:
        return float(np.mean(series)), None
    found = correlated_mean(series)
    return found.mean, max(found.error, block_average(series).error)
