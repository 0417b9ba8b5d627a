"""Arrays that live as long as a kernel: asking the system for memory at each step costs more than filling it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class Workspace:
    """Uninitialised arrays by name, kept and grown as needed; each call for a name ends the use of the last one."""

    def __init__(self) -> None:
        self._kept: dict[str, np.ndarray] = {}
        self._views: dict[str, np.ndarray] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of this shape, contents unknown."""
        same = self._views.get(name)
        if same is not None and same.shape == shape and same.dtype == dtype:
            return same
        size = math.prod(shape)
        kept = self._kept.get(name)
        if kept is None or kept.dtype != dtype or kept.size < size or kept.size > 4 * size + 4096:
            kept = self._kept[name] = np.empty(size, dtype)
        self._views[name] = kept[:size].reshape(shape)
        return self._views[name]
