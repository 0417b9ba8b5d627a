"""Degrees of freedom that thermostats and barostats add: Nosé-Hoover chains and the piston of a cell."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Chain:
    """A Nosé-Hoover chain of M links for each of B structures.

    Attributes:
        velocities: dη/dt of each link, 1/fs.
        heat: energy that has gone into the links' positions so far, Σ ∫ g kT dη, eV. The positions themselves never
            enter the motion; kept as energy they mean something under changing temperatures too.
    """

    velocities: Float[Tensor, "B M"]
    heat: Float[Tensor, "B"]


@dataclass(frozen=True)
class Piston:
    """The moving cell of Martyna, Tobias & Klein.

    Attributes:
        rate: strain rate of the cell, symmetric, 1/fs: dh/dt = h rate.
        chain: the piston's own thermostat.
    """

    rate: Float[Tensor, "B 3 3"]
    chain: Chain
