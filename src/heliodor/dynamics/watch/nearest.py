"""The pairs that can touch or bond before the neighbour lists are next rebuilt: few, found once per list."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from heliodor.dynamics.watch.bonds import FORMED, canonical, contains, covalent, is_nonmetal, radii_of
from heliodor.dynamics.watch.checks import CONTACT, CONTACT_FLOOR
from heliodor.neighbors import Neighbors
from heliodor.system import System


@dataclass(frozen=True)
class Nearest:
    """Pairs of one neighbour list that some step before its renewal may bring into contact or into a bond.

    Attributes:
        lists: the neighbour list they were taken from.
        pairs: canonical half list (`heliodor.dynamics.watch.bonds.canonical`).
        candidate: pairs that would be a new bond.
    """

    lists: Neighbors
    pairs: Neighbors
    candidate: Bool[Tensor, "E"]


def nearest(system: System, lists: Neighbors, known: Neighbors) -> Nearest:
    """Select them by their distances where the list was built: until it is renewed they shrink by its skin at most.

    Args:
        known: pairs that are bonds already.
    """
    with torch.no_grad():
        then = system.replace(positions=lists.positions, cell=lists.cell)
        # most pairs are beyond the largest limit of any: told by one number, without looking up what they are
        short = lists.vectors(then).square().sum(-1) < (reach(system) + lists.skin) ** 2
        close = replace(lists, long_range=None).select(short.nonzero()[:, 0])
        d = close.vectors(then).norm(dim=-1)
        radii = radii_of(system)
        bond = FORMED * (radii[close.i] + radii[close.j])
        limit = torch.where(covalent(system, close), bond, (CONTACT / FORMED * bond).clamp_min(CONTACT_FLOOR))
        pairs = canonical(close.select((d < limit + lists.skin).nonzero()[:, 0]))
        return Nearest(lists, pairs, covalent(system, pairs) & ~contains(pairs, known, system.n_atoms))


def reach(system: System) -> float:
    """Å; lists that see as far hold every pair that touches or bonds."""
    factor = torch.where(is_nonmetal(system), FORMED, CONTACT)
    return max(2.0 * float((factor * radii_of(system)).amax()), CONTACT_FLOOR)
