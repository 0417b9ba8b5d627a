"""MACE's readouts and their gradient, one program an atom: its energy is known only here, and so are the pulls."""

from __future__ import annotations

import triton.language as tl

from heliodor.kernels.gpu.jit import jit


@jit
def readout(  # type: ignore[no-untyped-def]
    b_1,
    b_2,
    species,
    read,
    skip,
    hidden,
    out,
    energy,
    pull_1,
    pull_2,
    GATE: tl.constexpr,
    SCALE: tl.constexpr,
    SHIFT: tl.constexpr,
    Q: tl.constexpr,
    K: tl.constexpr,
    H: tl.constexpr,
    CHANNELS: tl.constexpr,
    HIDDEN: tl.constexpr,
    BACK: tl.constexpr,
):
    """E = SCALE (b_1 · read + GATE silu(b_2 @ hidden + b_1 @ skip[species]) · out) + SHIFT of one atom.

    Args:
        b_1: [N, Q, K], scalars first; b_2 [N, K].
        read: [K]; skip [Z, K, H]; hidden [K, H]; out [H].
        energy: [N], written; pull_1 [N, Q, K], scalars written, and pull_2 [N, K], gradients by b_1 and b_2, if BACK.
        CHANNELS, HIDDEN: K and H rounded up to powers of two.
    """
    i = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, CHANNELS)
    h = tl.arange(0, HIDDEN)
    inside = k < K
    both = inside[:, None] & (h < H)[None, :]
    at = k[:, None] * H + h[None, :]
    one = tl.load(b_1 + i * (Q * K) + k, mask=inside, other=0.0)
    two = tl.load(b_2 + i * K + k, mask=inside, other=0.0)
    first = tl.load(read + k, mask=inside, other=0.0)
    w_1 = tl.load(skip + tl.load(species + i) * (K * H) + at, mask=both, other=0.0)
    w_2 = tl.load(hidden + at, mask=both, other=0.0)
    last = tl.load(out + h, mask=h < H, other=0.0)
    x = tl.sum(one[:, None] * w_1 + two[:, None] * w_2, 0)
    sigmoid = 1.0 / (1.0 + tl.exp(-x))
    told = tl.sum(one * first, 0) + GATE * tl.sum(x * sigmoid * last, 0)
    tl.store(energy + i, SCALE * told + SHIFT)
    if BACK:
        pull = (SCALE * GATE) * last * sigmoid * (1.0 + x * (1.0 - sigmoid))
        tl.store(pull_1 + i * (Q * K) + k, SCALE * first + tl.sum(w_1 * pull[None, :], 1), mask=inside)
        tl.store(pull_2 + i * K + k, tl.sum(w_2 * pull[None, :], 1), mask=inside)
