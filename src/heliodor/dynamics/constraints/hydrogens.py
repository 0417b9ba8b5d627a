"""Which atom each hydrogen belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.dynamics.watch.bonds import bonded_pairs, lengths
from heliodor.neighbors import Neighbors
from heliodor.system import System


@dataclass(frozen=True)
class Hydrogens:
    """H hydrogens that are bonded to something.

    Attributes:
        atom: the hydrogens, ascending.
        partner: the atom each belongs to: the nearest one, in units of the sum of covalent radii.
        shift: lattice translations that bring the hydrogen to its partner.
        rival: the second nearest atom in bonding distance; -1 if none.
        margin: relative distance of the rival over that of the partner; infinite if none.
    """

    atom: Int[Tensor, "H"]
    partner: Int[Tensor, "H"]
    shift: Int[Tensor, "H 3"]
    rival: Int[Tensor, "H"]
    margin: Float[Tensor, "H"]


def find_bonds(system: System) -> Neighbors:
    """Half list of the bonds among nonmetals by covalent radii, without bonds of an atom to its own images."""
    bonds = bonded_pairs(system)
    return bonds.select(bonds.i != bonds.j)


def find_hydrogens(system: System, bonds: Neighbors) -> Hydrogens:
    """Every hydrogen in these bonds with its partner; H2 is two hydrogens, each the other's partner."""
    distance, radii = lengths(system, bonds, 1.0)
    relative = distance / radii
    from_i, from_j = system.numbers[bonds.i] == 1, system.numbers[bonds.j] == 1
    atom = torch.cat([bonds.i[from_i], bonds.j[from_j]])
    partner = torch.cat([bonds.j[from_i], bonds.i[from_j]])
    shift = torch.cat([-bonds.shift[from_i], bonds.shift[from_j]])
    distance = torch.cat([relative[from_i], relative[from_j]])

    order = torch.argsort(distance, stable=True)
    order = order[torch.argsort(atom[order], stable=True)]
    atom, partner, shift, distance = atom[order], partner[order], shift[order], distance[order]
    nearest = torch.ones_like(atom, dtype=torch.bool)
    nearest[1:] = atom[1:] != atom[:-1]
    place = nearest.nonzero().squeeze(-1)
    following = (place + 1).clamp_max(max(len(atom) - 1, 0))
    contested = (following > place) & ~nearest[following]
    return Hydrogens(
        atom=atom[place],
        partner=partner[place],
        shift=shift[place],
        rival=torch.where(contested, partner[following], -1),
        margin=torch.where(contested, distance[following] / distance[place], torch.inf),
    )
