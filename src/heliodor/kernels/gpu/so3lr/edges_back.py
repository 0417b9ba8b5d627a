"""Attention of SO3krates over the edges of an atom, backward: one program an atom, both directions of each edge.

Row i holds i <- j, and j <- i is its mirror image: the pair's filters are the same, Y_l(-r) = (-1)^l Y_l(r). So one
filter serves both, and all that concerns atom i - its queries, keys, values, its ev, the force on it - is complete in
its row. With g_x = ∂E/∂(update of x) and g_ev = ∂E/∂(update of ev), of branch 1,

    a = Σ_head g_x,i v_j,  b = Σ_head g_x,j v_i,  s = Σ_head q_i w k_j,  t = Σ_head q_j w k_i,
    ∂E/∂q_i += f_c a w k_j,   ∂E/∂k_i += f_c b w q_j,   ∂E/∂v_i += f_c t g_x,j,
    ∂E/∂w = f_c (a q_i k_j + b q_j k_i),   ∂E/∂f_c = Σ_heads a s + b t,

and of branch 2 the same with a_l = Σ_m g_ev,i Y_m, b_l = (-1)^l Σ_m g_ev,j Y_m, ∂E/∂Y_m = f_c (s_l g_ev,i + (-1)^l t_l
g_ev,j). ∂E/∂w goes back through the products of the filters to the distance and to (ev_j - ev_i)².

Edges outside, heads and degrees inside and one after another: a tile of all heads would not fit into registers, and
what a filter is made of, and what goes back to it, is the same for all heads of an edge.
"""

from __future__ import annotations

import triton.language as tl

from heliodor.kernels.gpu.jit import jit
from heliodor.kernels.gpu.so3lr.filters import (
    cut,
    distance,
    matrix,
    piece,
    sigmoid,
    silu_slope,
    spherical_hidden,
    spline,
)


@jit
def attend_back(  # type: ignore[no-untyped-def]
    index,
    vector,
    count,
    angular,
    lower,
    projected,
    ev,
    x_pull,
    ev_pull,
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
    parity,
    climb,
    projected_pull,
    ev_between_pull,
    gradient,
    strain,
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
    LOW: tl.constexpr,
    FIRST: tl.constexpr,
    ADD: tl.constexpr,
    STRAIN: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Derivatives by q, k, v [N, 3 F + 2 G] and by ev through the filters [N, M], by positions and strain.

    The FIRST layer's q, k, v do not depend on positions: only gradient and strain are worked out. ADD: to what other
    layers left in gradient and strain.
    """
    F: tl.constexpr = HEADS * WIDTH
    G: tl.constexpr = DEGREES * DEGREE_WIDTH
    ROW: tl.constexpr = 3 * F + 2 * G
    i = tl.program_id(0).to(tl.int64)
    f = tl.arange(0, WIDTH)
    g = tl.arange(0, DEGREE_WIDTH)
    m = tl.arange(0, M)
    h = tl.arange(0, HEADS)
    o = tl.arange(0, DEGREES)
    own = projected + i * ROW
    degree_at = tl.load(degree_of + m)[None, :]
    if not FIRST:
        q_sum = tl.zeros((HEADS, WIDTH), tl.float32)
        k_sum = tl.zeros((HEADS, WIDTH), tl.float32)
        v_sum = tl.zeros((HEADS, WIDTH), tl.float32)
        q_sum_2 = tl.zeros((DEGREES, DEGREE_WIDTH), tl.float32)
        k_sum_2 = tl.zeros((DEGREES, DEGREE_WIDTH), tl.float32)
        ev_sum = tl.zeros((BLOCK, M), tl.float32)
    x_sum = tl.zeros((BLOCK,), tl.float32)
    y_sum = tl.zeros((BLOCK,), tl.float32)
    z_sum = tl.zeros((BLOCK,), tl.float32)
    if STRAIN:
        pair = tl.arange(0, 16)[None, :]
        strain_sum = tl.zeros((BLOCK, 16), tl.float32)
    n = tl.load(count + i)
    # 0, unknown to the compiler: what is cheap to load again is not held in registers over the heads
    later = tl.minimum(n, 0)
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
        by_c = tl.zeros((BLOCK, RANK), tl.float32)
        by_fc = tl.zeros((BLOCK,), tl.float32)

        if not FIRST:
            between = tl.load(ev + (j * M)[:, None] + m[None, :]) - tl.load(ev + i * M + m)[None, :]
            hidden = spherical_hidden(between, into_1 + again, into_bias_1, M, HIDDEN, PRECISION)
            lit = hidden * sigmoid(hidden)
            by_hidden = tl.zeros((BLOCK, HIDDEN), tl.float32)
        for head in range(heads):
            # 1, unknown to the compiler: left factors stay a tile, not all of it in each warp (64 registers)
            once = tl.where(head < 0, 0.0, 1.0)
            at = head * WIDTH
            combine = piece(combine_1 + at, RANK, WIDTH, F)
            w = tl.dot(c * once, combine, input_precision=PRECISION) + tl.load(bias_1 + at + f)[None, :]
            if not FIRST:
                out = piece(out_1 + at, HIDDEN, WIDTH, F)
                w = tl.dot(lit * once, out, acc=w, input_precision=PRECISION)
            q_i = tl.load(own + at + f)[None, :]
            k_i = tl.load(own + F + at + f)[None, :]
            q_j = tl.load(row + (at + f)[None, :])
            k_j = tl.load(row + (F + at + f)[None, :])
            s = tl.sum(w * q_i * k_j, axis=1)
            t = tl.sum(w * k_i * q_j, axis=1)
            x_pull_j = tl.load(x_pull + (j * F)[:, None] + (at + f)[None, :])
            a = tl.sum(tl.load(x_pull + i * F + at + f)[None, :] * tl.load(row + (2 * F + at + f)[None, :]), axis=1)
            b = tl.sum(x_pull_j * tl.load(own + 2 * F + at + f)[None, :], axis=1)
            by_fc += a * s + b * t
            a = (a * fc)[:, None] * k_j
            b = (b * fc)[:, None] * q_j
            by_w = a * q_i + b * k_i
            by_c = tl.dot(by_w, tl.trans(combine), acc=by_c, input_precision=PRECISION)
            if not FIRST:
                by_hidden = tl.dot(by_w, tl.trans(out), acc=by_hidden, input_precision=PRECISION)
                here = (h == head)[:, None]
                q_sum += tl.where(here, tl.sum(a * w, axis=0)[None, :], 0.0)
                k_sum += tl.where(here, tl.sum(b * w, axis=0)[None, :], 0.0)
                v_sum += tl.where(here, tl.sum((t * fc)[:, None] * x_pull_j, axis=0)[None, :], 0.0)
        if not FIRST:
            into = tl.trans(matrix(into_1 + again, M, HIDDEN))
            by_square = tl.dot(by_hidden * silu_slope(hidden), into, input_precision=PRECISION)
            hidden = spherical_hidden(between, into_2 + again, into_bias_2, M, HIDDEN, PRECISION)
            lit = hidden * sigmoid(hidden)
            by_hidden = tl.zeros((BLOCK, HIDDEN), tl.float32)

        ev_pull_i = tl.load(ev_pull + i * M + m)[None, :]
        ev_pull_j = tl.load(ev_pull + (j * M)[:, None] + m[None, :]) * tl.load(parity + m)[None, :]
        y = tl.load(angular + (i * capacity + e)[:, None] * M + m[None, :], mask=there[:, None], other=0.0)
        by_y = tl.zeros((BLOCK, M), tl.float32)
        for degree in range(degrees):
            once = tl.where(degree < 0, 0.0, 1.0)
            at = degree * DEGREE_WIDTH
            combine = piece(combine_2 + at, RANK, DEGREE_WIDTH, G)
            w = tl.dot(c * once, combine, input_precision=PRECISION) + tl.load(bias_2 + at + g)[None, :]
            if not FIRST:
                out = piece(out_2 + at, HIDDEN, DEGREE_WIDTH, G)
                w = tl.dot(lit * once, out, acc=w, input_precision=PRECISION)
            q_i = tl.load(own + 3 * F + at + g)[None, :]
            k_i = tl.load(own + 3 * F + G + at + g)[None, :]
            q_j = tl.load(row + (3 * F + at + g)[None, :])
            k_j = tl.load(row + (3 * F + G + at + g)[None, :])
            s = tl.sum(w * q_i * k_j, axis=1)
            t = tl.sum(w * k_i * q_j, axis=1)
            own_part = tl.where(degree_at == degree, ev_pull_i, 0.0)
            other_part = tl.where(degree_at == degree, ev_pull_j, 0.0)
            a = tl.sum(own_part * y, axis=1)
            b = tl.sum(other_part * y, axis=1)
            by_fc += a * s + b * t
            by_y += (s * fc)[:, None] * own_part + (t * fc)[:, None] * other_part
            a = (a * fc)[:, None] * k_j
            b = (b * fc)[:, None] * q_j
            by_w = a * q_i + b * k_i
            by_c = tl.dot(by_w, tl.trans(combine), acc=by_c, input_precision=PRECISION)
            if not FIRST:
                by_hidden = tl.dot(by_w, tl.trans(out), acc=by_hidden, input_precision=PRECISION)
                here = (o == degree)[:, None]
                q_sum_2 += tl.where(here, tl.sum(a * w, axis=0)[None, :], 0.0)
                k_sum_2 += tl.where(here, tl.sum(b * w, axis=0)[None, :], 0.0)
        if not FIRST:
            into = tl.trans(matrix(into_2 + again, M, HIDDEN))
            by_square = tl.dot(by_hidden * silu_slope(hidden), into, acc=by_square, input_precision=PRECISION)
            between = tl.load(ev + later + (j * M)[:, None] + m[None, :]) - tl.load(ev + later + i * M + m)[None, :]
            ev_sum -= 2.0 * between * by_square

        # the gradient of a solid harmonic is made of those one degree lower, and its radial part moves no Y
        place = (i * capacity + e)[:, None] * LOW + tl.arange(0, LOW)[None, :]
        low = tl.load(lower + place, mask=there[:, None], other=0.0)
        gx = tl.zeros((BLOCK,), tl.float32)
        gy = tl.zeros((BLOCK,), tl.float32)
        gz = tl.zeros((BLOCK,), tl.float32)
        for axis in range(0, 3 + again):
            rise = matrix(climb + axis * M * LOW, M, LOW)
            along = tl.sum(tl.dot(by_y, rise, input_precision=PRECISION) * low, axis=1)
            gx += tl.where(axis == 0, along, 0.0)
            gy += tl.where(axis == 1, along, 0.0)
            gz += tl.where(axis == 2, along, 0.0)
        d, inverse, ux, uy, uz = distance(vector + (i * 3 * capacity + later), e, there, capacity)
        _, fc_slope = cut(d, cutoff, there)
        _, c_slope = spline(table, d, per_angstrom, INTERVALS, RANK)
        along = by_fc * fc_slope + tl.sum(by_c * c_slope, axis=1) - (ux * gx + uy * gy + uz * gz) * inverse
        gx = along * ux + gx * inverse
        gy = along * uy + gy * inverse
        gz = along * uz + gz * inverse
        x_sum -= gx
        y_sum -= gy
        z_sum -= gz
        if STRAIN:
            # the pair stands in two rows
            half = 0.5 * tl.where(there, d, 0.0)
            u = tl.where(pair < 3, ux[:, None], tl.where(pair < 6, uy[:, None], uz[:, None]))
            by = tl.where(pair % 3 == 0, gx[:, None], tl.where(pair % 3 == 1, gy[:, None], gz[:, None]))
            strain_sum += half[:, None] * u * by
    if not FIRST:
        target = projected_pull + i * ROW + h[:, None] * WIDTH + f[None, :]
        tl.store(target, q_sum)
        tl.store(target + F, k_sum)
        tl.store(target + 2 * F, v_sum)
        target = projected_pull + i * ROW + 3 * F + o[:, None] * DEGREE_WIDTH + g[None, :]
        tl.store(target, q_sum_2)
        tl.store(target + G, k_sum_2)
        tl.store(ev_between_pull + i * M + m, tl.sum(ev_sum, axis=0))
    keep(gradient + 3 * i, x_sum, ADD)
    keep(gradient + 3 * i + 1, y_sum, ADD)
    keep(gradient + 3 * i + 2, z_sum, ADD)
    if STRAIN:
        lanes = tl.arange(0, 16)
        total = tl.sum(strain_sum, axis=0)
        if ADD:
            total += tl.load(strain + 9 * i + lanes, mask=lanes < 9, other=0.0)
        tl.store(strain + 9 * i + lanes, total, mask=lanes < 9)


@jit
def keep(place, parts, ADD: tl.constexpr):  # type: ignore[no-untyped-def]
    """Store the sum of a program's parts, or add it to what its own row already holds."""
    total = tl.sum(parts, axis=0)
    if ADD:
        total += tl.load(place)
    tl.store(place, total)
