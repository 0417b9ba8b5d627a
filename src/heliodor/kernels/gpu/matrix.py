"""The neighbour list of GPU kernels: for each atom a row of all its neighbours, images included, both directions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from heliodor.errors import InputError
from heliodor.neighbors import Neighbors

SHIFT_BITS = 10
SHIFT_ZERO = 1 << (SHIFT_BITS - 1)
"""A lattice translation is stored as SHIFT_ZERO + n, three of them in one int32."""


@dataclass(frozen=True)
class NeighborMatrix:
    """Every neighbour of every atom within the cutoff and the skin.

    Edge (i, c), c < count[i], is r = R_j - R_i + n @ cell, j = index[i, c]: atom i receives, j sends. The list is
    symmetric: edge i <- j by n has its partner j <- i by -n in row j.

    Attributes:
        index: senders; what stands beyond ``count`` is any valid atom.
        shift: lattice translation n of the sender, packed: see `pack_shift`.
        count: neighbours of each atom, at most C.
        cutoff: Å; edges between the cutoff and cutoff + skin are listed, and are for the kernel to leave out.
        skin: Å.
    """

    index: Int[Tensor, "N C"]
    shift: Int[Tensor, "N C"]
    count: Int[Tensor, "N"]
    cutoff: float
    skin: float

    @property
    def capacity(self) -> int:
        """Neighbours that a row has room for."""
        return self.index.shape[1]


def pack_shift(n: Int[Tensor, "*E 3"]) -> Int[Tensor, "*E"]:
    """Three lattice translations in one int32; each between -512 and 511.

    Raises:
        InputError: a translation that does not fit.
    """
    moved = n.long() + SHIFT_ZERO
    if bool(((moved < 0) | (moved >= 2 * SHIFT_ZERO)).any()):
        raise InputError(f"a cutoff reaches over more than {SHIFT_ZERO - 1} cells: use a larger cell")
    x, y, z = moved.unbind(-1)
    return (x | (y << SHIFT_BITS) | (z << 2 * SHIFT_BITS)).int()


def unpack_shift(packed: Int[Tensor, "*E"]) -> Int[Tensor, "*E 3"]:
    """The inverse of `pack_shift`."""
    mask = 2 * SHIFT_ZERO - 1
    parts = [(packed >> (k * SHIFT_BITS)) & mask for k in range(3)]
    return torch.stack(parts, dim=-1) - SHIFT_ZERO


def matrix_of(neighbors: Neighbors, n_atoms: int, capacity: int | None = None) -> NeighborMatrix:
    """A list of edges as a matrix; rows sorted by sender, then by translation.

    Args:
        capacity: room of a row; the longest row, rounded up to a multiple of 8, if not given.

    Raises:
        InputError: rows longer than the capacity; structures with different cutoffs.
    """
    edges = neighbors.full()
    if bool((edges.cutoff != edges.cutoff[:1]).any()):
        raise InputError("structures with different cutoffs cannot share a neighbour matrix")
    packed = pack_shift(edges.shift)
    order = torch.argsort(packed, stable=True)
    order = order[torch.argsort(edges.j[order], stable=True)]
    order = order[torch.argsort(edges.i[order], stable=True)]
    i = edges.i[order]
    count = torch.bincount(i, minlength=n_atoms)
    longest = int(count.max()) if n_atoms else 0
    room = max(8, -(-longest // 8) * 8) if capacity is None else capacity
    if longest > room:
        raise InputError(f"an atom has {longest} neighbours, and its row room for {room}")
    place = torch.arange(len(i), device=i.device) - (count.cumsum(0) - count)[i]
    index = torch.zeros(n_atoms, room, dtype=torch.int32, device=i.device)
    shift = torch.full_like(index, int(pack_shift(torch.zeros(3, dtype=torch.long))))
    index[i, place] = edges.j[order].int()
    shift[i, place] = packed[order]
    return NeighborMatrix(index, shift, count.int(), float(edges.cutoff[0]), edges.skin)
