"""What the compiled loops have in common: exponentials, splines, products of small matrices."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from heliodor.kernels.cpu.compiled import compiled
from heliodor.kernels.cpu.vector import add, fma, from_bits, load, mul, splat, spread, store

ROWS = 6
"""Rows that `multiply` takes at once: six by two vectors fill the registers of AVX2."""


def exponential(x: Any) -> Any:  # pragma: no cover - compiled
    """exp(x) to the last bit or two; what is not a number stays so."""
    raise NotImplementedError


@overload(exponential, inline="always")
def _exponential(x):  # type: ignore[no-untyped-def]
    if x != types.float32:
        return lambda x: math.exp(x)

    def single(x):  # type: ignore[no-untyped-def]
        # Cody and Waite's reduction, and the minimax polynomial of degree five of Cephes' expf
        y = np.float32(88.0) if x > np.float32(88.0) else x
        y = np.float32(-87.0) if y < np.float32(-87.0) else y
        n = np.floor(y * np.float32(1.44269504) + np.float32(0.5))
        r = (y - n * np.float32(0.693359375)) + n * np.float32(2.12194440e-4)
        p = np.float32(1.9875691500e-4) * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        p = (p * r) * r + r + np.float32(1.0)
        return p * from_bits(np.int32((np.int32(n) + np.int32(127)) << np.int32(23)))

    return inspect.unwrap(single)  # from run-time type checks


@compiled
def silu_all(a, count, out):  # type: ignore[no-untyped-def]
    """out = a / (1 + exp(-a)) for so many numbers of flat arrays."""
    one = a.dtype.type(1.0)
    for k in range(count):
        out[k] = a[k] / (one + exponential(-a[k]))


@compiled
def silu_slope_all(a, count, pull):  # type: ignore[no-untyped-def]
    """Multiply pull by the derivative of silu at a."""
    one = a.dtype.type(1.0)
    for k in range(count):
        s = one / (one + exponential(-a[k]))
        pull[k] *= s * (one + a[k] * (one - s))


@compiled
def spline_row(table, scale, d, out, offset):  # type: ignore[no-untyped-def]
    """Hermite splines at d of all F functions into out; table [knots, 2, F], slopes per knot distance."""
    width = table.shape[2]
    s = d * scale
    # a distance that is not a number must not become an index
    n = max(min(int(s), table.shape[0] - 2), 0)
    t = s - n
    u = 1.0 - t
    real = table.dtype.type
    a, b = splat(real(u * u * (1.0 + 2.0 * t))), splat(real(t * u * u))
    c, e = splat(real(t * t * (3.0 - 2.0 * t))), splat(real(-t * t * u))
    base = 2 * n * width
    for k in range(0, width, 8):
        v = fma(a, load(table, base + k), mul(b, load(table, base + width + k)))
        v = fma(c, load(table, base + 2 * width + k), v)
        v = fma(e, load(table, base + 3 * width + k), v)
        store(out, offset + k, v)


@compiled
def copy(a, a0, b, b0, count):  # type: ignore[no-untyped-def]
    """b = a for so many numbers, a multiple of 8, from flat offsets on."""
    for k in range(0, count, 8):
        store(b, b0 + k, load(a, a0 + k))


@compiled
def accumulate(a, a0, b, b0, count):  # type: ignore[no-untyped-def]
    """b += a, likewise."""
    for k in range(0, count, 8):
        store(b, b0 + k, add(load(b, b0 + k), load(a, a0 + k)))


def packed(matrix: np.ndarray) -> np.ndarray:
    """[..., K, N] as `multiply` reads it: [..., N/16, K, 16], flat."""
    *rest, k, n = matrix.shape
    return np.moveaxis(matrix.reshape(*rest, k, n // 16, 16), -2, -3).reshape(-1)


@compiled
def multiply(a, a0, lda, b, b0, c, c0, ldc, rows, inner, columns, more):  # type: ignore[no-untyped-def]
    """C (+)= A B of matrices inside flat arrays, from an offset on, with so many numbers from row to row.

    Rows are taken six at a time: A and C must have room for a multiple of six. Columns: a multiple of 16.

    Args:
        b: `packed`.
        more: add to what C has.
    """
    for column in range(0, columns, 16):
        panel = b0 + column * inner
        for row in range(0, rows, ROWS):
            p0 = a0 + row * lda
            p1, p2, p3, p4, p5 = p0 + lda, p0 + 2 * lda, p0 + 3 * lda, p0 + 4 * lda, p0 + 5 * lda
            o0 = c0 + row * ldc + column
            o1, o2, o3, o4, o5 = o0 + ldc, o0 + 2 * ldc, o0 + 3 * ldc, o0 + 4 * ldc, o0 + 5 * ldc
            if more:
                c00, c01, c10, c11 = load(c, o0), load(c, o0 + 8), load(c, o1), load(c, o1 + 8)
                c20, c21, c30, c31 = load(c, o2), load(c, o2 + 8), load(c, o3), load(c, o3 + 8)
                c40, c41, c50, c51 = load(c, o4), load(c, o4 + 8), load(c, o5), load(c, o5 + 8)
            else:
                zero = splat(c.dtype.type(0.0))
                c00, c01, c10, c11, c20, c21 = zero, zero, zero, zero, zero, zero
                c30, c31, c40, c41, c50, c51 = zero, zero, zero, zero, zero, zero
            for k in range(inner):
                left, right = load(b, panel + 16 * k), load(b, panel + 16 * k + 8)
                s = spread(a, p0 + k)
                c00, c01 = fma(s, left, c00), fma(s, right, c01)
                s = spread(a, p1 + k)
                c10, c11 = fma(s, left, c10), fma(s, right, c11)
                s = spread(a, p2 + k)
                c20, c21 = fma(s, left, c20), fma(s, right, c21)
                s = spread(a, p3 + k)
                c30, c31 = fma(s, left, c30), fma(s, right, c31)
                s = spread(a, p4 + k)
                c40, c41 = fma(s, left, c40), fma(s, right, c41)
                s = spread(a, p5 + k)
                c50, c51 = fma(s, left, c50), fma(s, right, c51)
            store(c, o0, c00)
            store(c, o0 + 8, c01)
            store(c, o1, c10)
            store(c, o1 + 8, c11)
            store(c, o2, c20)
            store(c, o2 + 8, c21)
            store(c, o3, c30)
            store(c, o3 + 8, c31)
            store(c, o4, c40)
            store(c, o4 + 8, c41)
            store(c, o5, c50)
            store(c, o5 + 8, c51)
