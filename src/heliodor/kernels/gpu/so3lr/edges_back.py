"""Attention of SO3krates over the edges of an atom, backward: one program an atom, both directions of each edge.

Row i holds i <- j, and j <- i is its mirror image: the pair's filters are the same, Y_l(-r) = (-1)^l Y_l(r). So one
filter serves both, and all that concerns atom i - its queries, keys, values, its ev, the force on it - is complete in
its row. With g_x = ∂E/∂(update of x) and g_ev = ∂E/∂(update of ev), of branch 1,

    a = Σ_head g_x,i v_j,  b = Σ_head g_x,j v_i,  s = Σ_head q_i w k_j,  t = Σ_head q_j w k_i,
    ∂E/∂q_i += f_c a w k_j,   ∂E/∂k_i += f_c b w q_j,   ∂E/∂v_i += f_c t g_x,j,
    ∂E/∂w = f_c (a q_i k_j + b q_j k_i),   ∂E/∂f_c = Σ_heads a s + b t,

and of branch 2 the same with a_l = Σ_m g_ev,i Y_m, b_l = (-1)^l Σ_m g_ev,j Y_m, ∂E/∂Y_m = f_c (s_l g_ev,i + (-1)^l t_l
g_ev,j). ∂E/∂w goes back through the products of the filters to the distance and to (ev_j - ev_i)².

Head by head and degree by degree, edges inside: a tile of all heads would not fit into registers (2 KB spilled a
thread with 128 features); distances and hidden layers are worked out again for each.
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
    parity,
    climb,
    projected_pull,
    ev_between_pull,
    gradient,
    strain,
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
    ROOM: tl.constexpr = M // DEGREES
    ROW: tl.constexpr = 3 * F + 2 * G
    i = tl.program_id(0).to(tl.int64)
    f = tl.arange(0, WIDTH)
    g = tl.arange(0, DEGREE_WIDTH)
    m = tl.arange(0, M)
    o = tl.arange(0, ROOM)
    own = projected + i * ROW
    target = projected_pull + i * ROW
    if not FIRST:
        ev_i = tl.load(ev + i * M + m)[None, :]
        ev_sum = tl.zeros((BLOCK, M), tl.float32)
    x_sum = tl.zeros((BLOCK,), tl.float32)
    y_sum = tl.zeros((BLOCK,), tl.float32)
    z_sum = tl.zeros((BLOCK,), tl.float32)
    if STRAIN:
        xx = tl.zeros((BLOCK,), tl.float32)
        xy = tl.zeros((BLOCK,), tl.float32)
        xz = tl.zeros((BLOCK,), tl.float32)
        yx = tl.zeros((BLOCK,), tl.float32)
        yy = tl.zeros((BLOCK,), tl.float32)
        yz = tl.zeros((BLOCK,), tl.float32)
        zx = tl.zeros((BLOCK,), tl.float32)
        zy = tl.zeros((BLOCK,), tl.float32)
        zz = tl.zeros((BLOCK,), tl.float32)
    n = tl.load(count + i)
    for head in range(HEADS):
        at = head * WIDTH
        q_i = tl.load(own + at + f)[None, :]
        k_i = tl.load(own + F + at + f)[None, :]
        v_i = tl.load(own + 2 * F + at + f)[None, :]
        x_pull_i = tl.load(x_pull + i * F + at + f)[None, :]
        if not FIRST:
            q_sum = tl.zeros((BLOCK, WIDTH), tl.float32)
            k_sum = tl.zeros((BLOCK, WIDTH), tl.float32)
            v_sum = tl.zeros((BLOCK, WIDTH), tl.float32)
        for start in range(0, n, BLOCK):
            e = start + tl.arange(0, BLOCK)
            there = e < n
            j = tl.load(index + i * capacity + e, mask=there, other=0).to(tl.int64)
            d, inverse, ux, uy, uz = distance(vector + i * 3 * capacity, e, there, capacity)
            fc, fc_slope = cut(d, cutoff, there)
            c, c_slope = spline(table, d, per_angstrom, INTERVALS, RANK)
            combine = piece(combine_1 + at, RANK, WIDTH, F)
            w = tl.dot(c, combine, input_precision=PRECISION) + tl.load(bias_1 + at + f)[None, :]
            if not FIRST:
                between = tl.load(ev + (j * M)[:, None] + m[None, :]) - ev_i
                hidden = spherical_hidden(between, into_1, into_bias_1, M, HIDDEN, PRECISION)
                out = piece(out_1 + at, HIDDEN, WIDTH, F)
                w = tl.dot(hidden * sigmoid(hidden), out, acc=w, input_precision=PRECISION)
            row = projected + (j * ROW)[:, None] + at
            q_j = tl.load(row + (0 + f)[None, :])
            k_j = tl.load(row + (0 + F + f)[None, :])
            s = tl.sum(w * q_i * k_j, axis=1)
            t = tl.sum(w * k_i * q_j, axis=1)
            v_j = tl.load(row + (2 * F + f)[None, :])
            x_pull_j = tl.load(x_pull + (j * F)[:, None] + (at + f)[None, :])
            a = tl.sum(x_pull_i * v_j, axis=1)
            b = tl.sum(x_pull_j * v_i, axis=1)
            by_d = (a * s + b * t) * fc_slope
            if not FIRST:
                v_sum += (t * fc)[:, None] * x_pull_j
            a = (a * fc)[:, None] * k_j
            b = (b * fc)[:, None] * q_j
            by_w = a * q_i + b * k_i
            by_d += tl.sum(tl.dot(by_w, tl.trans(combine), input_precision=PRECISION) * c_slope, axis=1)
            if not FIRST:
                q_sum += a * w
                k_sum += b * w
                by_hidden = tl.dot(by_w, tl.trans(out), input_precision=PRECISION) * silu_slope(hidden)
                into = tl.trans(matrix(into_1, M, HIDDEN))
                ev_sum -= 2.0 * between * tl.dot(by_hidden, into, input_precision=PRECISION)
            gx = by_d * ux
            gy = by_d * uy
            gz = by_d * uz
            x_sum -= gx
            y_sum -= gy
            z_sum -= gz
            if STRAIN:
                # the pair stands in two rows
                half = 0.5 * tl.where(there, d, 0.0)
                xx += half * ux * gx
                xy += half * ux * gy
                xz += half * ux * gz
                yx += half * uy * gx
                yy += half * uy * gy
                yz += half * uy * gz
                zx += half * uz * gx
                zy += half * uz * gy
                zz += half * uz * gz
        if not FIRST:
            tl.store(target + at + f, tl.sum(q_sum, axis=0))
            tl.store(target + F + at + f, tl.sum(k_sum, axis=0))
            tl.store(target + 2 * F + at + f, tl.sum(v_sum, axis=0))
    for degree in range(DEGREES):
        at = degree * DEGREE_WIDTH
        part = degree * ROOM + o
        sign = tl.load(parity + degree)
        q_i = tl.load(own + 3 * F + at + g)[None, :]
        k_i = tl.load(own + 3 * F + G + at + g)[None, :]
        ev_pull_i = tl.load(ev_pull + i * M + part)[None, :]
        if not FIRST:
            q_sum = tl.zeros((BLOCK, DEGREE_WIDTH), tl.float32)
            k_sum = tl.zeros((BLOCK, DEGREE_WIDTH), tl.float32)
        for start in range(0, n, BLOCK):
            e = start + tl.arange(0, BLOCK)
            there = e < n
            j = tl.load(index + i * capacity + e, mask=there, other=0).to(tl.int64)
            d, inverse, ux, uy, uz = distance(vector + i * 3 * capacity, e, there, capacity)
            fc, fc_slope = cut(d, cutoff, there)
            c, c_slope = spline(table, d, per_angstrom, INTERVALS, RANK)
            combine = piece(combine_2 + at, RANK, DEGREE_WIDTH, G)
            w = tl.dot(c, combine, input_precision=PRECISION) + tl.load(bias_2 + at + g)[None, :]
            if not FIRST:
                between = tl.load(ev + (j * M)[:, None] + m[None, :]) - ev_i
                hidden = spherical_hidden(between, into_2, into_bias_2, M, HIDDEN, PRECISION)
                out = piece(out_2 + at, HIDDEN, DEGREE_WIDTH, G)
                w = tl.dot(hidden * sigmoid(hidden), out, acc=w, input_precision=PRECISION)
            row = projected + (j * ROW)[:, None] + at
            q_j = tl.load(row + (3 * F + g)[None, :])
            k_j = tl.load(row + (3 * F + G + g)[None, :])
            s = tl.sum(w * q_i * k_j, axis=1)
            t = tl.sum(w * k_i * q_j, axis=1)
            ev_pull_j = sign * tl.load(ev_pull + (j * M)[:, None] + part[None, :])
            place = (i * capacity + e)[:, None]
            y = tl.load(angular + place * M + part[None, :], mask=there[:, None], other=0.0)
            a = tl.sum(ev_pull_i * y, axis=1)
            b = tl.sum(ev_pull_j * y, axis=1)
            by_d = (a * s + b * t) * fc_slope
            by_y = (s * fc)[:, None] * ev_pull_i + (t * fc)[:, None] * ev_pull_j
            a = (a * fc)[:, None] * k_j
            b = (b * fc)[:, None] * q_j
            by_w = a * q_i + b * k_i
            by_d += tl.sum(tl.dot(by_w, tl.trans(combine), input_precision=PRECISION) * c_slope, axis=1)
            if not FIRST:
                q_sum += a * w
                k_sum += b * w
                by_hidden = tl.dot(by_w, tl.trans(out), input_precision=PRECISION) * silu_slope(hidden)
                into = tl.trans(matrix(into_2, M, HIDDEN))
                ev_sum -= 2.0 * between * tl.dot(by_hidden, into, input_precision=PRECISION)
            # the gradient of a solid harmonic is made of those one degree lower, and its radial part moves no Y
            low = tl.load(lower + place * LOW + tl.arange(0, LOW)[None, :], mask=there[:, None], other=0.0)
            rise = climb + degree * ROOM * LOW
            gx = tl.sum(tl.dot(by_y, matrix(rise, ROOM, LOW), input_precision=PRECISION) * low, axis=1)
            gy = tl.sum(tl.dot(by_y, matrix(rise + M * LOW, ROOM, LOW), input_precision=PRECISION) * low, axis=1)
            gz = tl.sum(tl.dot(by_y, matrix(rise + 2 * M * LOW, ROOM, LOW), input_precision=PRECISION) * low, axis=1)
            along = by_d - (ux * gx + uy * gy + uz * gz) * inverse
            gx = along * ux + gx * inverse
            gy = along * uy + gy * inverse
            gz = along * uz + gz * inverse
            x_sum -= gx
            y_sum -= gy
            z_sum -= gz
            if STRAIN:
                # the pair stands in two rows
                half = 0.5 * tl.where(there, d, 0.0)
                xx += half * ux * gx
                xy += half * ux * gy
                xz += half * ux * gz
                yx += half * uy * gx
                yy += half * uy * gy
                yz += half * uy * gz
                zx += half * uz * gx
                zy += half * uz * gy
                zz += half * uz * gz
        if not FIRST:
            tl.store(target + 3 * F + at + g, tl.sum(q_sum, axis=0))
            tl.store(target + 3 * F + G + at + g, tl.sum(k_sum, axis=0))
    if not FIRST:
        tl.store(ev_between_pull + i * M + m, tl.sum(ev_sum, axis=0))
    keep(gradient + 3 * i, x_sum, ADD)
    keep(gradient + 3 * i + 1, y_sum, ADD)
    keep(gradient + 3 * i + 2, z_sum, ADD)
    if STRAIN:
        keep(strain + 9 * i, xx, ADD)
        keep(strain + 9 * i + 1, xy, ADD)
        keep(strain + 9 * i + 2, xz, ADD)
        keep(strain + 9 * i + 3, yx, ADD)
        keep(strain + 9 * i + 4, yy, ADD)
        keep(strain + 9 * i + 5, yz, ADD)
        keep(strain + 9 * i + 6, zx, ADD)
        keep(strain + 9 * i + 7, zy, ADD)
        keep(strain + 9 * i + 8, zz, ADD)


@jit
def keep(place, parts, ADD: tl.constexpr):  # type: ignore[no-untyped-def]
    """Store the sum of a program's parts, or add it to what its own row already holds."""
    total = tl.sum(parts, axis=0)
    if ADD:
        total += tl.load(place)
    tl.store(place, total)
