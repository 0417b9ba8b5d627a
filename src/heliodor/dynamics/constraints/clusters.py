"""What is held rigid, as data: bonds cut into clusters and groups, padded to one shape and solved together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Clusters:
    """C sets of coupled constraints, of at most K each among at most A atoms, padded.

    Constraint p of a cluster holds |R_first - R_second|. Its multiplier λ moves the cluster's atoms by
    ``mobility[:, p] λ s_p`` (s_p: the bond in the reference positions) and the bonds by ``coupling[:, p] λ s_p``.
    Atoms are in one cluster at most.

    Attributes:
        atoms: members; short clusters repeat their first atom, with zero mobility.
        first, second: ends of each constraint; both the cluster's first atom in the padding.
        lengths: Å; 0 in the padding.
        padding: 1 where there is no constraint, 0 where there is one.
        mobility: ± inverse mass of an end of the constraint, 1/amu; 0 for other atoms.
        coupling: 1/amu; mobility[first] - mobility[second].
    """

    atoms: Int[Tensor, "C A"]
    first: Int[Tensor, "C K"]
    second: Int[Tensor, "C K"]
    lengths: Float[Tensor, "C K"]
    padding: Float[Tensor, "C K"]
    mobility: Float[Tensor, "C A K"]
    coupling: Float[Tensor, "C K K"]


@dataclass(frozen=True)
class Triangles:
    """M rigid waters whose two hydrogens have the same mass: what SETTLE needs to know.

    Attributes:
        atoms: oxygen, hydrogen, hydrogen.
        oxygen_share: mass of the oxygen over that of the molecule.
        oxygen_height: distance of the oxygen from the centre of mass, Å (r_a of the paper).
        hydrogen_height: distance of the line of the hydrogens from the centre of mass, Å (r_b).
        half_width: half of the H-H distance, Å (r_c).
    """

    atoms: Int[Tensor, "M 3"]
    oxygen_share: Float[Tensor, "M"]
    oxygen_height: Float[Tensor, "M"]
    hydrogen_height: Float[Tensor, "M"]
    half_width: Float[Tensor, "M"]


@dataclass(frozen=True)
class Rigid:
    """Bonds of fixed length in B structures of N atoms.

    Attributes:
        kind: what is held, "h-bonds" or "water".
        group: index of the rigidly bonded group each atom belongs to, 0..G-1; an atom without constraints is one
            alone. A group of "h-bonds" can still bend (a methyl group); its atoms hang together.
        count: constraints of each structure: as many degrees of freedom less.
        pairs: ends of all K constraints, and ``lengths`` in Å.
        members: atoms of each group; short groups repeat their first atom.
        present: 1 for the atoms of a group, 0 for such repetitions.
        clusters: a heavy atom and its hydrogens, H2, and waters of unequal hydrogens; None if there are none.
        waters: the waters of ``triangles`` as clusters of three, for the linear problem of velocities.
        triangles: the waters whose positions SETTLE solves.
    """

    kind: str
    group: Int[Tensor, "N"]
    count: Float[Tensor, "B"]
    pairs: Int[Tensor, "K 2"]
    lengths: Float[Tensor, "K"]
    members: Int[Tensor, "G S"]
    present: Float[Tensor, "G S"]
    clusters: Clusters | None = None
    waters: Clusters | None = None
    triangles: Triangles | None = None


def make_clusters(
    owner: Int[Tensor, "K"],
    pairs: Int[Tensor, "K 2"],
    lengths: Float[Tensor, "K"],
    inverse: Float[Tensor, "N"],
) -> Clusters | None:
    """Constraints with the same owner as one cluster; None if there are none.

    Args:
        owner: an atom that stands for the cluster, its central one.
        lengths: Å.
        inverse: inverse masses, 1/amu; 0 for atoms that do not move.
    """
    if len(pairs) == 0:
        return None
    order = torch.argsort(owner, stable=True)
    owner, pairs, lengths = owner[order], pairs[order], lengths[order]
    centers, cluster = torch.unique(owner, return_inverse=True)
    slot = places_within(cluster)
    shape = (len(centers), int(slot.max()) + 1)
    padded = centers.unsqueeze(-1).expand(shape)
    first, second = padded.clone(), padded.clone()
    first[cluster, slot], second[cluster, slot] = pairs[:, 0], pairs[:, 1]
    padding = torch.ones(shape, dtype=torch.float64)
    padding[cluster, slot] = 0.0
    wanted = torch.zeros(shape, dtype=torch.float64)
    wanted[cluster, slot] = lengths

    atoms, _ = members_of(torch.cat([cluster, cluster, torch.arange(len(centers))]), torch.cat([*pairs.T, centers]))
    # in the padding both ends are the first atom, so that the sign cancels
    here = atoms.unsqueeze(-1)
    real = (1.0 - padding).unsqueeze(1)
    distinct = torch.ones_like(atoms, dtype=torch.bool)
    distinct[:, 1:] = atoms[:, 1:] != atoms[:, :1]
    ends = ((here == first.unsqueeze(1)).double() - (here == second.unsqueeze(1)).double()) * real
    ends = ends * distinct.unsqueeze(-1)
    mobility = ends * inverse[atoms].unsqueeze(-1)
    coupling = ends.mT @ mobility
    return Clusters(atoms, first, second, wanted, padding, mobility, coupling)


def cut_triangles(waters: Clusters, inverse: Float[Tensor, "N"]) -> Triangles:
    """What SETTLE needs to know of waters given as clusters (O-H, O-H, H-H) with equal hydrogens."""
    oxygen, hydrogen = 1.0 / inverse[waters.first[:, 0]], 1.0 / inverse[waters.second[:, 0]]
    half = 0.5 * waters.lengths[:, 2]
    height = (waters.lengths[:, 0].square() - half.square()).sqrt()
    share = oxygen / (oxygen + 2.0 * hydrogen)
    return Triangles(
        atoms=torch.stack([waters.first[:, 0], waters.second[:, 0], waters.second[:, 1]], -1),
        oxygen_share=share,
        oxygen_height=height * (1.0 - share),
        hydrogen_height=height * share,
        half_width=half,
    )


def group_atoms(
    n_atoms: int, center: Int[Tensor, "K"], atom: Int[Tensor, "K"]
) -> tuple[Int[Tensor, "G S"], Float[Tensor, "G S"], Int[Tensor, "N"]]:
    """Groups of a centre and the atoms on it, in the order of their first atom; other atoms are alone.

    Returns:
        Members, which of them are no repetitions, and the group of each atom.
    """
    head = torch.arange(n_atoms)
    head[atom] = center
    _, group = torch.unique(head, return_inverse=True)
    members, present = members_of(group, torch.arange(n_atoms))
    return members, present, group


def members_of(group: Int[Tensor, "K"], atom: Int[Tensor, "K"]) -> tuple[Int[Tensor, "G S"], Float[Tensor, "G S"]]:
    """The distinct atoms of each group 0..G-1, ascending, padded with the first; 1 where they are no padding."""
    listed = torch.unique(torch.stack([group, atom], -1), dim=0)
    group, atom = listed.unbind(-1)
    slot = places_within(group)
    first = atom[slot == 0]
    members = first.unsqueeze(-1).expand(len(first), int(slot.max()) + 1).clone()
    present = torch.zeros(members.shape, dtype=torch.float64)
    members[group, slot] = atom
    present[group, slot] = 1.0
    return members, present


def places_within(group: Int[Tensor, "K"]) -> Int[Tensor, "K"]:
    """How many equal entries come before each one of a sorted list."""
    group = group.contiguous()
    return torch.arange(len(group)) - torch.searchsorted(group, group)
