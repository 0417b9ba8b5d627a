"""SpookyNet's attention over all atoms of a structure, forth and back by hand (`heliodor.potentials.favor`)."""

# mypy: disable-error-code="import-untyped, no-untyped-def"
from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from heliodor.kernels.gpu.jit import jit
from heliodor.kernels.gpu.spookynet.edges import wide
from heliodor.kernels.gpu.spookynet.segments import Segments
from heliodor.potentials.favor import _FEATURE_FLOOR, _NORM_FLOOR, _TIE, RandomFeatureAttention

FLOOR = tl.constexpr(_FEATURE_FLOOR)
ROWS, WARPS = 8, 4
"""Atoms a program has; with F = 64 four features a thread."""


@jit
def random_features(qk, exponent, top, batch, out, n_atoms, root, F: tl.constexpr, ROWS: tl.constexpr):
    """φ = (exp(U - |x|²/(2√F) - top) + floor)/√F; of queries the top is their own largest U, of keys their structure's.

    ``qk``, ``exponent`` U and ``out`` [2, N, F]; ``root`` = √F.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    keys = tl.program_id(1)
    on = rows < n_atoms
    at = (keys * wide(n_atoms) + rows)[:, None] * F + tl.arange(0, F)[None, :]
    x = tl.load(qk + at, mask=on[:, None], other=0.0)
    u = tl.load(exponent + at, mask=on[:, None], other=0.0)
    own = tl.max(u, 1)
    shared = tl.load(top + tl.load(batch + rows, mask=on, other=0))
    shift = tl.where(keys == 1, shared, own) + 0.5 * tl.sum(x * x, 1) / root
    tl.store(out + at, (tl.exp(u - shift[:, None]) + FLOOR) / root, mask=on[:, None])


@jit
def random_features_back(qk, exponent, phi, pull, to_qk, to_exponent, total, n_atoms, root, F: tl.constexpr,
                         ROWS: tl.constexpr):  # fmt: skip
    """∂E/∂x by |x|² and ∂E/∂U, with what queries' tops add; ``total`` [N] is what keys' tops are to get."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    keys = tl.program_id(1)
    on = rows < n_atoms
    at = (keys * wide(n_atoms) + rows)[:, None] * F + tl.arange(0, F)[None, :]
    u = tl.load(exponent + at, mask=on[:, None], other=0.0)
    w = tl.load(pull + at, mask=on[:, None], other=0.0) * (
        tl.load(phi + at, mask=on[:, None], other=0.0) - FLOOR / root
    )
    whole = tl.sum(w, 1)
    tl.store(to_qk + at, -whole[:, None] * tl.load(qk + at, mask=on[:, None], other=0.0) / root, mask=on[:, None])
    highest = (u == tl.max(u, 1)[:, None]).to(u.dtype)
    share = whole / tl.sum(highest, 1)
    w -= tl.where(keys == 1, 0.0, share)[:, None] * highest
    tl.store(to_exponent + at, w, mask=on[:, None])
    tl.store(total + rows, whole, mask=on & (keys == 1))


@jit
def top_back(exponent, pull, to_exponent, n_atoms, F: tl.constexpr, ROWS: tl.constexpr):
    """Adds ``pull`` [N] to the gradient of each atom's largest U; atoms without any are not read."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    g = tl.load(pull + rows, mask=rows < n_atoms, other=0.0)
    on = (g != 0.0)[:, None]
    at = rows[:, None] * F + tl.arange(0, F)[None, :]
    u = tl.load(exponent + at, mask=on, other=0.0)
    highest = (u == tl.max(u, 1)[:, None]).to(u.dtype)
    was = tl.load(to_exponent + at, mask=on, other=0.0)
    tl.store(to_exponent + at, was + (g / tl.sum(highest, 1))[:, None] * highest, mask=on)


@dataclass(frozen=True, eq=False)
class AttentionKept:
    """What the way back reads."""

    qk: Float[Tensor, "2 N F"]
    exponent: Float[Tensor, "2 N F"]
    phi: Float[Tensor, "2 N F"]
    v: Float[Tensor, "N F"]
    tied: Float[Tensor, "N"]
    memory: Float[Tensor, "B F F"]
    norms: Float[Tensor, "B F"]
    weight: Float[Tensor, "N 1"]
    read: Float[Tensor, "N F"]


@dataclass(frozen=True, eq=False)
class Attention:
    """What each atom reads from all atoms of its structure, with features of queries and keys by frequencies Ω/F^¼."""

    frequencies: Float[Tensor, "F F"]

    @staticmethod
    def of(module: RandomFeatureAttention, dtype: torch.dtype) -> Attention:
        f = module.omega.shape[0]
        return Attention((module.omega.detach().double() / f**0.25).to(dtype).contiguous())

    def forth(
        self, qk: Float[Tensor, "2 N F"], v: Float[Tensor, "N F"], atoms: Segments
    ) -> tuple[Float[Tensor, "N F"], AttentionKept]:
        """``qk``: queries and keys, contiguous."""
        n, f = v.shape
        exponent = torch.matmul(qk.view(2 * n, f), self.frequencies).view(2, n, f)
        top, tied = _tops(exponent[1].amax(-1), atoms)
        phi = torch.empty_like(qk)
        random_features[(triton.cdiv(n, ROWS), 2)](
            qk, exponent, top, atoms.batch, phi, n, f**0.5, F=f, ROWS=ROWS, num_warps=WARPS
        )
        memory = atoms.outer(atoms.blocks(phi[1]), atoms.blocks(v))
        norms = atoms.sum(phi[1])
        weight = 1.0 / ((phi[0] * atoms.spread(norms)).sum(-1, keepdim=True) + _NORM_FLOOR)
        read = atoms.times(phi[0], memory) * weight
        return read, AttentionKept(qk, exponent, phi, v, tied, memory, norms, weight, read)

    def back(
        self, pull: Float[Tensor, "N F"], kept: AttentionKept, atoms: Segments, out: Float[Tensor, "3 N F"]
    ) -> None:
        """``out``: ∂E/∂(q, k, v), contiguous."""
        n, f = pull.shape
        phi = kept.phi
        g = pull * kept.weight
        norm = -(g * kept.read).sum(-1, keepdim=True)
        memory = atoms.outer(atoms.blocks(phi[0]), atoms.blocks(g))
        pulled = torch.empty_like(phi)
        torch.add(atoms.times(g, kept.memory.mT), norm * atoms.spread(kept.norms), out=pulled[0])
        torch.add(atoms.times(kept.v, memory.mT), atoms.spread(atoms.sum(phi[0] * norm)), out=pulled[1])
        out[2].copy_(atoms.times(phi[1], memory))
        direct, exponent = torch.empty_like(phi), torch.empty_like(phi)
        total = torch.empty(n, dtype=pull.dtype, device=pull.device)
        grid = triton.cdiv(n, ROWS)
        random_features_back[(grid, 2)](
            kept.qk, kept.exponent, phi, pulled, direct, exponent, total, n, f**0.5, F=f, ROWS=ROWS, num_warps=WARPS
        )
        to_top = -atoms.spread(atoms.sum(total)) * kept.tied
        top_back[(grid,)](kept.exponent[1], to_top, exponent[1], n, F=f, ROWS=ROWS, num_warps=WARPS)
        torch.addmm(
            direct.view(2 * n, f), exponent.view(2 * n, f), self.frequencies.mT, out=out[:2].view(2 * n, f)
        )  # fmt: skip


def _tops(own: Float[Tensor, "N"], atoms: Segments) -> tuple[Float[Tensor, "B"], Float[Tensor, "N"]]:
    """Largest value of each structure and its derivative, shared by all atoms that have it (`Molecules.max`)."""
    top = atoms.max(own)
    reach = top - _TIE * torch.finfo(own.dtype).eps * (1.0 + top.abs())
    tied = (own >= atoms.spread(reach)).to(own.dtype)
    tied = tied / atoms.spread(atoms.sum(tied))
    return atoms.sum(tied * own), tied
