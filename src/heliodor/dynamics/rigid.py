"""Bonds of fixed length (being written)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Rigid:
    """Bonds of fixed length.

    Attributes:
        group: index of the rigidly bonded group each atom belongs to, 0..G-1; an atom without constraints is one alone.
        count: constraints of each structure.
    """

    group: Int[Tensor, "N"]
    count: Float[Tensor, "B"]
