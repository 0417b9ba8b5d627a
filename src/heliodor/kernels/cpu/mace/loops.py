"""The inner loops of MACE, compiled by Numba. Channels are the fastest index: loops over them become SIMD.

Arrays: components of degree l and order m first, then atoms, then channels, so that linear maps are matrix products of
whole blocks. All functions work on a range of atoms, write only to those atoms (or their own edges), and release
Python's lock.
"""

from __future__ import annotations

import math

import numpy as np

from heliodor.kernels.cpu.compiled import compiled

_S3, _S5, _S7, _S15, _S105 = (math.sqrt(x) for x in (3.0, 5.0, 7.0, 15.0, 105.0))
_S35_8, _S21_8 = math.sqrt(35.0 / 8.0), math.sqrt(21.0 / 8.0)


@compiled
def harmonics(x, y, z, out):  # type: ignore[no-untyped-def]
    """Harmonics of degrees 0..3 of a unit vector, |Y_l|² = 2l+1, polar axis y, into out [16]."""
    xx, yy, zz = x * x, y * y, z * z
    out[0] = 1.0
    out[1] = _S3 * x
    out[2] = _S3 * y
    out[3] = _S3 * z
    out[4] = _S15 * x * z
    out[5] = _S15 * x * y
    out[6] = _S5 * (yy - 0.5 * (xx + zz))
    out[7] = _S15 * y * z
    out[8] = 0.5 * _S15 * (zz - xx)
    out[9] = _S35_8 * x * (3.0 * zz - xx)
    out[10] = _S105 * x * y * z
    out[11] = _S21_8 * x * (4.0 * yy - xx - zz)
    out[12] = 0.5 * _S7 * y * (2.0 * yy - 3.0 * xx - 3.0 * zz)
    out[13] = _S21_8 * z * (4.0 * yy - xx - zz)
    out[14] = 0.5 * _S105 * y * (zz - xx)
    out[15] = _S35_8 * z * (zz - 3.0 * xx)


@compiled
def harmonics_pullback(x, y, z, d):  # type: ignore[no-untyped-def]
    """Σ_q d_q ∂Y_q/∂(x, y, z) of the polynomials in `harmonics`; d [16]."""
    xx, yy, zz = x * x, y * y, z * z
    gx = _S3 * d[1] + _S15 * (z * d[4] + y * d[5]) - _S5 * x * d[6] - _S15 * x * d[8]
    gy = _S3 * d[2] + _S15 * (x * d[5] + z * d[7]) + 2.0 * _S5 * y * d[6]
    gz = _S3 * d[3] + _S15 * (x * d[4] + y * d[7]) - _S5 * z * d[6] + _S15 * z * d[8]
    gx += _S35_8 * 3.0 * (zz - xx) * d[9] + _S105 * y * z * d[10] + _S21_8 * (4.0 * yy - 3.0 * xx - zz) * d[11]
    gx -= x * (3.0 * _S7 * y * d[12] + 2.0 * _S21_8 * z * d[13] + _S105 * y * d[14] + 6.0 * _S35_8 * z * d[15])
    gy += _S105 * x * z * d[10] + 8.0 * _S21_8 * y * (x * d[11] + z * d[13])
    gy += 1.5 * _S7 * (2.0 * yy - xx - zz) * d[12] + 0.5 * _S105 * (zz - xx) * d[14]
    gz += 6.0 * _S35_8 * x * z * d[9] + _S105 * x * y * d[10] - 2.0 * _S21_8 * x * z * d[11]
    gz += -3.0 * _S7 * y * z * d[12] + _S21_8 * (4.0 * yy - xx - 3.0 * zz) * d[13]
    gz += _S105 * y * z * d[14] + 3.0 * _S35_8 * (zz - xx) * d[15]
    return gx, gy, gz


@compiled
def radial(table, scale, r, out):  # type: ignore[no-untyped-def]
    """Cubic Hermite splines of all radial functions at r into out [F]; table [knots, 2, F] of values and slopes.

    Slopes are per knot distance; scale is knots per Å.
    """
    s = r * scale
    n = min(int(s), table.shape[0] - 2)
    t = s - n
    u = 1.0 - t
    a, b = out.dtype.type(u * u * (1.0 + 2.0 * t)), out.dtype.type(t * u * u)
    c, d = out.dtype.type(t * t * (3.0 - 2.0 * t)), out.dtype.type(-t * t * u)
    for f in range(table.shape[2]):
        out[f] = a * table[n, 0, f] + b * table[n, 1, f] + c * table[n + 1, 0, f] + d * table[n + 1, 1, f]


@compiled
def radial_slope(table, scale, r, out, slope):  # type: ignore[no-untyped-def]
    """As `radial`, and the derivatives by Å into slope [F]."""
    s = r * scale
    n = min(int(s), table.shape[0] - 2)
    t = s - n
    u = 1.0 - t
    a, b = out.dtype.type(u * u * (1.0 + 2.0 * t)), out.dtype.type(t * u * u)
    c, d = out.dtype.type(t * t * (3.0 - 2.0 * t)), out.dtype.type(-t * t * u)
    e, g = out.dtype.type(6.0 * t * u * scale), out.dtype.type(u * (1.0 - 3.0 * t) * scale)
    h = out.dtype.type(t * (3.0 * t - 2.0) * scale)
    for f in range(table.shape[2]):
        p, q, v, w = table[n, 0, f], table[n, 1, f], table[n + 1, 0, f], table[n + 1, 1, f]
        out[f] = a * p + b * q + c * v + d * w
        slope[f] = e * (v - p) + g * q + h * w


@compiled
def turn(entries, values, y, out):  # type: ignore[no-untyped-def]
    """Couplings with the harmonics of one edge: out[c, m1] = Σ w Y; entries [n, 3] of (c, m1, q)."""
    out[:] = 0.0
    for n in range(entries.shape[0]):
        out[entries[n, 0], entries[n, 1]] += values[n] * y[entries[n, 2]]


@compiled
def convolve(first, last, start, sender, vectors, table, scale, g, ways, entries, values, messages):  # type: ignore[no-untyped-def]
    """Messages to atoms first..last.

    Args:
        start: [N+1] of each receiver's edges; sender [E]; vectors [E, 3] Å, from sender to receiver.
        table, scale: radial splines; their F = paths K functions are path by path.
        g: [Q, N, K] features of the senders, q = l1² + m1.
        ways: [C, 3] of each component of the messages: its path, l1, and (for l1 = 0) its harmonic.
        entries, values: couplings of paths with l1 > 0, see `turn`.
        messages: [C, N, K], written.
    """
    channels = g.shape[2]
    count = ways.shape[0]
    y = np.empty(16, g.dtype)
    turned = np.empty((count, 5), g.dtype)
    rows = np.empty((table.shape[2] // channels, channels), g.dtype)
    flat = rows.reshape(-1)
    total = np.empty((count, channels), g.dtype)
    for i in range(first, last):
        total[:] = 0.0
        for e in range(start[i], start[i + 1]):
            j = sender[e]
            vx, vy, vz = vectors[e, 0], vectors[e, 1], vectors[e, 2]
            r = math.sqrt(vx * vx + vy * vy + vz * vz)
            harmonics(vx / r, vy / r, vz / r, y)
            radial(table, scale, r, flat)
            if entries.shape[0]:
                turn(entries, values, y, turned)
            c = 0
            while c < count:
                p, degree = ways[c, 0], ways[c, 1]
                if degree == 0:
                    # one path after the other, all its components at once
                    size = 1
                    while c + size < count and ways[c + size, 0] == p:
                        size += 1
                    q = ways[c, 2]
                    if size == 1:
                        for k in range(channels):
                            total[c, k] += rows[p, k] * g[0, j, k]
                    elif size == 3:
                        y0, y1, y2 = y[q], y[q + 1], y[q + 2]
                        for k in range(channels):
                            w = rows[p, k] * g[0, j, k]
                            total[c, k] += y0 * w
                            total[c + 1, k] += y1 * w
                            total[c + 2, k] += y2 * w
                    elif size == 5:
                        y0, y1, y2, y3, y4 = y[q], y[q + 1], y[q + 2], y[q + 3], y[q + 4]
                        for k in range(channels):
                            w = rows[p, k] * g[0, j, k]
                            total[c, k] += y0 * w
                            total[c + 1, k] += y1 * w
                            total[c + 2, k] += y2 * w
                            total[c + 3, k] += y3 * w
                            total[c + 4, k] += y4 * w
                    else:
                        y0, y1, y2, y3, y4, y5, y6 = y[q], y[q + 1], y[q + 2], y[q + 3], y[q + 4], y[q + 5], y[q + 6]
                        for k in range(channels):
                            w = rows[p, k] * g[0, j, k]
                            total[c, k] += y0 * w
                            total[c + 1, k] += y1 * w
                            total[c + 2, k] += y2 * w
                            total[c + 3, k] += y3 * w
                            total[c + 4, k] += y4 * w
                            total[c + 5, k] += y5 * w
                            total[c + 6, k] += y6 * w
                    c += size
                elif degree == 1:
                    t0, t1, t2 = turned[c, 0], turned[c, 1], turned[c, 2]
                    for k in range(channels):
                        total[c, k] += rows[p, k] * (t0 * g[1, j, k] + t1 * g[2, j, k] + t2 * g[3, j, k])
                    c += 1
                else:
                    t0, t1, t2, t3, t4 = turned[c, 0], turned[c, 1], turned[c, 2], turned[c, 3], turned[c, 4]
                    for k in range(channels):
                        near = t0 * g[4, j, k] + t1 * g[5, j, k] + t2 * g[6, j, k]
                        total[c, k] += rows[p, k] * (near + t3 * g[7, j, k] + t4 * g[8, j, k])
                    c += 1
        for c in range(count):
            for k in range(channels):
                messages[c, i, k] = total[c, k]


@compiled
def convolve_back(first, last, start, other, vectors, table, scale, g, ways, entries, values, pull, g_pull, slopes):  # type: ignore[no-untyped-def]
    """Gradients of `convolve` by the features of atoms first..last as senders and by their edges' vectors.

    Args:
        other: [E] receivers; the edges of an atom are those it receives, taken the other way round.
        pull: [C, N, K] gradients by the messages.
        g_pull: [Q, N, K], written for those atoms.
        slopes: [E, 3], added to: gradient by the vector from `other` to the atom.
    """
    channels = g.shape[2]
    count = ways.shape[0]
    components = g.shape[0]
    y = np.empty(16, g.dtype)
    y_pull = np.empty(16, g.dtype)
    turned = np.empty((count, 5), g.dtype)
    turned_pull = np.zeros((count, 5), g.dtype)
    rows = np.empty((table.shape[2] // channels, channels), g.dtype)
    rows_slope = np.empty((table.shape[2] // channels, channels), g.dtype)
    flat, flat_slope = rows.reshape(-1), rows_slope.reshape(-1)
    own = np.empty((components, channels), g.dtype)
    total = np.empty((components, channels), g.dtype)
    zero = own.dtype.type(0.0)
    for i in range(first, last):
        total[:] = 0.0
        for q in range(components):
            for k in range(channels):
                own[q, k] = g[q, i, k]
        for e in range(start[i], start[i + 1]):
            j = other[e]
            vx, vy, vz = -vectors[e, 0], -vectors[e, 1], -vectors[e, 2]
            r = math.sqrt(vx * vx + vy * vy + vz * vz)
            ux, uy, uz = vx / r, vy / r, vz / r
            harmonics(ux, uy, uz, y)
            radial_slope(table, scale, r, flat, flat_slope)
            if entries.shape[0]:
                turn(entries, values, y, turned)
            y_pull[:] = 0.0
            along = 0.0
            c = 0
            while c < count:
                p, degree = ways[c, 0], ways[c, 1]
                slope = zero
                if degree == 0:
                    size = 1
                    while c + size < count and ways[c + size, 0] == p:
                        size += 1
                    q = ways[c, 2]
                    d0, d1, d2, d3, d4, d5, d6 = zero, zero, zero, zero, zero, zero, zero
                    if size == 1:
                        for k in range(channels):
                            s = pull[c, j, k]
                            total[0, k] += rows[p, k] * s
                            slope += rows_slope[p, k] * s * own[0, k]
                    elif size == 3:
                        y0, y1, y2 = y[q], y[q + 1], y[q + 2]
                        for k in range(channels):
                            x0, x1, x2 = pull[c, j, k], pull[c + 1, j, k], pull[c + 2, j, k]
                            s = y0 * x0 + y1 * x1 + y2 * x2
                            w = rows[p, k] * own[0, k]
                            total[0, k] += rows[p, k] * s
                            slope += rows_slope[p, k] * s * own[0, k]
                            d0 += w * x0
                            d1 += w * x1
                            d2 += w * x2
                    elif size == 5:
                        y0, y1, y2, y3, y4 = y[q], y[q + 1], y[q + 2], y[q + 3], y[q + 4]
                        for k in range(channels):
                            x0, x1, x2 = pull[c, j, k], pull[c + 1, j, k], pull[c + 2, j, k]
                            x3, x4 = pull[c + 3, j, k], pull[c + 4, j, k]
                            s = y0 * x0 + y1 * x1 + y2 * x2 + y3 * x3 + y4 * x4
                            w = rows[p, k] * own[0, k]
                            total[0, k] += rows[p, k] * s
                            slope += rows_slope[p, k] * s * own[0, k]
                            d0 += w * x0
                            d1 += w * x1
                            d2 += w * x2
                            d3 += w * x3
                            d4 += w * x4
                    else:
                        y0, y1, y2, y3, y4, y5, y6 = y[q], y[q + 1], y[q + 2], y[q + 3], y[q + 4], y[q + 5], y[q + 6]
                        for k in range(channels):
                            x0, x1, x2 = pull[c, j, k], pull[c + 1, j, k], pull[c + 2, j, k]
                            x3, x4, x5, x6 = pull[c + 3, j, k], pull[c + 4, j, k], pull[c + 5, j, k], pull[c + 6, j, k]
                            s = y0 * x0 + y1 * x1 + y2 * x2 + y3 * x3 + y4 * x4 + y5 * x5 + y6 * x6
                            w = rows[p, k] * own[0, k]
                            total[0, k] += rows[p, k] * s
                            slope += rows_slope[p, k] * s * own[0, k]
                            d0 += w * x0
                            d1 += w * x1
                            d2 += w * x2
                            d3 += w * x3
                            d4 += w * x4
                            d5 += w * x5
                            d6 += w * x6
                    if size > 1:
                        y_pull[q] += d0
                        y_pull[q + 1] += d1
                        y_pull[q + 2] += d2
                    if size > 3:
                        y_pull[q + 3] += d3
                        y_pull[q + 4] += d4
                    if size > 5:
                        y_pull[q + 5] += d5
                        y_pull[q + 6] += d6
                    c += size
                elif degree == 1:
                    t0, t1, t2 = turned[c, 0], turned[c, 1], turned[c, 2]
                    d0, d1, d2 = zero, zero, zero
                    for k in range(channels):
                        x = pull[c, j, k]
                        xr = x * rows[p, k]
                        a0, a1, a2 = own[1, k], own[2, k], own[3, k]
                        slope += rows_slope[p, k] * x * (t0 * a0 + t1 * a1 + t2 * a2)
                        total[1, k] += t0 * xr
                        total[2, k] += t1 * xr
                        total[3, k] += t2 * xr
                        d0 += xr * a0
                        d1 += xr * a1
                        d2 += xr * a2
                    turned_pull[c, 0], turned_pull[c, 1], turned_pull[c, 2] = d0, d1, d2
                    c += 1
                else:
                    t0, t1, t2, t3, t4 = turned[c, 0], turned[c, 1], turned[c, 2], turned[c, 3], turned[c, 4]
                    d0, d1, d2, d3, d4 = zero, zero, zero, zero, zero
                    for k in range(channels):
                        x = pull[c, j, k]
                        xr = x * rows[p, k]
                        a0, a1, a2, a3, a4 = own[4, k], own[5, k], own[6, k], own[7, k], own[8, k]
                        slope += rows_slope[p, k] * x * (t0 * a0 + t1 * a1 + t2 * a2 + t3 * a3 + t4 * a4)
                        total[4, k] += t0 * xr
                        total[5, k] += t1 * xr
                        total[6, k] += t2 * xr
                        total[7, k] += t3 * xr
                        total[8, k] += t4 * xr
                        d0 += xr * a0
                        d1 += xr * a1
                        d2 += xr * a2
                        d3 += xr * a3
                        d4 += xr * a4
                    turned_pull[c, 0], turned_pull[c, 1], turned_pull[c, 2] = d0, d1, d2
                    turned_pull[c, 3], turned_pull[c, 4] = d3, d4
                    c += 1
                along += slope
            for n in range(entries.shape[0]):
                y_pull[entries[n, 2]] += values[n] * turned_pull[entries[n, 0], entries[n, 1]]
            gx, gy, gz = harmonics_pullback(ux, uy, uz, y_pull)
            radially = ux * gx + uy * gy + uz * gz
            slopes[e, 0] -= along * ux + (gx - radially * ux) / r
            slopes[e, 1] -= along * uy + (gy - radially * uy) / r
            slopes[e, 2] -= along * uz + (gz - radially * uz) / r
        for q in range(components):
            for k in range(channels):
                g_pull[q, i, k] = total[q, k]


@compiled
def edges_by_atom(i, j, vectors, cutoff, n_atoms):  # type: ignore[no-untyped-def]
    """Both directions of the pairs within the cutoff, sorted by receiver.

    Args:
        i, j, vectors: half list, vectors from i to j [H, 3].

    Returns:
        start [N+1], sender [E], vector from sender to receiver [E, 3], pair [E], and whether the receiver is i [E].
    """
    limit = cutoff * cutoff
    start = np.zeros(n_atoms + 1, np.int64)
    near = np.empty(len(i), np.bool_)
    for n in range(len(i)):
        near[n] = vectors[n, 0] ** 2 + vectors[n, 1] ** 2 + vectors[n, 2] ** 2 < limit
        if near[n]:
            start[i[n] + 1] += 1
            start[j[n] + 1] += 1
    for n in range(n_atoms):
        start[n + 1] += start[n]
    total = start[n_atoms]
    place = start[:-1].copy()
    sender, pair = np.empty(total, np.int64), np.empty(total, np.int64)
    forward = np.empty(total, np.bool_)
    edge = np.empty((total, 3), vectors.dtype)
    for n in range(len(i)):
        if near[n]:
            e = place[i[n]]
            place[i[n]] += 1
            sender[e], pair[e], forward[e] = j[n], n, True
            e2 = place[j[n]]
            place[j[n]] += 1
            sender[e2], pair[e2], forward[e2] = i[n], n, False
            for x in range(3):
                edge[e, x] = -vectors[n, x]
                edge[e2, x] = vectors[n, x]
    return start, sender, edge, pair, forward


@compiled
def to_pairs(slopes, pair, forward, result):  # type: ignore[no-untyped-def]
    """Gradients by directed edges [E, 3] onto the vectors of the half list [H, 3]."""
    for e in range(len(pair)):
        sign = -1.0 if forward[e] else 1.0
        for x in range(3):
            result[pair[e], x] += sign * slopes[e, x]
