"""Covalent bonds by distance: which there are, which broke, which formed.

Only pairs of nonmetals count. Ions and metals change their neighbours in any healthy simulation (water leaves a sodium
ion every 20 ps), which is no event.

The limits leave a gap between formed and broken, in units of the sum of covalent radii (O-H 0.97 Å, C-C 1.52 Å). Below
1.2 (O-H 1.16, C-C 1.82, H-H 0.74 Å) lie bonds and nothing else: hydrogen bonds begin at 1.5 Å, the closest atoms of
one molecule that are not bonded at 1.87 Å (across bicyclopentane). Above 1.6 (O-H 1.55, C-C 2.43 Å) no vibration leads
and back. A pair between the two keeps what it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from ase.data import covalent_radii
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heliodor.dynamics.naming import atom_name
from heliodor.neighbors import Neighbors, find_neighbors
from heliodor.system import System
from heliodor.topology import BONDED, NONMETALS

FORMED = 1.2
"""Pairs not bonded at the start that come closer than this times the sum of covalent radii have formed a bond."""

BROKEN = 1.6
"""A bond longer than this times the sum of the covalent radii is broken."""


@dataclass(frozen=True)
class BrokenBond:
    """Two atoms (indices over the whole batch) that were bonded at the start, with distances in Å."""

    i: int
    j: int
    name: str
    distance: float
    limit: float


@dataclass(frozen=True)
class FormedBond:
    """Two atoms (indices over the whole batch) that were not bonded at the start and are, with distances in Å."""

    i: int
    j: int
    name: str
    distance: float
    limit: float


def bonded_pairs(system: System) -> Neighbors:
    """Half list of the pairs of nonmetals that are bonded here; images included, no skin, i <= j."""
    radii = radii_of(system)
    pairs = find_neighbors(system, max(2.0 * BONDED * float(radii.max()), 0.1))
    d = pairs.vectors(system).norm(dim=-1)
    return canonical(pairs.select((d < BONDED * (radii[pairs.i] + radii[pairs.j])) & covalent(system, pairs)))


def broken_bonds(system: System, bonds: Neighbors) -> list[BrokenBond]:
    """Those of the pairs bonded at the start that are torn apart here.

    Positions must have been followed without wrapping since `bonded_pairs`.
    """
    d, limit = lengths(system, bonds, BROKEN)
    return [BrokenBond(*described) for described in _described(system, bonds, d, limit, d > limit)]


def formed_bonds(system: System, bonds: Neighbors) -> list[FormedBond]:
    """Pairs bonded here that were not at the start; searches the neighbours anew.

    A hydrogen still held by its bond of the start is shared, not transferred, and counts as neither.
    """
    pairs = bonded_pairs(system)
    new = newly_formed(system, pairs, ~contains(pairs, bonds, system.n_atoms), bonds)
    d, limit = lengths(system, pairs, FORMED)
    return [FormedBond(*described) for described in _described(system, pairs, d, limit, new)]


def newly_formed(system: System, pairs: Neighbors, candidate: Bool[Tensor, "E"], known: Neighbors) -> Bool[Tensor, "E"]:
    """Which candidate pairs are bonds now; not those to a hydrogen that still holds on to a known bond."""
    d, limit = lengths(system, pairs, FORMED)
    new = candidate & (d < limit)
    if not bool(new.any()):
        return new
    d, limit = lengths(system, known, BROKEN)
    whole = d <= limit
    held = torch.zeros(system.n_atoms, dtype=torch.bool, device=system.device)
    held[known.i[whole]] = True
    held[known.j[whole]] = True
    held &= system.numbers == 1
    return new & ~held[pairs.i] & ~held[pairs.j]


def lengths(system: System, pairs: Neighbors, factor: float) -> tuple[Float[Tensor, "E"], Float[Tensor, "E"]]:
    """Distances of pairs and `factor` times the sums of their covalent radii, Å."""
    radii = radii_of(system)
    return pairs.vectors(system).norm(dim=-1), factor * (radii[pairs.i] + radii[pairs.j])


def covalent(system: System, pairs: Neighbors) -> Bool[Tensor, "E"]:
    """Whether both atoms of a pair are nonmetals."""
    here = is_nonmetal(system)
    return here[pairs.i] & here[pairs.j]


def is_nonmetal(system: System) -> Bool[Tensor, "N"]:
    """Atoms whose bonds are followed."""
    nonmetal = torch.zeros(256, dtype=torch.bool, device=system.device)
    nonmetal[list(NONMETALS)] = True
    return nonmetal[system.numbers]


def canonical(pairs: Neighbors) -> Neighbors:
    """A half list in which each pair has i <= j, and its own images the shift that begins with a positive number."""
    x, y, z = pairs.shift.unbind(-1)
    backward = (x < 0) | ((x == 0) & ((y < 0) | ((y == 0) & (z < 0))))
    turned = (pairs.i > pairs.j) | ((pairs.i == pairs.j) & backward)
    if not pairs.half:
        return replace(pairs.select(~turned), half=True, long_range=None)
    sign = torch.where(turned, -1, 1).unsqueeze(-1)
    return replace(
        pairs,
        i=torch.where(turned, pairs.j, pairs.i),
        j=torch.where(turned, pairs.i, pairs.j),
        shift=pairs.shift * sign.to(pairs.shift.dtype),
        offset=None if pairs.offset is None else pairs.offset * sign,
        long_range=None,
    )


def contains(pairs: Neighbors, known: Neighbors, n_atoms: int) -> Bool[Tensor, "E"]:
    """Which pairs stand, with the same image, in another list; both canonical. O(E log E)."""
    found = torch.zeros_like(pairs.i, dtype=torch.bool)
    keys, order = (known.i * n_atoms + known.j).sort()
    if len(keys) == 0:
        return found
    shift = known.shift[order]
    wanted = pairs.i * n_atoms + pairs.j
    at, end = torch.searchsorted(keys, wanted), torch.searchsorted(keys, wanted, right=True)
    # two atoms are bonded through several images in the smallest cells only
    for _ in range(int((end - at).max()) if len(wanted) else 0):
        row = at.clamp_max(len(keys) - 1)
        found |= (at < end) & (shift[row] == pairs.shift).all(-1)
        at = at + 1
    return found


def to_table(pairs: Neighbors) -> Int[Tensor, "M 5"]:
    """Pairs as rows i, j and three lattice translations: what a checkpoint keeps of them."""
    return torch.cat([pairs.i.unsqueeze(1), pairs.j.unsqueeze(1), pairs.shift.to(pairs.i.dtype)], dim=1)


def from_table(table: Int[Tensor, "M 5"], system: System) -> Neighbors:
    """The pairs of `to_table`."""
    table = table.to(system.device)
    i, j, shift = table[:, 0], table[:, 1], table[:, 2:]
    offset = torch.bmm(shift.to(system.dtype).unsqueeze(1), system.cell[system.batch[i]]).squeeze(1)
    limit = torch.zeros(system.n_structures, dtype=system.dtype, device=system.device)
    return Neighbors(
        i, j, shift, limit, 0.0, True, system.positions, system.cell, offset if bool(system.pbc.any()) else None
    )


def radii_of(system: System) -> Float[Tensor, "N"]:
    """Covalent radii, Å."""
    return torch.as_tensor(covalent_radii, dtype=system.dtype, device=system.device)[system.numbers]


def _described(
    system: System, pairs: Neighbors, d: Tensor, limit: Tensor, wanted: Tensor
) -> Iterator[tuple[int, int, str, float, float]]:
    for edge in wanted.nonzero()[:, 0].tolist():
        i, j = int(pairs.i[edge]), int(pairs.j[edge])
        yield i, j, f"{atom_name(system, i)} and {atom_name(system, j)}", float(d[edge]), float(limit[edge])
