"""The first layer of SO3krates, compiled: attention there depends on the atoms' classes and their distance alone.

Before the first layer all atoms of one element (and charge and spin of the structure) have the same features and no
ev, so that the attention between two of them is a function of their distance: splines for each pair of classes take
the place of filters, projections and the sums over features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from heliodor.kernels.cpu.compiled import compiled
from heliodor.kernels.cpu.vector import fma, load, mul, splat, store, total

MOST_CLASSES = 16
"""Classes beyond which the general way is taken: batches of many ions."""


class FirstLayer(NamedTuple):
    """Attention by classes.

    Attributes:
        table: [C, C, knots, 2, W] attention to j and to i by heads and degrees, values and slopes per knot distance; W
            is 2 (H + L), filled up to a multiple of 8.
        scale: knots per Å.
        values: [C, F] what each class sends.
    """

    table: np.ndarray
    scale: float
    values: np.ndarray


@compiled
def attend_first(  # type: ignore[no-untyped-def]
    thread, first, last, start, pair_i, pair_j, d, harmonics, classes, by_class, layer, class_sum, ev_sum, alpha
):  # fmt: skip
    """As `attend` of `heliodor.kernels.cpu.so3lr.edges`, with sums of attention by class in place of features.

    Args:
        classes: [N]; by_class: a `FirstLayer`.
        class_sum: [T, N, C, H] attention to what each class sends; set to zero first, as ev_sum [T, N, M].
        alpha: [P, W], written.
    """
    heads, degrees = layer.heads, layer.norms.shape[0]
    m_count = ev_sum.shape[2]
    knots, wide = by_class.table.shape[2], by_class.table.shape[4]
    back = heads + degrees
    real = alpha.dtype.type
    to_i, to_j = np.zeros(m_count, alpha.dtype), np.zeros(m_count, alpha.dtype)
    cs, es = class_sum[thread], ev_sum[thread]
    cs[:] = 0.0
    es[:] = 0.0
    for p in range(start[first], start[last]):
        i, j = pair_i[p], pair_j[p]
        ci, cj = classes[i], classes[j]
        s = d[p] * by_class.scale
        # a distance that is not a number must not become an index
        n = max(min(int(s), knots - 2), 0)
        t = s - n
        u = 1.0 - t
        a, b = splat(real(u * u * (1.0 + 2.0 * t))), splat(real(t * u * u))
        c, e = splat(real(t * t * (3.0 - 2.0 * t))), splat(real(-t * t * u))
        base = ((ci * by_class.table.shape[1] + cj) * knots + n) * 2 * wide
        for k in range(0, wide, 8):
            v = fma(a, load(by_class.table, base + k), mul(b, load(by_class.table, base + wide + k)))
            v = fma(c, load(by_class.table, base + 2 * wide + k), v)
            store(alpha, p * wide + k, fma(e, load(by_class.table, base + 3 * wide + k), v))
        for h in range(heads):
            cs[i, cj, h] += alpha[p, h]
            cs[j, ci, h] += alpha[p, back + h]
        for k in range(degrees):
            ij, ji = alpha[p, heads + k], alpha[p, back + heads + k] * layer.parity[k]
            for m in range(layer.first[k], layer.first[k + 1]):
                to_i[m], to_j[m] = ij, ji
        for m in range(0, m_count, 8):
            y = load(harmonics, p * m_count + m)
            store(es, i * m_count + m, fma(load(to_i, m), y, load(es, i * m_count + m)))
            store(es, j * m_count + m, fma(load(to_j, m), y, load(es, j * m_count + m)))


@compiled
def send_first(first, last, class_sum, by_class, heads, x_sum):  # type: ignore[no-untyped-def]
    """Sums of what classes send, of atoms first..last, into x_sum [1, N, F]; class_sum [T, N, C, H] of all threads."""
    f = by_class.values.shape[1]
    width = f // heads
    for i in range(first, last):
        x_sum[0, i] = 0.0
        for c in range(class_sum.shape[2]):
            for h in range(heads):
                a = class_sum[0, i, c, h]
                for t in range(1, class_sum.shape[0]):
                    a += class_sum[t, i, c, h]
                if a != 0.0:
                    v = splat(a)
                    for o in range(h * width, (h + 1) * width, 8):
                        at = i * f + o
                        store(x_sum, at, fma(v, load(by_class.values, c * f + o), load(x_sum, at)))


@compiled
def send_first_back(first, last, x_pull, by_class, heads, class_pull):  # type: ignore[no-untyped-def]
    """Derivatives by the attention of atoms first..last to each class, class_pull [N, C, H], from x_pull [N, F]."""
    f = by_class.values.shape[1]
    width = f // heads
    zero = splat(x_pull.dtype.type(0.0))
    for i in range(first, last):
        for c in range(class_pull.shape[1]):
            for h in range(heads):
                a = zero
                for o in range(h * width, (h + 1) * width, 8):
                    a = fma(load(x_pull, i * f + o), load(by_class.values, c * f + o), a)
                class_pull[i, c, h] = total(a)


@compiled
def attend_first_back(  # type: ignore[no-untyped-def]
    thread, first, last, start, pair_i, pair_j, d, harmonics, classes, by_class, layer, alpha, class_pull, ev_pull,
    d_pull, harmonics_pull,
):  # fmt: skip
    """Derivatives by distances and harmonics, added to d_pull [P] and harmonics_pull [P, M]; nothing else moves."""
    heads, degrees = layer.heads, layer.norms.shape[0]
    m_count = ev_pull.shape[1]
    knots, wide = by_class.table.shape[2], by_class.table.shape[4]
    back = heads + degrees
    real = alpha.dtype.type
    expanded = np.zeros((4, m_count), alpha.dtype)
    flat = expanded.reshape(-1)
    pull = np.zeros(wide, alpha.dtype)
    zero, minus = splat(real(0.0)), splat(real(-1.0))
    for p in range(start[first], start[last]):
        i, j = pair_i[p], pair_j[p]
        ci, cj = classes[i], classes[j]
        for k in range(degrees):
            ij, ji = alpha[p, heads + k], alpha[p, back + heads + k] * layer.parity[k]
            for m in range(layer.first[k], layer.first[k + 1]):
                expanded[0, m], expanded[1, m] = ij, ji
        for m in range(0, m_count, 8):
            gi, gj = load(ev_pull, i * m_count + m), load(ev_pull, j * m_count + m)
            o = p * m_count + m
            y = load(harmonics, o)
            g = fma(load(flat, m), gi, fma(load(flat, m_count + m), gj, load(harmonics_pull, o)))
            store(harmonics_pull, o, g)
            store(flat, 2 * m_count + m, mul(gi, y))
            store(flat, 3 * m_count + m, mul(gj, y))
        for h in range(heads):
            pull[h], pull[back + h] = class_pull[i, cj, h], class_pull[j, ci, h]
        for k in range(degrees):
            ij, ji = real(0.0), real(0.0)
            for m in range(layer.first[k], layer.first[k + 1]):
                ij += expanded[2, m]
                ji += expanded[3, m]
            pull[heads + k], pull[back + heads + k] = ij, ji * layer.parity[k]
        s = d[p] * by_class.scale
        n = max(min(int(s), knots - 2), 0)
        t = s - n
        e1 = splat(real(6.0 * t * (1.0 - t) * by_class.scale))
        e2 = splat(real((1.0 - t) * (1.0 - 3.0 * t) * by_class.scale))
        e3 = splat(real(t * (3.0 * t - 2.0) * by_class.scale))
        base = ((ci * by_class.table.shape[1] + cj) * knots + n) * 2 * wide
        a = zero
        for k in range(0, wide, 8):
            rise = fma(minus, load(by_class.table, base + k), load(by_class.table, base + 2 * wide + k))
            g = fma(e2, load(by_class.table, base + wide + k), mul(e3, load(by_class.table, base + 3 * wide + k)))
            a = fma(fma(e1, rise, g), load(pull, k), a)
        d_pull[p] += total(a)
