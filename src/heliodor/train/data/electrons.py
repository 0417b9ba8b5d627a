"""Do electrons fit charges and spins? A charge that was never read shows in an odd number of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from heliodor.train.dataset import Dataset


def count_electrons(data: Dataset) -> Float[np.ndarray, "S"]:
    """Electrons of each structure: nuclear charges less the total charge."""
    protons = np.add.reduceat(np.asarray(data.numbers, dtype=np.int64), data.offsets[:-1])
    return np.asarray(protons - data.charge, dtype=np.float64)


def misfits(data: Dataset) -> Bool[np.ndarray, "S"]:
    """Structures whose electrons, less the unpaired ones, are no pairs: an odd number, a fraction, below zero."""
    left = count_electrons(data) - data.spin
    return np.asarray((np.abs(left - 2.0 * np.round(left / 2.0)) > 1e-6) | (left < 0.0), dtype=bool)


def cause_of_misfits(data: Dataset) -> str:
    """``"charge"`` if charges and spins are all zero (never read), ``"multiplicity"`` if spins are larger than zero
    everywhere and fit when taken as multiplicities, else ``""``."""
    if not data.charge.any() and not data.spin.any():
        return "charge"
    left = count_electrons(data) - (data.spin - 1.0)
    if (data.spin >= 1.0).all() and (np.mod(left, 2.0) == 0.0).all():
        return "multiplicity"
    return ""
