"""Attention over all atoms of each molecule with random features: time and memory linear in the number of atoms.

Choromanski et al., "Rethinking Attention with Performers" (ICLR 2021), as in SpookyNet (Unke et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from heliodor.halo import Halo
from heliodor.system import System

_FEATURE_FLOOR = 1e-4
"""Added to every feature after its exponent was shifted; without it trained energies move by meV."""

_NORM_FLOOR = 1e-8
_TIE = 100.0
"""Roundings within which exponents count as equal; equivalent atoms differ by up to 6. Wider, in float32, it would take
atoms that are not equivalent for such, and forces be wrong by 2e-4 eV/Å."""

_BLOCK_SIZES = (8, 16, 32, 64)


@dataclass(frozen=True, eq=False)
class Molecules:
    """Which atoms belong together, and a layout in blocks of equal length for sums of outer products.

    A molecule takes as many blocks as it needs; what a batch of mixed sizes wastes is less than one block each.

    Attributes:
        batch: molecule of each atom.
        n: number of molecules B.
        shape: number of blocks and atoms in each.
        place: where each atom lies in the blocks laid end to end; None where it lies there already.
        owner: molecule of each block; None where each has one.
        halo: in a domain of a divided simulation: the ways to the rest of the one molecule that there is.
    """

    batch: Int[Tensor, "N"]
    n: int
    shape: tuple[int, int]
    place: Int[Tensor, "N"] | None
    owner: Int[Tensor, "C"] | None
    halo: Halo | None = None

    @staticmethod
    def of(system: System, width: int, halo: Halo | None = None) -> Molecules:
        """Lay out a batch whose blocks each cost as much as `width` more atoms."""
        if halo is not None:
            return Molecules(system.batch, 1, (1, system.n_atoms), None, None, halo)
        counts = system.counts
        sizes = counts.tolist()
        n = len(sizes)
        if min(sizes) == max(sizes):
            return Molecules(system.batch, n, (n, sizes[0]), None, None)

        def cost(length: int) -> int:
            return sum(-(-size // length) for size in sizes) * (length + width)

        length = min((*_BLOCK_SIZES, max(sizes)), key=cost)
        blocks = (counts + length - 1) // length
        first_block, first_atom = blocks.cumsum(0) - blocks, counts.cumsum(0) - counts
        within = torch.arange(system.n_atoms, device=system.device) - first_atom[system.batch]
        owner = torch.repeat_interleave(torch.arange(n, device=system.device), blocks)
        return Molecules(system.batch, n, (len(owner), length), first_block[system.batch] * length + within, owner)

    def sum(self, x: Float[Tensor, "N *F"]) -> Float[Tensor, "B *F"]:
        """Sum over each molecule's atoms."""
        if self.halo is not None:
            return self.halo.sum(x).unsqueeze(0)
        if self.n == 1:
            return x.sum(0, keepdim=True)
        return x.new_zeros(self.n, *x.shape[1:]).index_add(0, self.batch, x)

    def max(self, x: Float[Tensor, "N"]) -> Float[Tensor, "B"]:
        """Largest value in each molecule; its derivative is shared by all atoms that have it, up to rounding.

        Otherwise rounding would choose among equivalent atoms, and forces would break their symmetry.
        """
        with torch.no_grad():
            if self.halo is not None:
                top = self.halo.largest(x).view(1)
            elif self.n == 1:
                top = x.amax(0, keepdim=True)
            else:
                top = x.new_zeros(self.n).scatter_reduce(0, self.batch, x, "amax", include_self=False)
            reach = top - _TIE * torch.finfo(x.dtype).eps * (1.0 + top.abs())
            tied = (x >= self.spread(reach)).to(x.dtype)
            tied = tied / self.spread(self.sum(tied))
        return self.sum(tied * x)

    def spread(self, x: Float[Tensor, "B *F"]) -> Float[Tensor, "N *F"]:
        """Each molecule's value for each of its atoms (for one molecule: one row, which broadcasts)."""
        return x if self.n == 1 else x.index_select(0, self.batch)

    def blocks(self, x: Float[Tensor, "N F"]) -> Float[Tensor, "C L F"]:
        """Atoms in blocks, zeros where a block is not full."""
        if self.place is not None:
            x = x.new_zeros(self.shape[0] * self.shape[1], x.shape[1]).index_copy(0, self.place, x)
        return x.view(*self.shape, -1)

    def atoms(self, x: Float[Tensor, "C L F"]) -> Float[Tensor, "N F"]:
        """Back from blocks to atoms."""
        flat = x.reshape(-1, x.shape[-1])
        return flat if self.place is None else flat.index_select(0, self.place)


class RandomFeatureAttention(nn.Module):
    """softmax(Q Kᵀ/√F) V by random features exp(U - h), U = X Ω / F^¼, h = |X|²/(2√F), one per feature.

    The frequencies Ω [F, F] are drawn once and belong to the trained model.
    """

    omega: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        # orthogonal directions, with the lengths that independent ones would have
        directions, _ = torch.linalg.qr(torch.randn(n_features, n_features))
        lengths = torch.randn(n_features, n_features).norm(dim=1)
        self.register_buffer("omega", directions * lengths)

    def forward(
        self, q: Float[Tensor, "N F"], k: Float[Tensor, "N F"], v: Float[Tensor, "N F"], molecules: Molecules
    ) -> Float[Tensor, "N F"]:
        """What each atom reads from all atoms of its molecule, itself included."""
        f = q.shape[1]
        scaled = torch.stack([q, k]) / f**0.25
        exponent = torch.matmul(scaled, self.omega.to(q.dtype))
        top = exponent.amax(-1, keepdim=True)
        top_k = molecules.spread(molecules.max(top[1, :, 0]).unsqueeze(-1)).expand(top.shape[1:])
        shift = 0.5 * scaled.square().sum(-1, keepdim=True) + torch.stack([top[0], top_k])
        phi_q, phi_k = ((torch.exp(exponent - shift) + _FEATURE_FLOOR) / f**0.5).unbind(0)

        # a column of ones beside the values carries the norm along
        values = molecules.blocks(torch.cat([v, torch.ones_like(v[:, :1])], dim=1))
        if molecules.halo is not None and molecules.halo.n_local == 0:
            values = 0.0 * values
        memory = torch.bmm(molecules.blocks(phi_k).mT, values)
        if molecules.halo is not None:
            memory = molecules.halo.total(memory)
        if molecules.owner is not None:
            whole = memory.new_zeros(molecules.n, *memory.shape[1:]).index_add(0, molecules.owner, memory)
            memory = whole.index_select(0, molecules.owner)
        read = molecules.atoms(torch.bmm(molecules.blocks(phi_q), memory))
        return read[:, :f] / (read[:, f:] + _NORM_FLOOR)
