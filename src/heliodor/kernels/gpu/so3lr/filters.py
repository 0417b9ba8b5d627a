"""What the forward and the backward pass over edges share: distances, splines, silu, sums over heads and degrees."""

from __future__ import annotations

import triton.language as tl

from heliodor.kernels.gpu.jit import jit


@jit
def sigmoid(x):  # type: ignore[no-untyped-def]
    """1/(1 + exp(-x))."""
    return 1.0 / (1.0 + tl.exp(-x))


@jit
def silu_slope(x):  # type: ignore[no-untyped-def]
    """Derivative of x sigmoid(x)."""
    s = sigmoid(x)
    return s * (1.0 + x * (1.0 - s))


@jit
def distance(vector, e, there, capacity):  # type: ignore[no-untyped-def]
    """Length, its inverse and direction of edges e of a row; where there is none, some vector that is not zero."""
    rx = tl.load(vector + e, mask=there, other=1.0)
    ry = tl.load(vector + capacity + e, mask=there, other=1.0)
    rz = tl.load(vector + 2 * capacity + e, mask=there, other=1.0)
    d = tl.sqrt(rx * rx + ry * ry + rz * rz)
    inverse = 1.0 / d
    return d, inverse, rx * inverse, ry * inverse, rz * inverse


@jit
def cut(d, cutoff, there):  # type: ignore[no-untyped-def]
    """PhysNet's cutoff function and its derivative; both 0 where there is no edge."""
    u = tl.minimum(d / cutoff, 1.0)
    value = 1.0 + u * u * u * (u * (15.0 - 6.0 * u) - 10.0)
    slope = -30.0 * u * u * (1.0 - u) * (1.0 - u) / cutoff
    return tl.where(there, value, 0.0), tl.where(there, slope, 0.0)


@jit
def spline(table, d, per_angstrom, INTERVALS: tl.constexpr, RANK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Radial functions [E, RANK] and their derivatives from the coefficients of their intervals."""
    x = d * per_angstrom
    k = tl.minimum(x.to(tl.int32), INTERVALS - 1)
    t = (x - k.to(tl.float32))[:, None]
    row = table + k[:, None] * (4 * RANK) + tl.arange(0, RANK)[None, :]
    a0 = tl.load(row)
    a1 = tl.load(row + RANK)
    a2 = tl.load(row + 2 * RANK)
    a3 = tl.load(row + 3 * RANK)
    value = a0 + t * (a1 + t * (a2 + t * a3))
    slope = (a1 + t * (2.0 * a2 + 3.0 * t * a3)) * per_angstrom
    return value, slope


@jit
def matrix(start, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """A weight [ROWS, COLUMNS]."""
    return tl.load(start + tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :])


@jit
def piece(start, ROWS: tl.constexpr, COLUMNS: tl.constexpr, OF: tl.constexpr):  # type: ignore[no-untyped-def]
    """COLUMNS columns of a weight [ROWS, OF]."""
    return tl.load(start + tl.arange(0, ROWS)[:, None] * OF + tl.arange(0, COLUMNS)[None, :])


@jit
def spherical_hidden(  # type: ignore[no-untyped-def]
    between, into, bias, M: tl.constexpr, HIDDEN: tl.constexpr, PRECISION: tl.constexpr
):
    """Hidden layer of the spherical part before silu; ``into`` takes squares of components, invariants included."""
    z = tl.dot(between * between, matrix(into, M, HIDDEN), input_precision=PRECISION)
    return z + tl.load(bias + tl.arange(0, HIDDEN))[None, :]
