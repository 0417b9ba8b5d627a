"""A few frames of a trajectory, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class Block:
    """K frames of n atoms, float64.

    Attributes:
        index: of the frames in the trajectory, from 0.
        time: fs.
        positions: Å, as written: not wrapped by heliodor, perhaps wrapped by other programs.
        cell: rows are lattice vectors, Å, those along which the structure is not periodic zero; None without any.
        velocities: Å/fs.
        charges: e.
        hirshfeld_ratios: dimensionless.
        energy: eV, of the whole structure.
    """

    index: Int[np.ndarray, "K"]
    time: Float[np.ndarray, "K"]
    positions: Float[np.ndarray, "K n 3"]
    cell: Float[np.ndarray, "K 3 3"] | None = None
    velocities: Float[np.ndarray, "K n 3"] | None = None
    charges: Float[np.ndarray, "K n"] | None = None
    hirshfeld_ratios: Float[np.ndarray, "K n"] | None = None
    energy: Float[np.ndarray, "K"] | None = None

    def __len__(self) -> int:
        return len(self.index)
