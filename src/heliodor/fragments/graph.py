"""The bonds of a structure with their orders and its formal charges: what fragments are cut from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int


@dataclass(frozen=True, eq=False)
class ChemicalGraph:
    """N atoms and M bonds as a chemist would draw them.

    Attributes:
        numbers: atomic numbers.
        bonds: pairs i < j, each once, ascending.
        orders: 1, 2 or 3, of one Kekulé structure.
        whole: bonds that may not be cut although their order here may be 1: aromatic ones, and those of groups whose
            Kekulé structures differ (carboxylates, guanidinium, imidazolium, nitro groups, phosphates).
        charges: formal charges, e.
    """

    numbers: Int[np.ndarray, "N"]
    bonds: Int[np.ndarray, "M 2"]
    orders: Int[np.ndarray, "M"]
    whole: Bool[np.ndarray, "M"]
    charges: Int[np.ndarray, "N"]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def charge(self) -> int:
        """Total formal charge, e."""
        return int(self.charges.sum())

    @cached_property
    def neighbors(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each atom the pairs (neighbour, index of the bond)."""
        found: list[list[tuple[int, int]]] = [[] for _ in range(len(self))]
        for bond, (i, j) in enumerate(self.bonds.tolist()):
            found[i].append((j, bond))
            found[j].append((i, bond))
        return tuple(tuple(pairs) for pairs in found)
