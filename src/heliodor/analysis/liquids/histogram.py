"""Histograms that grow with what is put in."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


class Histogram:
    """Counts in bins of one width; the range follows the values, of which only the counts are kept."""

    def __init__(self, width: float) -> None:
        self.width = width
        self._first = 0
        self._counts = np.zeros(0)

    def add(self, values: np.ndarray) -> None:
        """Count finite values of any shape."""
        if values.size == 0:
            return
        at = np.floor(np.asarray(values, dtype=np.float64).ravel() / self.width).astype(np.int64)
        low, high = int(at.min()), int(at.max()) + 1
        if not len(self._counts):
            self._first = low
        new = min(low, self._first)
        counts = np.zeros(max(high, self._first + len(self._counts)) - new)
        counts[self._first - new :][: len(self._counts)] = self._counts
        counts += np.bincount(at - new, minlength=len(counts))
        self._first, self._counts = new, counts

    @property
    def centres(self) -> Float[np.ndarray, "B"]:
        """Middles of the bins, with an empty one at either end."""
        return self.width * (np.arange(self._first - 1, self._first + len(self._counts) + 1) + 0.5)

    @property
    def density(self) -> Float[np.ndarray, "B"]:
        """Probability density: its integral is 1."""
        padded = np.pad(self._counts, 1)
        scaled: np.ndarray = padded / max(padded.sum() * self.width, 1e-300)
        return scaled
