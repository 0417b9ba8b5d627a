"""Attention of SO3krates over the edges of an atom, forward: one program an atom.

Branch 1: α_h = f_c/N̄ Σ_a q_a w_a k_a over head h, x_i += α_h v_j; branch 2 with a filter of its own and a head for each
degree, ev_i += α_l Y_l(r). w is the filter of the pair. 1/N̄ is in the filters' weights.
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
    x_update,
    ev_update,
    capacity,
    cutoff,
    per_angstrom,
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
    ROOM: tl.constexpr = M // DEGREES
    ROW: tl.constexpr = 3 * F + 2 * G
    i = tl.program_id(0).to(tl.int64)
    f = tl.arange(0, WIDTH)
    g = tl.arange(0, DEGREE_WIDTH)
    m = tl.arange(0, M)
    o = tl.arange(0, ROOM)
    own = projected + i * ROW
    n = tl.load(count + i)
    for head in range(HEADS):
        at = head * WIDTH
        q_i = tl.load(own + at + f)[None, :]
        x_sum = tl.zeros((BLOCK, WIDTH), tl.float32)
        for start in range(0, n, BLOCK):
            e = start + tl.arange(0, BLOCK)
            there = e < n
            j = tl.load(index + i * capacity + e, mask=there, other=0).to(tl.int64)
            d, _, _, _, _ = distance(vector + i * 3 * capacity, e, there, capacity)
            fc, _ = cut(d, cutoff, there)
            c, _ = spline(table, d, per_angstrom, INTERVALS, RANK)
            w = tl.dot(c, piece(combine_1 + at, RANK, WIDTH, F), input_precision=PRECISION)
            w += tl.load(bias_1 + at + f)[None, :]
            if not FIRST:
                between = tl.load(ev + (j * M)[:, None] + m[None, :]) - tl.load(ev + i * M + m)[None, :]
                z = spherical_hidden(between, into_1, into_bias_1, M, HIDDEN, PRECISION)
                w = tl.dot(z * sigmoid(z), piece(out_1 + at, HIDDEN, WIDTH, F), acc=w, input_precision=PRECISION)
            row = projected + (j * ROW)[:, None] + at
            k_j = tl.load(row + (F + f)[None, :])
            v_j = tl.load(row + (2 * F + f)[None, :])
            x_sum += (tl.sum(w * q_i * k_j, axis=1) * fc)[:, None] * v_j
        tl.store(x_update + i * F + at + f, tl.sum(x_sum, axis=0))
    for degree in range(DEGREES):
        at = degree * DEGREE_WIDTH
        q_i = tl.load(own + 3 * F + at + g)[None, :]
        ev_sum = tl.zeros((BLOCK, ROOM), tl.float32)
        for start in range(0, n, BLOCK):
            e = start + tl.arange(0, BLOCK)
            there = e < n
            j = tl.load(index + i * capacity + e, mask=there, other=0).to(tl.int64)
            d, _, _, _, _ = distance(vector + i * 3 * capacity, e, there, capacity)
            fc, _ = cut(d, cutoff, there)
            c, _ = spline(table, d, per_angstrom, INTERVALS, RANK)
            w = tl.dot(c, piece(combine_2 + at, RANK, DEGREE_WIDTH, G), input_precision=PRECISION)
            w += tl.load(bias_2 + at + g)[None, :]
            if not FIRST:
                between = tl.load(ev + (j * M)[:, None] + m[None, :]) - tl.load(ev + i * M + m)[None, :]
                z = spherical_hidden(between, into_2, into_bias_2, M, HIDDEN, PRECISION)
                w = tl.dot(z * sigmoid(z), piece(out_2 + at, HIDDEN, DEGREE_WIDTH, G), acc=w, input_precision=PRECISION)
            k_j = tl.load(projected + (j * ROW)[:, None] + (3 * F + G + at + g)[None, :])
            place = (i * capacity + e)[:, None] * M + (degree * ROOM + o)[None, :]
            y = tl.load(angular + place, mask=there[:, None], other=0.0)
            ev_sum += (tl.sum(w * q_i * k_j, axis=1) * fc)[:, None] * y
        tl.store(ev_update + i * M + degree * ROOM + o, tl.sum(ev_sum, axis=0))
