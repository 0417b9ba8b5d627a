"""Inner loops of the selection, compiled by Numba; `aligned` and `affinity` have the same in NumPy.

They work on ranges of rows, write only there, and release Python's lock.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from heliodor.kernels.cpu.compiled import compiled

MOST_STEPS = 60
PRECISION = 1e-12
LANES = 16


def exactly(function: Callable[..., Any]) -> Any:
    """Compile without leave to reorder: ties between structures are decided by the last bits, as in NumPy."""
    bare = inspect.unwrap(function)  # from run-time type checks, which Numba cannot compile
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(bare)
    except RuntimeError:
        return njit(nogil=True, error_model="numpy")(bare)


@compiled
def fill_distances(first, last, m, size_a, size_b, out):  # type: ignore[no-untyped-def]
    """Rows of squared distances from correlation matrices m [3, A, 3, B]; see `aligned._distances`."""
    for i in range(first, last):
        for j in range(size_b.shape[0]):
            a00, a01, a02 = m[0, i, 0, j], m[0, i, 1, j], m[0, i, 2, j]
            a10, a11, a12 = m[1, i, 0, j], m[1, i, 1, j], m[1, i, 2, j]
            a20, a21, a22 = m[2, i, 0, j], m[2, i, 1, j], m[2, i, 2, j]
            square = a00 * a00 + a01 * a01 + a02 * a02 + a10 * a10 + a11 * a11 + a12 * a12
            square += a20 * a20 + a21 * a21 + a22 * a22
            c00, c01, c02 = a11 * a22 - a12 * a21, a12 * a20 - a10 * a22, a10 * a21 - a11 * a20
            c10, c11, c12 = a21 * a02 - a22 * a01, a22 * a00 - a20 * a02, a20 * a01 - a21 * a00
            c20, c21, c22 = a01 * a12 - a02 * a11, a02 * a10 - a00 * a12, a00 * a11 - a01 * a10
            minors = c00 * c00 + c01 * c01 + c02 * c02 + c10 * c10 + c11 * c11 + c12 * c12
            minors += c20 * c20 + c21 * c21 + c22 * c22
            turn = 8.0 * (a00 * c00 + a01 * c01 + a02 * c02)
            constant = square * square - 4.0 * minors
            both = size_a[i] + size_b[j]
            root = min(0.5 * both, math.sqrt(3.0 * square))
            for _ in range(MOST_STEPS):
                r2 = root * root
                slope = 4.0 * root * (r2 - square) - turn
                if not slope > 0.0:
                    break
                step = (r2 * (r2 - 2.0 * square) - turn * root + constant) / slope
                root -= step
                if not step > PRECISION * root:
                    break
            out[i, j] = max(both - 2.0 * root, 0.0)


@exactly
def sweep_rows(first, last, s, a, r, total, damping, begun, made):  # type: ignore[no-untyped-def]
    """One iteration of affinity propagation for some rows; see `affinity._sweep`.

    ``total`` and ``damping`` are of the matrices' type, so that float32 stays float32.
    """
    n = s.shape[1]
    fresh = s.dtype.type(1.0) - damping
    zero = s.dtype.type(0.0)
    # the two largest of a row are looked for in lanes side by side, which become SIMD
    value = np.empty(n, s.dtype)
    best = np.empty(LANES, s.dtype)
    second = np.empty(LANES, s.dtype)
    for i in range(first, last):
        own = damping * a[i, i] - fresh * (r[i, i] - total[i])
        if begun:
            for j in range(n):
                sent = (r[i, j] if r[i, j] > zero else zero) - total[j]
                a[i, j] = damping * a[i, j] - fresh * (sent if sent > zero else zero)
            a[i, i] = own
        for j in range(n):
            value[j] = a[i, j] + s[i, j]
        best[:] = -np.inf
        second[:] = -np.inf
        whole = n - n % LANES
        for j in range(0, whole, LANES):
            for k in range(LANES):
                new, old = value[j + k], best[k]
                lower = new if new < old else old
                second[k] = lower if lower > second[k] else second[k]
                best[k] = new if new > old else old
        top = best[0]
        lane = 0
        for k in range(1, LANES):
            if best[k] > top:
                top = best[k]
                lane = k
        next_to_top = second[lane]
        for k in range(LANES):
            if k != lane and best[k] > next_to_top:
                next_to_top = best[k]
        where = -1
        for j in range(whole, n):
            if value[j] > top:
                next_to_top = top
                top = value[j]
                where = j
            elif value[j] > next_to_top:
                next_to_top = value[j]
        if where < 0:
            where = lane
            while value[where] != top:
                where += LANES
        kept = damping * r[i, where] + fresh * (s[i, where] - next_to_top)
        for j in range(n):
            r[i, j] = damping * r[i, j] + fresh * (s[i, j] - top)
        r[i, where] = kept
        for j in range(n):
            made[j] += r[i, j] if r[i, j] > zero else zero
        made[i] += r[i, i] if r[i, i] < zero else zero
