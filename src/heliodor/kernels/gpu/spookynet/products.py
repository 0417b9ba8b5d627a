"""What SpookyNet makes of an atom's sums over neighbours: the products of projected dipoles and quadrupoles."""

# mypy: disable-error-code="import-untyped, no-untyped-def"
from __future__ import annotations

import triton.language as tl

from heliodor.kernels.gpu.jit import jit
from heliodor.kernels.gpu.spookynet.edges import wide

BLOCK, WARPS = 512, 4


@jit
def combine(center, sums, dipoles, quadrupoles, out, n_atoms, F: tl.constexpr, BLOCK: tl.constexpr):
    """center + Σ s + Σ_a p1 p2 + Σ_m d1 d2 [N, F]; ``dipoles`` [3, N, 2F] and ``quadrupoles`` [5, N, 2F] hold both."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    size = wide(n_atoms) * F
    on = at < size
    pair = (at // F) * (2 * F) + at % F
    y = tl.load(center + at, mask=on, other=0.0) + tl.load(sums + at, mask=on, other=0.0)
    for a in tl.static_range(3):
        p = dipoles + a * 2 * size + pair
        y += tl.load(p, mask=on, other=0.0) * tl.load(p + F, mask=on, other=0.0)
    for m in tl.static_range(5):
        p = quadrupoles + m * 2 * size + pair
        y += tl.load(p, mask=on, other=0.0) * tl.load(p + F, mask=on, other=0.0)
    tl.store(out + at, y, mask=on)


@jit
def combine_back(pull, dipoles, quadrupoles, to_dipoles, to_quadrupoles, n_atoms, F: tl.constexpr, BLOCK: tl.constexpr):
    """∂E/∂ of both projections from ``pull`` [N, F]."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    size = wide(n_atoms) * F
    on = at < size
    pair = (at // F) * (2 * F) + at % F
    g = tl.load(pull + at, mask=on, other=0.0)
    for a in tl.static_range(3):
        p = a * 2 * size + pair
        tl.store(to_dipoles + p, g * tl.load(dipoles + p + F, mask=on, other=0.0), mask=on)
        tl.store(to_dipoles + p + F, g * tl.load(dipoles + p, mask=on, other=0.0), mask=on)
    for m in tl.static_range(5):
        p = m * 2 * size + pair
        tl.store(to_quadrupoles + p, g * tl.load(quadrupoles + p + F, mask=on, other=0.0), mask=on)
        tl.store(to_quadrupoles + p + F, g * tl.load(quadrupoles + p, mask=on, other=0.0), mask=on)
