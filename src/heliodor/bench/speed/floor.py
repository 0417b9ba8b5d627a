"""The physical floor of a step: operations and bytes that a model cannot do without, over what a device can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from heliodor.bench.speed.counts import mace, so3lr, spookynet
from heliodor.bench.speed.parts import Around, Part
from heliodor.bench.speed.rates import Rates
from heliodor.potentials.committee import Committee
from heliodor.potentials.mace import MACE
from heliodor.potentials.so3lr import SO3LR
from heliodor.potentials.spookynet import SpookyNet

if TYPE_CHECKING:
    from heliodor.neighbors import Neighbors
    from heliodor.potential import Potential
    from heliodor.system import System


@dataclass(frozen=True)
class Floor:
    """What a step takes at least.

    Attributes:
        operations, bytes: for each atom.
        arithmetic, memory: µs for each atom, by the device's rates.
    """

    operations: float
    bytes: float
    arithmetic: float
    memory: float

    @property
    def microseconds(self) -> float:
        """The larger of both, µs for each atom and step."""
        return max(self.arithmetic, self.memory)


def around(potential: Potential, system: System, neighbors: Neighbors) -> Around:
    """Neighbours within the cutoffs (those in the skin left out) in a structure."""
    within = neighbors.within(system)
    far = within.long_range
    both = 2.0 / system.n_atoms
    far_edges = 0 if far is None or not potential.has_long_range else far.within(system).n_edges
    return Around(both * within.n_edges, both * far_edges)


def floor(parts: list[Part], rates: Rates) -> Floor:
    """Operations and bytes as times."""
    operations, moved = sum(p.operations for p in parts), sum(p.bytes for p in parts)
    return Floor(operations, moved, 1e6 * operations / rates.operations, 1e6 * moved / rates.bandwidth)


def count(potential: Potential, near: Around) -> list[Part] | None:
    """The work of an evaluation for one atom; None for an architecture that is not counted (a committee is the sum of
    its models)."""
    if isinstance(potential, Committee):
        each = [count(model, near) for model in potential.members]
        return None if any(parts is None for parts in each) else [part for parts in each if parts for part in parts]
    if isinstance(potential, SO3LR):
        return so3lr(potential, near)
    if isinstance(potential, MACE):
        return mace(potential, near)
    if isinstance(potential, SpookyNet):
        return spookynet(potential, near)
    return None
