"""The numbers of `heliodor.dynamics.captured.philox` from one Triton kernel."""

# mypy: disable-error-code="import-untyped, no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.kernels.gpu.jit import jit

BLOCK = 128


@jit
def draw(out, step, key, count, STREAM: tl.constexpr, BLOCK: tl.constexpr):
    """See `heliodor.dynamics.captured.philox.normals`."""
    atom = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ahead = tl.load(step)
    seed = (tl.load(key + 1).to(tl.uint64) << 32) | tl.load(key).to(tl.uint64)
    c0 = atom.to(tl.uint32)
    c1 = tl.zeros([BLOCK], tl.uint32) + (ahead & 0xFFFFFFFF).to(tl.uint32)
    c2 = tl.zeros([BLOCK], tl.uint32) + (ahead >> 32).to(tl.uint32)
    c3 = tl.zeros([BLOCK], tl.uint32) + STREAM
    a, b, c, d = tl.philox(seed, c0, c1, c2, c3)
    scale = tl.full([BLOCK], 2.3283064365386963e-10, tl.float64)
    half = tl.full([BLOCK], 0.5, tl.float64)
    turn = tl.full([BLOCK], 6.283185307179586, tl.float64)
    minus = tl.full([BLOCK], -2.0, tl.float64)
    first = tl.sqrt(minus * tl.log((a.to(tl.float64) + half) * scale))
    angle = turn * ((b.to(tl.float64) + half) * scale)
    second = tl.sqrt(minus * tl.log((c.to(tl.float64) + half) * scale))
    other = turn * ((d.to(tl.float64) + half) * scale)
    there = atom < count
    tl.store(out + 3 * atom, first * tl.cos(angle), mask=there)
    tl.store(out + 3 * atom + 1, first * tl.sin(angle), mask=there)
    tl.store(out + 3 * atom + 2, second * tl.cos(other), mask=there)


def normals(step: Int[Tensor, "1"], key: Int[Tensor, "2"], count: int, stream: int) -> Float[Tensor, "M 3"]:
    """As `heliodor.dynamics.captured.philox.normals`, to the last digits of logarithm and cosine."""
    out = torch.empty(count, 3, dtype=torch.float64, device=step.device)
    draw[(triton.cdiv(count, BLOCK),)](out, step, key, count, STREAM=stream, BLOCK=BLOCK)
    return out
