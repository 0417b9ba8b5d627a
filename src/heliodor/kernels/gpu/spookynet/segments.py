"""Sums over all atoms of each structure of a batch, the same bits every time."""

# mypy: disable-error-code="import-untyped, no-untyped-def"
from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from heliodor.kernels.gpu.jit import jit
from heliodor.system import System

BLOCK_ONE = 256
"""Atoms that a block of one structure has; sums of outer products go over blocks first."""
BLOCK_BATCH = 32
COLUMNS, ROWS = 64, 16


@jit
def sum_rows(values, first, out, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """out[s] = Σ of values[first[s]:first[s + 1]]; one program for each s and COLUMNS of the width."""
    s = tl.program_id(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    start = tl.load(first + s)
    end = tl.load(first + s + 1)
    total = tl.zeros([ROWS, COLUMNS], out.dtype.element_ty)
    for row in range(start, end, ROWS):
        r = row + tl.arange(0, ROWS)
        at = values + r.to(tl.int64)[:, None] * width + column[None, :]
        total += tl.load(at, mask=(r < end)[:, None] & inside[None, :], other=0.0)
    tl.store(out + s.to(tl.int64) * width + column, tl.sum(total, 0), mask=inside)


@dataclass(frozen=True, eq=False)
class Segments:
    """Which atoms belong together. Made outside captured graphs: it reads sizes of a batch.

    Attributes:
        n_atoms, n: atoms and structures in all.
        batch: structure of each atom.
        counts: atoms of each structure.
        length: atoms in a block.
        n_blocks: blocks, of which a structure has as many as it needs.
        place: where each atom lies in the blocks laid end to end; None for one structure.
        owner: structure of each block.
        first_atom, first_block: of each structure, and past the end.
    """

    n_atoms: int
    n: int
    batch: Int[Tensor, "N"]
    counts: Int[Tensor, "B"]
    length: int
    n_blocks: int
    place: Int[Tensor, "N"] | None
    owner: Int[Tensor, "C"]
    first_atom: Int[Tensor, "B1"]
    first_block: Int[Tensor, "B1"]

    @staticmethod
    def of(system: System) -> Segments:
        batch, n, n_atoms, device = system.batch, system.n_structures, system.n_atoms, system.device
        length = BLOCK_ONE if n == 1 else BLOCK_BATCH
        counts = torch.full_like(batch[:1], n_atoms) if n == 1 else system.counts
        blocks = (counts + length - 1) // length
        first_atom, first_block = (pad(x.cumsum(0), (1, 0)).int() for x in (counts, blocks))
        if n == 1:
            n_blocks = -(-n_atoms // length)
            owner, place = torch.zeros(n_blocks, dtype=batch.dtype, device=device), None
        else:
            n_blocks = int(first_block[-1])
            owner = torch.repeat_interleave(torch.arange(n, device=device), blocks)
            place = torch.arange(n_atoms, device=device) - first_atom[batch] + first_block[batch].long() * length
        return Segments(n_atoms, n, batch, counts, length, n_blocks, place, owner, first_atom, first_block)

    def sum(self, x: Float[Tensor, "N *F"]) -> Float[Tensor, "B *F"]:
        """Sum over each structure's atoms."""
        return x.sum(0, keepdim=True) if self.n == 1 else self._sum_rows(x, self.first_atom)

    def max(self, x: Float[Tensor, "N"]) -> Float[Tensor, "B"]:
        """Largest value of each structure."""
        if self.n == 1:
            return x.amax(0, keepdim=True)
        return x.new_zeros(self.n).scatter_reduce(0, self.batch, x, "amax", include_self=False)

    def spread(self, x: Float[Tensor, "B *F"]) -> Float[Tensor, "#N *F"]:
        """Each structure's value for each of its atoms (for one structure: one row, which broadcasts)."""
        return x if self.n == 1 else x.index_select(0, self.batch)

    def blocks(self, x: Float[Tensor, "N F"]) -> Float[Tensor, "C L F"]:
        """Atoms in blocks, zeros where a block is not full."""
        room = self.n_blocks * self.length
        if self.place is None:
            x = pad(x, (0, 0, 0, room - self.n_atoms))
        else:
            x = x.new_zeros(room, x.shape[1]).index_copy(0, self.place, x)
        return x.view(self.n_blocks, self.length, -1)

    def outer(self, x: Float[Tensor, "C L F"], y: Float[Tensor, "C L G"]) -> Float[Tensor, "B F G"]:
        """Σ x yᵀ over each structure's atoms."""
        parts = torch.bmm(x.mT, y)
        return parts.sum(0, keepdim=True) if self.n == 1 else self._sum_rows(parts, self.first_block)

    def times(self, x: Float[Tensor, "N F"], matrix: Float[Tensor, "B F G"]) -> Float[Tensor, "N G"]:
        """x times its structure's matrix."""
        if self.n == 1:
            return x @ matrix[0]
        read = torch.bmm(self.blocks(x), matrix.index_select(0, self.owner))
        assert self.place is not None
        return read.view(-1, read.shape[-1]).index_select(0, self.place)

    def _sum_rows(self, x: Float[Tensor, "R *F"], first: Int[Tensor, "B1"]) -> Float[Tensor, "B *F"]:
        x = x.contiguous()
        width = x[0].numel()
        out = torch.empty(self.n, *x.shape[1:], dtype=x.dtype, device=x.device)
        sum_rows[(self.n, triton.cdiv(width, COLUMNS))](
            x, first, out, width, ROWS=ROWS, COLUMNS=COLUMNS, num_warps=4
        )  # fmt: skip
        return out
