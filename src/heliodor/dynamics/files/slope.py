"""The running slope of the conserved quantity, which a restart takes up where it was."""

from __future__ import annotations

from typing import Any

import numpy as np


class Slope:
    """Least-squares slope per atom against time, meV/atom/ps, of B structures; takes one point after another."""

    def __init__(self, n_atoms: np.ndarray, start: np.ndarray, y: np.ndarray, ty: np.ndarray) -> None:
        self._n_atoms = n_atoms
        self._start = start
        self._n, self._t, self._tt = 0, 0.0, 0.0
        self._y, self._ty = y, ty

    @staticmethod
    def begun(n_atoms: np.ndarray, start: np.ndarray) -> Slope:
        """Before the first point.

        Args:
            n_atoms: [B] of each structure.
            start: [B] eV; values are counted from there, which keeps small slopes of large energies exact.
        """
        return Slope(n_atoms, start.copy(), np.zeros(len(start)), np.zeros(len(start)))

    @property
    def n_structures(self) -> int:
        return len(self._start)

    def add(self, time: float, values: np.ndarray) -> np.ndarray:
        """The slope with one more point: time in fs, values [B] in eV."""
        y = values - self._start
        self._n += 1
        self._t += time
        self._tt += time * time
        self._y = self._y + y
        self._ty = self._ty + time * y
        spread = self._tt - self._t**2 / self._n
        if self._n < 2 or spread <= 0:
            return np.zeros(len(y))
        slope: np.ndarray = (self._ty - self._t * self._y / self._n) / spread * (1e6 / self._n_atoms)
        return slope

    def to_dict(self) -> dict[str, Any]:
        """All of it, exactly, for JSON."""
        arrays = {"n_atoms": self._n_atoms, "start": self._start, "y": self._y, "ty": self._ty}
        return {name: array.tolist() for name, array in arrays.items()} | {
            "n": self._n,
            "t": self._t,
            "tt": self._tt,
        }

    @staticmethod
    def restored(saved: dict[str, Any]) -> Slope:
        """From `to_dict`."""
        slope = Slope(*(np.array(saved[name]) for name in ("n_atoms", "start", "y", "ty")))
        slope._n, slope._t, slope._tt = saved["n"], saved["t"], saved["tt"]
        return slope
