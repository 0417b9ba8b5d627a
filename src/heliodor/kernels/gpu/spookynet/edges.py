"""Kernels of SpookyNet's local messages: the edges in reach, sums over neighbours, and their way back.

One program an atom, which reads a row of the full symmetric list and writes what is its own: no atomics, the same bits
every time. Angular functions of a unit vector u: 1; u_x, u_y, u_z; the five of degree 2 (`spookynet_blocks`).
"""

# mypy: disable-error-code="import-untyped, no-untyped-def"
from __future__ import annotations

from typing import Any

import triton.language as tl

from heliodor.kernels.gpu.jit import jit

ROOT3: Any = tl.constexpr(1.7320508075688772)
HALF_ROOT3: Any = tl.constexpr(0.8660254037844386)


@jit
def wide(n):
    """A number of atoms in 64 bits, also where it is 1 and the compiler takes it for a constant."""
    return tl.zeros([], tl.int64) + n


@jit
def edges_in_reach(
    positions,
    cell,
    batch,
    index,
    shift,
    count,
    send,
    geometry,
    reached,
    n_atoms,
    capacity,
    cutoff,
    C: tl.constexpr,
):
    """Senders, unit vectors and distances of the edges within the cutoff, moved to the front of each row."""
    i = tl.program_id(0).to(tl.int64)
    n = tl.load(count + i)
    b = tl.load(batch + i)
    x = tl.load(positions + 3 * i)
    y = tl.load(positions + 3 * i + 1)
    z = tl.load(positions + 3 * i + 2)
    found = 0
    plane = wide(n_atoms) * capacity
    for start in range(0, n, C):
        c = start + tl.arange(0, C)
        on = c < n
        j = tl.load(index + i * capacity + c, mask=on, other=0).to(tl.int64)
        packed = tl.load(shift + i * capacity + c, mask=on, other=0)
        a0 = ((packed & 1023) - 512).to(tl.float64)
        a1 = (((packed >> 10) & 1023) - 512).to(tl.float64)
        a2 = (((packed >> 20) & 1023) - 512).to(tl.float64)
        h = cell + 9 * b
        rx = tl.load(positions + 3 * j, mask=on, other=0.0) - x
        ry = tl.load(positions + 3 * j + 1, mask=on, other=0.0) - y
        rz = tl.load(positions + 3 * j + 2, mask=on, other=0.0) - z
        rx += a0 * tl.load(h) + a1 * tl.load(h + 3) + a2 * tl.load(h + 6)
        ry += a0 * tl.load(h + 1) + a1 * tl.load(h + 4) + a2 * tl.load(h + 7)
        rz += a0 * tl.load(h + 2) + a1 * tl.load(h + 5) + a2 * tl.load(h + 8)
        d = tl.where(on, tl.sqrt(rx * rx + ry * ry + rz * rz), 1.0)
        near = on & (d < cutoff)
        place = found + tl.cumsum(near.to(tl.int32), 0) - 1
        at = i * capacity + place
        tl.store(send + at, j.to(tl.int32), mask=near)
        kind = geometry.dtype.element_ty
        tl.store(geometry + at, (rx / d).to(kind), mask=near)
        tl.store(geometry + plane + at, (ry / d).to(kind), mask=near)
        tl.store(geometry + 2 * plane + at, (rz / d).to(kind), mask=near)
        tl.store(geometry + 3 * plane + at, d.to(kind), mask=near)
        found += tl.sum(near.to(tl.int32), 0)
    tl.store(reached + i, found)


@jit
def _edge(geometry, send, row, plane, c, on):
    """Sender, unit vector and distance; lanes that hold none get atom 0, no direction and 1 Å."""
    j = tl.load(send + row + c, mask=on, other=0).to(tl.int64)
    x = tl.load(geometry + row + c, mask=on, other=0.0)
    y = tl.load(geometry + plane + row + c, mask=on, other=0.0)
    z = tl.load(geometry + 2 * plane + row + c, mask=on, other=0.0)
    d = tl.load(geometry + 3 * plane + row + c, mask=on, other=1.0)
    return j, x, y, z, d


@jit
def _powers(spline, d, per_length, k, M: tl.constexpr, K: tl.constexpr):
    """Coefficients [E, K] of the interval each distance lies in, and the place in it."""
    scaled = d * per_length
    m = tl.minimum(scaled.to(tl.int32), M - 1)
    t = (scaled - m.to(d.dtype))[:, None]
    at = spline + m[:, None] * (4 * K) + k[None, :]
    return tl.load(at), tl.load(at + K), tl.load(at + 2 * K), tl.load(at + 3 * K), t


@jit
def neighbor_sums(
    geometry,
    send,
    reached,
    spline,
    weight,
    features,
    out,
    n_atoms,
    capacity,
    per_length,
    M: tl.constexpr,
    F: tl.constexpr,
    K: tl.constexpr,
    E: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """out[0], out[1:4], out[4:9] [N, F]: Σ_j g_s s_j, Σ_j u g_p p_j, Σ_j Y_2(u) g_d d_j; one program for each of them.

    ``weight`` [3, K, F] makes the filters g_s, g_p, g_d of the radial basis; ``features`` [3, N, F] are s, p, d.
    """
    i = tl.program_id(0).to(tl.int64)
    # the longest first
    degree = 2 - tl.program_id(1)
    n = tl.load(reached + i)
    f = tl.arange(0, F)
    k = tl.arange(0, K)
    e = tl.arange(0, E)
    kind = out.dtype.element_ty
    size = wide(n_atoms) * F
    plane = wide(n_atoms) * capacity
    row = i * capacity
    w = tl.load(weight + degree * (K * F) + k[:, None] * F + f[None, :])
    sent = features + degree * size
    own = out + i * F + f
    if degree == 0:
        s = tl.zeros([E, F], kind)
        for start in range(0, n, E):
            c = start + e
            on = c < n
            j, _x, _y, _z, d = _edge(geometry, send, row, plane, c, on)
            c0, c1, c2, c3, t = _powers(spline, d, per_length, k, M, K)
            g = tl.dot(((c3 * t + c2) * t + c1) * t + c0, w, input_precision=PRECISION, out_dtype=kind)
            s += g * tl.load(sent + j[:, None] * F + f[None, :], mask=on[:, None], other=0.0)
        tl.store(own, tl.sum(s, 0))
    elif degree == 1:
        p0 = tl.zeros([E, F], kind)
        p1 = tl.zeros([E, F], kind)
        p2 = tl.zeros([E, F], kind)
        for start in range(0, n, E):
            c = start + e
            on = c < n
            j, x, y, z, d = _edge(geometry, send, row, plane, c, on)
            c0, c1, c2, c3, t = _powers(spline, d, per_length, k, M, K)
            v = tl.dot(((c3 * t + c2) * t + c1) * t + c0, w, input_precision=PRECISION, out_dtype=kind)
            v = v * tl.load(sent + j[:, None] * F + f[None, :], mask=on[:, None], other=0.0)
            p0 += x[:, None] * v
            p1 += y[:, None] * v
            p2 += z[:, None] * v
        tl.store(own + size, tl.sum(p0, 0))
        tl.store(own + 2 * size, tl.sum(p1, 0))
        tl.store(own + 3 * size, tl.sum(p2, 0))
    else:
        d0 = tl.zeros([E, F], kind)
        d1 = tl.zeros([E, F], kind)
        d2 = tl.zeros([E, F], kind)
        d3 = tl.zeros([E, F], kind)
        d4 = tl.zeros([E, F], kind)
        for start in range(0, n, E):
            c = start + e
            on = c < n
            j, x, y, z, d = _edge(geometry, send, row, plane, c, on)
            c0, c1, c2, c3, t = _powers(spline, d, per_length, k, M, K)
            v = tl.dot(((c3 * t + c2) * t + c1) * t + c0, w, input_precision=PRECISION, out_dtype=kind)
            v = v * tl.load(sent + j[:, None] * F + f[None, :], mask=on[:, None], other=0.0)
            d0 += (x * y * ROOT3)[:, None] * v
            d1 += (x * z * ROOT3)[:, None] * v
            d2 += (y * z * ROOT3)[:, None] * v
            d3 += (1.5 * z * z - 0.5)[:, None] * v
            d4 += ((x * x - y * y) * HALF_ROOT3)[:, None] * v
        tl.store(own + 4 * size, tl.sum(d0, 0))
        tl.store(own + 5 * size, tl.sum(d1, 0))
        tl.store(own + 6 * size, tl.sum(d2, 0))
        tl.store(own + 7 * size, tl.sum(d3, 0))
        tl.store(own + 8 * size, tl.sum(d4, 0))
