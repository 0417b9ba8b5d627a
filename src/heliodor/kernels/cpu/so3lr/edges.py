"""The edges of a SO3krates layer, compiled: filters, attention to neighbours, and the way back.

Both filters of a pair depend on its length and on the squared difference of the two atoms' ev: each pair of the half
list is worked out once, for both directions. Each thread takes the pairs of a range of receiving atoms and adds to sums
of its own, which are added up in a fixed order: the same numbers of threads give the same bits.
"""

from __future__ import annotations

import numpy as np

from heliodor.kernels.cpu.compiled import compiled
from heliodor.kernels.cpu.functions import ROWS, copy, multiply, silu_all, silu_slope_all, spline_row
from heliodor.kernels.cpu.vector import add, fma, load, mul, splat, store, total

TILE = 4 * ROWS
"""Pairs that are worked on together: their filters stay in the second-level cache."""


@compiled
def filters(  # type: ignore[no-untyped-def]
    p, count, pair_i, pair_j, d, ev, layer, between, square, inv, hidden, active, w,
):  # fmt: skip
    """Both filters of so many pairs from p on into w [TILE, 2F]; their hidden units before silu stay in hidden.

    Args:
        layer: `EdgesOfLayer` of `heliodor.kernels.cpu.so3lr.tables`.
        between: [TILE, M], flat: differences of the atoms' ev, written; square likewise, scratch.
        inv: [TILE, 16], flat: their invariants, scratch.
        hidden, active: [TILE, 2S], flat; before and after silu.
    """
    f2 = layer.table.shape[2]
    f = f2 // 2
    s2 = layer.spherical_bias.shape[0]
    s = s2 // 2
    m_count, degrees = ev.shape[1], layer.norms.shape[0]
    for r in range(count):
        spline_row(layer.table, layer.scale, d[p + r], w, r * f2)
    if not layer.spherical:
        return
    minus = splat(ev.dtype.type(-1.0))
    for r in range(count):
        i, j = pair_i[p + r] * m_count, pair_j[p + r] * m_count
        for m in range(0, m_count, 8):
            x = fma(minus, load(ev, i + m), load(ev, j + m))
            store(between, r * m_count + m, x)
            store(square, r * m_count + m, mul(x, x))
        copy(layer.spherical_bias, 0, hidden, r * s2, s2)
    multiply(square, 0, m_count, layer.contract, 0, inv, 0, 16, count, m_count, 16, False)
    multiply(inv, 0, 16, layer.spherical_hidden, 0, hidden, 0, s2, count, degrees, s2, True)
    silu_all(hidden, count * s2, active)
    multiply(active, 0, s2, layer.spherical_out, 0, w, 0, f2, count, s, f, True)
    multiply(active, s, s2, layer.spherical_out, s * f, w, f, f2, count, s, f, True)


@compiled
def attend(  # type: ignore[no-untyped-def]
    thread, first, last, start, pair_i, pair_j, d, scaled, harmonics, proj, ev, layer, x_sum, ev_sum, alpha,
):  # fmt: skip
    """What the atoms send to one another, pairs of receivers first..last, added up for this thread.

    Args:
        thread: which of the sums to add to; it is set to zero first.
        start, pair_i, pair_j: [N+1] first pair of each atom, and the pairs' atoms.
        d, scaled: [P] Å, and cutoff function over average number of neighbours.
        harmonics: [P, M].
        proj: [N, 5F] queries, keys and values of the first branch, queries and keys of the second.
        ev: [N, M].
        x_sum, ev_sum: [T, N, F] and [T, N, M].
        alpha: [P, 2 (H + L)] attention to j and to i, by heads and degrees, written for the way back.
    """
    heads, degrees = layer.heads, layer.norms.shape[0]
    f, m_count = x_sum.shape[2], ev.shape[1]
    width, wide = f // heads, f // degrees
    real = proj.dtype.type
    w = np.zeros(TILE * 2 * f, proj.dtype)
    s2 = layer.spherical_bias.shape[0]
    hidden, active = np.zeros(TILE * s2, proj.dtype), np.zeros(TILE * s2, proj.dtype)
    between, square = np.zeros(TILE * m_count, proj.dtype), np.zeros(TILE * m_count, proj.dtype)
    inv = np.zeros(TILE * 16, proj.dtype)
    to_i, to_j = np.zeros(m_count, proj.dtype), np.zeros(m_count, proj.dtype)
    xs, es = x_sum[thread], ev_sum[thread]
    xs[:] = 0.0
    es[:] = 0.0
    zero = splat(real(0.0))
    for p in range(start[first], start[last], TILE):
        count = min(TILE, start[last] - p)
        filters(p, count, pair_i, pair_j, d, ev, layer, between, square, inv, hidden, active, w)
        for r in range(count):
            i, j = pair_i[p + r], pair_j[p + r]
            ai, aj, wr = i * 5 * f, j * 5 * f, r * 2 * f
            s = scaled[p + r]
            for h in range(heads):
                a, b = zero, zero
                for o in range(h * width, (h + 1) * width, 8):
                    u = load(w, wr + o)
                    a = fma(mul(load(proj, ai + o), u), load(proj, aj + f + o), a)
                    b = fma(mul(load(proj, aj + o), u), load(proj, ai + f + o), b)
                ij, ji = total(a) * s, total(b) * s
                alpha[p + r, h], alpha[p + r, heads + degrees + h] = ij, ji
                vi, vj = splat(ij), splat(ji)
                for o in range(h * width, (h + 1) * width, 8):
                    store(xs, i * f + o, fma(vi, load(proj, aj + 2 * f + o), load(xs, i * f + o)))
                    store(xs, j * f + o, fma(vj, load(proj, ai + 2 * f + o), load(xs, j * f + o)))
            for n in range(degrees):
                a, b = zero, zero
                for o in range(n * wide, (n + 1) * wide, 8):
                    u = load(w, wr + f + o)
                    a = fma(mul(load(proj, ai + 3 * f + o), u), load(proj, aj + 4 * f + o), a)
                    b = fma(mul(load(proj, aj + 3 * f + o), u), load(proj, ai + 4 * f + o), b)
                ij, ji = total(a) * s, total(b) * s
                alpha[p + r, heads + n], alpha[p + r, 2 * heads + degrees + n] = ij, ji
                # harmonics of odd degree change their sign with the direction
                ji *= layer.parity[n]
                for m in range(layer.first[n], layer.first[n + 1]):
                    to_i[m], to_j[m] = ij, ji
            for m in range(0, m_count, 8):
                y = load(harmonics, (p + r) * m_count + m)
                store(es, i * m_count + m, fma(load(to_i, m), y, load(es, i * m_count + m)))
                store(es, j * m_count + m, fma(load(to_j, m), y, load(es, j * m_count + m)))


@compiled
def attend_back(  # type: ignore[no-untyped-def]
    thread, first, last, start, pair_i, pair_j, d, scaled, harmonics, proj, ev, layer, alpha,
    x_pull, ev_pull, proj_pull, ev_back, d_pull, scaled_pull, harmonics_pull,
):  # fmt: skip
    """Derivatives by what `attend` took, from those by its sums, x_pull [N, F] and ev_pull [N, M].

    Args:
        proj_pull: [T, N, 5F], by the projections; left alone in the first layer, whose features are constants.
        ev_back: [T, N, M], by ev through the filters; likewise.
        d_pull, scaled_pull, harmonics_pull: [P], [P], [P, M], added to.
    """
    heads, degrees = layer.heads, layer.norms.shape[0]
    f, m_count = x_pull.shape[1], ev.shape[1]
    f2 = 2 * f
    width, wide, wide_ev = f // heads, f // degrees, -(-m_count // 16) * 16
    real = proj.dtype.type
    w, dw = np.zeros(TILE * f2, proj.dtype), np.zeros(TILE * f2, proj.dtype)
    s2 = layer.spherical_bias.shape[0]
    half = s2 // 2
    hidden, active = np.zeros(TILE * s2, proj.dtype), np.zeros(TILE * s2, proj.dtype)
    between, square = np.zeros(TILE * m_count, proj.dtype), np.zeros(TILE * m_count, proj.dtype)
    inv = np.zeros(TILE * 16, proj.dtype)
    expanded = np.zeros((4, m_count), proj.dtype)
    flat = expanded.reshape(-1)
    gain = np.zeros(TILE * wide_ev, proj.dtype)
    pp, eb = proj_pull[thread], ev_back[thread]
    deeper = layer.spherical
    if deeper:
        pp[:] = 0.0
        eb[:] = 0.0
    zero = splat(real(0.0))
    knots = layer.table.shape[0]
    minus = splat(real(-1.0))
    for p in range(start[first], start[last], TILE):
        count = min(TILE, start[last] - p)
        filters(p, count, pair_i, pair_j, d, ev, layer, between, square, inv, hidden, active, w)
        for r in range(count):
            i, j = pair_i[p + r], pair_j[p + r]
            ai, aj, wr = i * 5 * f, j * 5 * f, r * f2
            s = scaled[p + r]
            s_pull = real(0.0)
            for h in range(heads):
                a, b = zero, zero
                for o in range(h * width, (h + 1) * width, 8):
                    a = fma(load(x_pull, i * f + o), load(proj, aj + 2 * f + o), a)
                    b = fma(load(x_pull, j * f + o), load(proj, ai + 2 * f + o), b)
                pull_ij, pull_ji = total(a), total(b)
                ij, ji = alpha[p + r, h], alpha[p + r, heads + degrees + h]
                s_pull += pull_ij * ij + pull_ji * ji
                ga, gb, va, vb = splat(pull_ij * s), splat(pull_ji * s), splat(ij), splat(ji)
                for o in range(h * width, (h + 1) * width, 8):
                    qi, ki = mul(ga, load(proj, ai + o)), mul(gb, load(proj, ai + f + o))
                    qj, kj = load(proj, aj + o), load(proj, aj + f + o)
                    store(dw, wr + o, fma(qi, kj, mul(qj, ki)))
                    if deeper:
                        u = load(w, wr + o)
                        ua, ub = mul(u, ga), mul(u, gb)
                        store(pp, ai + o, fma(ua, kj, load(pp, ai + o)))
                        store(pp, ai + f + o, fma(ub, qj, load(pp, ai + f + o)))
                        store(pp, aj + o, fma(u, ki, load(pp, aj + o)))
                        store(pp, aj + f + o, fma(u, qi, load(pp, aj + f + o)))
                        y = load(x_pull, j * f + o)
                        store(pp, ai + 2 * f + o, fma(vb, y, load(pp, ai + 2 * f + o)))
                        y = load(x_pull, i * f + o)
                        store(pp, aj + 2 * f + o, fma(va, y, load(pp, aj + 2 * f + o)))
            for n in range(degrees):
                ij, ji = alpha[p + r, heads + n], alpha[p + r, 2 * heads + degrees + n]
                for m in range(layer.first[n], layer.first[n + 1]):
                    expanded[0, m], expanded[1, m] = ij, ji * layer.parity[n]
            for m in range(0, m_count, 8):
                gi, gj = load(ev_pull, i * m_count + m), load(ev_pull, j * m_count + m)
                y = load(harmonics, (p + r) * m_count + m)
                o = (p + r) * m_count + m
                g = fma(load(flat, m), gi, fma(load(flat, m_count + m), gj, load(harmonics_pull, o)))
                store(harmonics_pull, o, g)
                store(flat, 2 * m_count + m, mul(gi, y))
                store(flat, 3 * m_count + m, mul(gj, y))
            for n in range(degrees):
                pull_ij, pull_ji = real(0.0), real(0.0)
                for m in range(layer.first[n], layer.first[n + 1]):
                    pull_ij += expanded[2, m]
                    pull_ji += expanded[3, m]
                pull_ji *= layer.parity[n]
                ij, ji = alpha[p + r, heads + n], alpha[p + r, 2 * heads + degrees + n]
                s_pull += pull_ij * ij + pull_ji * ji
                ga, gb = splat(pull_ij * s), splat(pull_ji * s)
                for o in range(3 * f + n * wide, 3 * f + (n + 1) * wide, 8):
                    qi, ki = mul(ga, load(proj, ai + o)), mul(gb, load(proj, ai + f + o))
                    qj, kj = load(proj, aj + o), load(proj, aj + f + o)
                    at = wr + o - 2 * f
                    store(dw, at, fma(qi, kj, mul(qj, ki)))
                    if deeper:
                        u = load(w, at)
                        ua, ub = mul(u, ga), mul(u, gb)
                        store(pp, ai + o, fma(ua, kj, load(pp, ai + o)))
                        store(pp, ai + f + o, fma(ub, qj, load(pp, ai + f + o)))
                        store(pp, aj + o, fma(u, ki, load(pp, aj + o)))
                        store(pp, aj + f + o, fma(u, qi, load(pp, aj + f + o)))
            # alpha has the factor s in it
            scaled_pull[p + r] += s_pull / s if s != 0.0 else real(0.0)
            x = d[p + r] * layer.scale
            k = max(min(int(x), knots - 2), 0)
            t = x - k
            e1 = splat(real(6.0 * t * (1.0 - t) * layer.scale))
            e2 = splat(real((1.0 - t) * (1.0 - 3.0 * t) * layer.scale))
            e3 = splat(real(t * (3.0 * t - 2.0) * layer.scale))
            base = 2 * k * f2
            a = zero
            for o in range(0, f2, 8):
                rise = fma(minus, load(layer.table, base + o), load(layer.table, base + 2 * f2 + o))
                g = fma(e2, load(layer.table, base + f2 + o), mul(e3, load(layer.table, base + 3 * f2 + o)))
                a = fma(fma(e1, rise, g), load(dw, wr + o), a)
            d_pull[p + r] += total(a)
        if deeper:
            multiply(dw, 0, f2, layer.spherical_back, 0, active, 0, s2, count, f, half, False)
            multiply(dw, f, f2, layer.spherical_back, f * half, active, half, s2, count, f, half, False)
            silu_slope_all(hidden, count * s2, active)
            multiply(active, 0, s2, layer.spherical_hidden_back, 0, inv, 0, 16, count, s2, 16, False)
            multiply(inv, 0, 16, layer.contract_back, 0, gain, 0, wide_ev, count, degrees, wide_ev, False)
            for r in range(count):
                i, j = pair_i[p + r] * m_count, pair_j[p + r] * m_count
                for m in range(0, m_count, 8):
                    g = mul(load(gain, r * wide_ev + m), load(between, r * m_count + m))
                    store(eb, j + m, add(load(eb, j + m), g))
                    store(eb, i + m, fma(g, minus, load(eb, i + m)))
