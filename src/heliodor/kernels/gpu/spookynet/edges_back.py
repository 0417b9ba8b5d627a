"""The way back of SpookyNet's sums over neighbours: to the senders' features and to the positions."""

# mypy: disable-error-code="import-untyped, no-untyped-def"
from __future__ import annotations

import triton.language as tl

from heliodor.kernels.gpu.jit import jit
from heliodor.kernels.gpu.spookynet.edges import HALF_ROOT3, ROOT3, _edge, _powers, wide


@jit
def _nothing(E: tl.constexpr, kind: tl.constexpr):
    zero = tl.zeros([E], kind)
    return zero, zero, zero, zero, zero, zero, zero, zero, zero


@jit
def _across(slope, ax, ay, az, x, y, z, d):
    """∂h/∂r from the slope along u and the gradient by u, of which only what lies across u moves it."""
    inverse = 1.0 / d
    slope -= (x * ax + y * ay + z * az) * inverse
    return x * slope + ax * inverse, y * slope + ay * inverse, z * slope + az * inverse


@jit
def _degree_0(geometry, send, spline, w, features, pull, to_features, i, n, plane, capacity, per_length, size,
              M: tl.constexpr, F: tl.constexpr, K: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
              SENDERS: tl.constexpr, STRAIN: tl.constexpr):  # fmt: skip
    kind = pull.dtype.element_ty
    hx, hy, hz, xx, yy, zz, yz, xz, xy = _nothing(E, kind)
    f = tl.arange(0, F)
    k = tl.arange(0, K)
    own = i * F + f
    s_i = tl.load(features + own)[None, :]
    q0 = tl.load(pull + own)[None, :]
    to_s = tl.zeros([E, F], kind)
    for start in range(0, n, E):
        c = start + tl.arange(0, E)
        on = c < n
        j, x, y, z, d = _edge(geometry, send, i * capacity, plane, c, on)
        at = j[:, None] * F + f[None, :]
        c0, c1, c2, c3, t = _powers(spline, d, per_length, k, M, K)
        g1 = tl.dot(((3.0 * c3 * t + 2.0 * c2) * t + c1) * per_length, w, input_precision=PRECISION, out_dtype=kind)
        pulled = tl.load(pull + at, mask=on[:, None], other=0.0)
        slope = tl.sum(g1 * (tl.load(features + at, mask=on[:, None], other=0.0) * q0 + s_i * pulled), 1)
        if SENDERS:
            to_s += tl.dot(((c3 * t + c2) * t + c1) * t + c0, w, input_precision=PRECISION, out_dtype=kind) * pulled
        hx += x * slope
        hy += y * slope
        hz += z * slope
        if STRAIN:
            slope *= 0.5 * d
            xx += x * x * slope
            yy += y * y * slope
            zz += z * z * slope
            yz += y * z * slope
            xz += x * z * slope
            xy += x * y * slope
    if SENDERS:
        tl.store(to_features + own, tl.sum(to_s, 0))
    return hx, hy, hz, xx, yy, zz, yz, xz, xy


@jit
def _degree_1(geometry, send, spline, w, features, pull, to_features, i, n, plane, capacity, per_length, size,
              M: tl.constexpr, F: tl.constexpr, K: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
              SENDERS: tl.constexpr, STRAIN: tl.constexpr):  # fmt: skip
    # the direction changes its sign with the roles of the two atoms
    kind = pull.dtype.element_ty
    hx, hy, hz, xx, yy, zz, yz, xz, xy = _nothing(E, kind)
    f = tl.arange(0, F)
    k = tl.arange(0, K)
    own = i * F + f
    p_i = tl.load(features + own)[None, :]
    q0 = tl.load(pull + own)[None, :]
    q1 = tl.load(pull + size + own)[None, :]
    q2 = tl.load(pull + 2 * size + own)[None, :]
    to_p = tl.zeros([E, F], kind)
    for start in range(0, n, E):
        c = start + tl.arange(0, E)
        on = c < n
        j, x, y, z, d = _edge(geometry, send, i * capacity, plane, c, on)
        at = j[:, None] * F + f[None, :]
        there = on[:, None]
        c0, c1, c2, c3, t = _powers(spline, d, per_length, k, M, K)
        g = tl.dot(((c3 * t + c2) * t + c1) * t + c0, w, input_precision=PRECISION, out_dtype=kind)
        g1 = tl.dot(((3.0 * c3 * t + 2.0 * c2) * t + c1) * per_length, w, input_precision=PRECISION, out_dtype=kind)
        sent = tl.load(features + at, mask=there, other=0.0)
        pulled = tl.load(pull + at, mask=there, other=0.0)
        v = sent * q0 - p_i * pulled
        ax = tl.sum(g * v, 1)
        along = x[:, None] * v
        joined = x[:, None] * pulled
        pulled = tl.load(pull + size + at, mask=there, other=0.0)
        v = sent * q1 - p_i * pulled
        ay = tl.sum(g * v, 1)
        along += y[:, None] * v
        joined += y[:, None] * pulled
        pulled = tl.load(pull + 2 * size + at, mask=there, other=0.0)
        v = sent * q2 - p_i * pulled
        az = tl.sum(g * v, 1)
        along += z[:, None] * v
        joined += z[:, None] * pulled
        if SENDERS:
            to_p -= g * joined
        px, py, pz = _across(tl.sum(g1 * along, 1), ax, ay, az, x, y, z, d)
        hx += px
        hy += py
        hz += pz
        if STRAIN:
            half = 0.5 * d
            xx += half * x * px
            yy += half * y * py
            zz += half * z * pz
            yz += 0.5 * half * (y * pz + z * py)
            xz += 0.5 * half * (x * pz + z * px)
            xy += 0.5 * half * (x * py + y * px)
    if SENDERS:
        tl.store(to_features + own, tl.sum(to_p, 0))
    return hx, hy, hz, xx, yy, zz, yz, xz, xy


@jit
def _degree_2(geometry, send, spline, w, features, pull, to_features, i, n, plane, capacity, per_length, size,
              M: tl.constexpr, F: tl.constexpr, K: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
              SENDERS: tl.constexpr, STRAIN: tl.constexpr):  # fmt: skip
    kind = pull.dtype.element_ty
    hx, hy, hz, xx, yy, zz, yz, xz, xy = _nothing(E, kind)
    f = tl.arange(0, F)
    k = tl.arange(0, K)
    own = i * F + f
    d_i = tl.load(features + own)[None, :]
    q0 = tl.load(pull + own)[None, :]
    q1 = tl.load(pull + size + own)[None, :]
    q2 = tl.load(pull + 2 * size + own)[None, :]
    q3 = tl.load(pull + 3 * size + own)[None, :]
    q4 = tl.load(pull + 4 * size + own)[None, :]
    to_d = tl.zeros([E, F], kind)
    for start in range(0, n, E):
        c = start + tl.arange(0, E)
        on = c < n
        j, x, y, z, d = _edge(geometry, send, i * capacity, plane, c, on)
        at = j[:, None] * F + f[None, :]
        there = on[:, None]
        ux = (x * ROOT3)[:, None]
        uy = (y * ROOT3)[:, None]
        uz = (z * ROOT3)[:, None]
        c0, c1, c2, c3, t = _powers(spline, d, per_length, k, M, K)
        g = tl.dot(((c3 * t + c2) * t + c1) * t + c0, w, input_precision=PRECISION, out_dtype=kind)
        g1 = tl.dot(((3.0 * c3 * t + 2.0 * c2) * t + c1) * per_length, w, input_precision=PRECISION, out_dtype=kind)
        sent = tl.load(features + at, mask=there, other=0.0)
        # xy, xz, yz, 3zz - 1, xx - yy
        pulled = tl.load(pull + at, mask=there, other=0.0)
        v = sent * q0 + d_i * pulled
        angular = (x * y * ROOT3)[:, None]
        along = angular * v
        joined = angular * pulled
        sx = uy * v
        sy = ux * v
        pulled = tl.load(pull + size + at, mask=there, other=0.0)
        v = sent * q1 + d_i * pulled
        angular = (x * z * ROOT3)[:, None]
        along += angular * v
        joined += angular * pulled
        sx += uz * v
        sz = ux * v
        pulled = tl.load(pull + 2 * size + at, mask=there, other=0.0)
        v = sent * q2 + d_i * pulled
        angular = (y * z * ROOT3)[:, None]
        along += angular * v
        joined += angular * pulled
        sy += uz * v
        sz += uy * v
        pulled = tl.load(pull + 3 * size + at, mask=there, other=0.0)
        v = sent * q3 + d_i * pulled
        angular = (1.5 * z * z - 0.5)[:, None]
        along += angular * v
        joined += angular * pulled
        sz += uz * v * ROOT3
        pulled = tl.load(pull + 4 * size + at, mask=there, other=0.0)
        v = sent * q4 + d_i * pulled
        angular = ((x * x - y * y) * HALF_ROOT3)[:, None]
        along += angular * v
        joined += angular * pulled
        sx += ux * v
        sy -= uy * v
        if SENDERS:
            to_d += g * joined
        slope = tl.sum(g1 * along, 1)
        px, py, pz = _across(slope, tl.sum(g * sx, 1), tl.sum(g * sy, 1), tl.sum(g * sz, 1), x, y, z, d)
        hx += px
        hy += py
        hz += pz
        if STRAIN:
            half = 0.5 * d
            xx += half * x * px
            yy += half * y * py
            zz += half * z * pz
            yz += 0.5 * half * (y * pz + z * py)
            xz += 0.5 * half * (x * pz + z * px)
            xy += 0.5 * half * (x * py + y * px)
    if SENDERS:
        tl.store(to_features + own, tl.sum(to_d, 0))
    return hx, hy, hz, xx, yy, zz, yz, xz, xy


@jit
def neighbor_pulls(geometry, send, reached, spline, weight, features, pull, pull_features, gradient, strain,
                   n_atoms, capacity, per_length,
                   M: tl.constexpr, F: tl.constexpr, K: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
                   SENDERS: tl.constexpr, STRAIN: tl.constexpr):  # fmt: skip
    """From ``pull`` [9, N, F] = ∂E/∂(sums): ∂E/∂(s, p, d), and what the edges add to ∂E/∂R and the strain.

    An atom's row holds both directions of each of its edges. With h(r) the energy of both, of which this atom's sums
    and its neighbour's have one each, ∂E/∂R_i = -Σ_j ∂h/∂r_ij, and the strain is half of Σ_j r ∂h/∂r. One program for
    each atom and degree, which has a place of its own in ``gradient`` [3, N, 3] and ``strain`` [3, N, 6], to which it
    adds: xx, yy, zz, yz, xz, xy, symmetrised.

    SENDERS: whether features have gradients (not in the first module, where they are constants); STRAIN: whether
    ``strain`` is wanted.
    """
    i = tl.program_id(0).to(tl.int64)
    # the longest first
    degree = 2 - tl.program_id(1)
    n = tl.load(reached + i)
    f = tl.arange(0, F)
    k = tl.arange(0, K)
    size = wide(n_atoms) * F
    plane = wide(n_atoms) * capacity
    w = tl.load(weight + degree * (K * F) + k[:, None] * F + f[None, :])
    of = features + degree * size
    to = pull_features + degree * size
    if degree == 0:
        hx, hy, hz, xx, yy, zz, yz, xz, xy = _degree_0(
            geometry, send, spline, w, of, pull, to, i, n, plane, capacity, per_length, size, M, F, K, E, PRECISION,
            SENDERS, STRAIN
        )  # fmt: skip
    elif degree == 1:
        hx, hy, hz, xx, yy, zz, yz, xz, xy = _degree_1(
            geometry, send, spline, w, of, pull + size, to, i, n, plane, capacity, per_length, size, M, F, K, E,
            PRECISION, SENDERS, STRAIN
        )  # fmt: skip
    else:
        hx, hy, hz, xx, yy, zz, yz, xz, xy = _degree_2(
            geometry, send, spline, w, of, pull + 4 * size, to, i, n, plane, capacity, per_length, size, M, F, K, E,
            PRECISION, SENDERS, STRAIN
        )  # fmt: skip
    at = degree * wide(n_atoms) + i
    g = gradient + 3 * at
    tl.store(g, tl.load(g) - tl.sum(hx, 0))
    tl.store(g + 1, tl.load(g + 1) - tl.sum(hy, 0))
    tl.store(g + 2, tl.load(g + 2) - tl.sum(hz, 0))
    if STRAIN:
        v = strain + 6 * at
        tl.store(v, tl.load(v) + tl.sum(xx, 0))
        tl.store(v + 1, tl.load(v + 1) + tl.sum(yy, 0))
        tl.store(v + 2, tl.load(v + 2) + tl.sum(zz, 0))
        tl.store(v + 3, tl.load(v + 3) + tl.sum(yz, 0))
        tl.store(v + 4, tl.load(v + 4) + tl.sum(xz, 0))
        tl.store(v + 5, tl.load(v + 5) + tl.sum(xy, 0))
