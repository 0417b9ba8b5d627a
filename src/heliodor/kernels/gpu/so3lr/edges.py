"""Attention of SO3krates over the edges of an atom, forward: one program an atom.

Branch 1: α_h = f_c/N̄ Σ_a q_a w_a k_a over head h, x_i += α_h v_j; branch 2 with a filter of its own and a head for each
degree, ev_i += α_l Y_l(r). w is the filter of the pair. 1/N̄ is in the filters' weights.

Edges outside, heads inside: what a filter is made of (functions of distance, hidden layer of the spherical part) is
worked out once an edge. Sums over edges of all heads are a small tile, of which each head adds to its own row.
"""

from __future__ import annotations

import triton.language as tl

from heliodor.kernels.gpu.jit import jit
from heliodor.kernels.gpu.so3lr.filters import cut, distance, piece, sigmoid, spherical_hidden, spline


@jit
def attend(  # type: ignore[no-untyped-def]
    index,
    vector,
    count,
    angular,
    projected,
    ev,
    table,
    combine_1,
    combine_2,
    bias_1,
    bias_2,
    into_1,
    into_2,
    into_bias_1,
    into_bias_2,
    out_1,
    out_2,
    degree_of,
    x_update,
    ev_update,
    capacity,
    cutoff,
    per_angstrom,
    heads,
    degrees,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    DEGREES: tl.constexpr,
    DEGREE_WIDTH: tl.constexpr,
    M: tl.constexpr,
    HIDDEN: tl.constexpr,
    RANK: tl.constexpr,
    INTERVALS: tl.constexpr,
    FIRST: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Updates of x [N, HEADS WIDTH] and ev [N, M]; in the FIRST layer ev is zero and the spherical part a constant."""
    F: tl.constexpr = HEADS * WIDTH
    G: tl.constexpr = DEGREES * DEGREE_WIDTH
    ROW: tl.constexpr = 3 * F + 2 * G
    i = tl.program_id(0).to(tl.int64)
    f = tl.arange(0, WIDTH)
    g = tl.arange(0, DEGREE_WIDTH)
    m = tl.arange(0, M)
    h = tl.arange(0, HEADS)
    own = projected + i * ROW
    degree_at = tl.load(degree_of + m)[None, :]
    x_sum = tl.zeros((HEADS, WIDTH), tl.float32)
    ev_sum = tl.zeros((BLOCK, M), tl.float32)
    n = tl.load(count + i)
    for start in range(0, n, BLOCK):
        e = start + tl.arange(0, BLOCK)
        there = e < n
        # 0, unknown to the compiler: it would move loads of weights out of the loop and hold them in registers
        again = tl.minimum(start, 0)
        j = tl.load(index + i * capacity + e, mask=there, other=0).to(tl.int64)
        row = projected + (j * ROW)[:, None]
        d, _, _, _, _ = distance(vector + i * 3 * capacity, e, there, capacity)
        fc, _ = cut(d, cutoff, there)
        c, _ = spline(table, d, per_angstrom, INTERVALS, RANK)
        if not FIRST:
            between = tl.load(ev + (j * M)[:, None] + m[None, :]) - tl.load(ev + i * M + m)[None, :]
            z = spherical_hidden(between, into_1 + again, into_bias_1, M, HIDDEN, PRECISION)
            z *= sigmoid(z)
        for head in range(heads):
            at = head * WIDTH
            w = tl.dot(c, piece(combine_1 + at, RANK, WIDTH, F), input_precision=PRECISION)
            w += tl.load(bias_1 + at + f)[None, :]
            if not FIRST:
                w = tl.dot(z, piece(out_1 + at, HIDDEN, WIDTH, F), acc=w, input_precision=PRECISION)
            q_i = tl.load(own + at + f)[None, :]
            k_j = tl.load(row + (F + at + f)[None, :])
            v_j = tl.load(row + (2 * F + at + f)[None, :])
            found = tl.sum((tl.sum(w * q_i * k_j, axis=1) * fc)[:, None] * v_j, axis=0)
            x_sum += tl.where((h == head)[:, None], found[None, :], 0.0)
        if not FIRST:
            z = spherical_hidden(between, into_2 + again, into_bias_2, M, HIDDEN, PRECISION)
            z *= sigmoid(z)
        weight = tl.zeros((BLOCK, M), tl.float32)
        for degree in range(degrees):
            at = degree * DEGREE_WIDTH
            w = tl.dot(c, piece(combine_2 + at, RANK, DEGREE_WIDTH, G), input_precision=PRECISION)
            w += tl.load(bias_2 + at + g)[None, :]
            if not FIRST:
                w = tl.dot(z, piece(out_2 + at, HIDDEN, DEGREE_WIDTH, G), acc=w, input_precision=PRECISION)
            q_i = tl.load(own + 3 * F + at + g)[None, :]
            k_j = tl.load(row + (3 * F + G + at + g)[None, :])
            weight += tl.where(degree_at == degree, (tl.sum(w * q_i * k_j, axis=1) * fc)[:, None], 0.0)
        y = tl.load(angular + (i * capacity + e)[:, None] * M + m[None, :], mask=there[:, None], other=0.0)
        ev_sum += weight * y
    tl.store(x_update + i * F + h[:, None] * WIDTH + f[None, :], x_sum)
    tl.store(ev_update + i * M + m, tl.sum(ev_sum, axis=0))
