"""The atoms of a SO3krates layer, compiled: projections, norms, the two small networks, and the way back.

Each function takes the atoms first..last in tiles that stay in the cache, and writes to those atoms only.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from heliodor.kernels.cpu.compiled import compiled
from heliodor.kernels.cpu.functions import ROWS, accumulate, copy, multiply, silu_all, silu_slope_all
from heliodor.kernels.cpu.vector import add, fma, load, mul, splat, store, total

TILE = 4 * ROWS


class Kept(NamedTuple):
    """What `update` keeps of N atoms for the way back."""

    hat_1: np.ndarray
    width_1: np.ndarray
    inner: np.ndarray
    middle: np.ndarray
    gain: np.ndarray
    hat_2: np.ndarray
    width_2: np.ndarray


@compiled
def project(first, last, x, layer, proj):  # type: ignore[no-untyped-def]
    """Queries, keys, values of the first branch, queries and keys of the second: proj [N, 5F] from x [N, F]."""
    f = x.shape[1]
    heads, degrees = layer.heads, layer.norms.shape[0]
    width, wide = f // heads, f // degrees
    tile = np.zeros(TILE * f, x.dtype)
    out = np.empty(TILE * 5 * f, x.dtype)
    for a in range(first, last, TILE):
        count = min(TILE, last - a)
        copy(x, a * f, tile, 0, count * f)
        for part in range(3):
            for h in range(heads):
                at = (h * 3 + part) * width * width
                o = part * f + h * width
                multiply(tile, h * width, f, layer.project_x, at, out, o, 5 * f, count, width, width, False)
        for part in range(2):
            for n in range(degrees):
                at = (n * 2 + part) * wide * wide
                o = (3 + part) * f + n * wide
                multiply(tile, n * wide, f, layer.project_ev, at, out, o, 5 * f, count, wide, wide, False)
        copy(out, 0, proj, a * 5 * f, count * 5 * f)


@compiled
def project_back(first, last, proj_pull, layer, pull):  # type: ignore[no-untyped-def]
    """Add to pull [N, F] what comes back through `project`; proj_pull [T, N, 5F] of all threads."""
    f = pull.shape[1]
    heads, degrees = layer.heads, layer.norms.shape[0]
    width, wide = f // heads, f // degrees
    tile = np.zeros(TILE * 5 * f, pull.dtype)
    out = np.empty(TILE * f, pull.dtype)
    for a in range(first, last, TILE):
        count = min(TILE, last - a)
        gather(proj_pull, a, count, tile)
        copy(pull, a * f, out, 0, count * f)
        for part in range(3):
            for h in range(heads):
                at = (h * 3 + part) * width * width
                o = part * f + h * width
                multiply(tile, o, 5 * f, layer.project_x_back, at, out, h * width, f, count, width, width, True)
        for part in range(2):
            for n in range(degrees):
                at = (n * 2 + part) * wide * wide
                o = (3 + part) * f + n * wide
                multiply(tile, o, 5 * f, layer.project_ev_back, at, out, n * wide, f, count, wide, wide, True)
        copy(out, 0, pull, a * f, count * f)


@compiled
def gather(parts, first, count, out):  # type: ignore[no-untyped-def]
    """Sums of all threads' parts [T, N, W] for so many atoms, into flat out."""
    width = parts.shape[2]
    for k in range(0, count * width, 8):
        v = load(parts[0], first * width + k)
        for t in range(1, parts.shape[0]):
            v = add(v, load(parts[t], first * width + k))
        store(out, k, v)


@compiled
def normalize(rows, count, f, scale, bias, hats, widths, out):  # type: ignore[no-untyped-def]
    """Layer norm of rows [count, f], flat: hats before scale and bias, widths 1/σ, and out."""
    real = rows.dtype.type
    zero, one = splat(real(0.0)), splat(real(1.0))
    for r in range(count):
        a, b = zero, zero
        for k in range(r * f, (r + 1) * f, 8):
            a = add(a, load(rows, k))
        mean = total(a) / f
        shift = splat(real(-mean))
        for k in range(r * f, (r + 1) * f, 8):
            v = add(load(rows, k), shift)
            b = fma(v, v, b)
        width = real(1.0 / math.sqrt(total(b) / f + 1e-6))
        widths[r] = width
        by = mul(splat(width), one)
        for k in range(0, f, 8):
            hat = mul(add(load(rows, r * f + k), shift), by)
            store(hats, r * f + k, hat)
            store(out, r * f + k, fma(hat, load(scale, k), load(bias, k)))


@compiled
def normalize_back(pull, count, f, scale, hats, widths):  # type: ignore[no-untyped-def]
    """Derivatives by what `normalize` took, in the place of those by what it gave; all flat."""
    real = pull.dtype.type
    zero = splat(real(0.0))
    for r in range(count):
        a, b = zero, zero
        for k in range(0, f, 8):
            g = mul(load(pull, r * f + k), load(scale, k))
            a = add(a, g)
            b = fma(g, load(hats, r * f + k), b)
        mean, along, width = splat(real(-total(a) / f)), splat(real(-total(b) / f)), splat(widths[r])
        for k in range(0, f, 8):
            g = fma(load(pull, r * f + k), load(scale, k), mean)
            store(pull, r * f + k, mul(width, fma(along, load(hats, r * f + k), g)))


@compiled
def begin(bias, count, stride, rows):  # type: ignore[no-untyped-def]
    """Begin so many rows with a bias."""
    for r in range(count):
        copy(bias, 0, rows, r * stride, bias.shape[0])


@compiled
def update(first, last, x, ev, x_sum, ev_sum, layer, kept, x_new, ev_new):  # type: ignore[no-untyped-def]
    """Features after a layer from those before and the sums of its messages.

    Args:
        x, ev: [N, F], [N, M].
        x_sum, ev_sum: [T, N, F], [T, N, M] of all threads.
        kept: a `Kept`, written for the way back.
        x_new, ev_new: [N, F], [N, M], written.
    """
    f = x.shape[1]
    m_count = ev.shape[1]
    degrees = layer.norms.shape[0]
    wide = layer.exchange_bias.shape[0]
    real = x.dtype.type
    rows, hats, y = np.zeros(TILE * f, x.dtype), np.empty(TILE * f, x.dtype), np.zeros(TILE * f, x.dtype)
    active, inner = np.zeros(TILE * f, x.dtype), np.zeros(TILE * f, x.dtype)
    joined, mixed = np.zeros(TILE * wide, x.dtype), np.zeros(TILE * wide, x.dtype)
    middle = np.empty(TILE * m_count, x.dtype)
    widths = np.empty(TILE, x.dtype)
    for a in range(first, last, TILE):
        count = min(TILE, last - a)
        gather(x_sum, a, count, rows)
        gather(ev_sum, a, count, middle)
        accumulate(x, a * f, rows, 0, count * f)
        accumulate(ev, a * m_count, middle, 0, count * m_count)
        normalize(rows, count, f, layer.norm_1, layer.norm_1_bias, hats, widths, y)
        copy(hats, 0, kept.hat_1, a * f, count * f)
        copy(middle, 0, kept.middle, a * m_count, count * m_count)
        kept.width_1[a : a + count] = widths[:count]
        silu_all(y, count * f, active)
        begin(layer.update_hidden_bias, count, f, inner)
        multiply(active, 0, f, layer.update_hidden, 0, inner, 0, f, count, f, f, True)
        copy(inner, 0, kept.inner, a * f, count * f)
        silu_all(inner, count * f, active)
        begin(layer.update_out_bias, count, f, rows)
        multiply(active, 0, f, layer.update_out, 0, rows, 0, f, count, f, f, True)
        for r in range(count):
            copy(y, r * f, joined, r * wide, f)
            accumulate(rows, r * f, joined, r * wide, f)
            for c in range(degrees):
                t = real(0.0)
                for m in range(layer.first[c], layer.first[c + 1]):
                    t += middle[r * m_count + m] * middle[r * m_count + m]
                joined[r * wide + f + c] = t * layer.norms[c]
        begin(layer.exchange_bias, count, wide, mixed)
        multiply(joined, 0, wide, layer.exchange, 0, mixed, 0, wide, count, f + degrees, wide, True)
        for r in range(count):
            copy(joined, r * wide, rows, r * f, f)
            accumulate(mixed, r * wide, rows, r * f, f)
            for c in range(degrees):
                gain = mixed[r * wide + f + c]
                kept.gain[a + r, c] = real(1.0) + gain
                for m in range(layer.first[c], layer.first[c + 1]):
                    ev_new[a + r, m] = (real(1.0) + gain) * middle[r * m_count + m]
            for m in range(layer.first[degrees], m_count):
                ev_new[a + r, m] = 0.0
        normalize(rows, count, f, layer.norm_2, layer.norm_2_bias, hats, widths, y)
        copy(hats, 0, kept.hat_2, a * f, count * f)
        kept.width_2[a : a + count] = widths[:count]
        copy(y, 0, x_new, a * f, count * f)


@compiled
def update_back(first, last, layer, kept, pull, ev_pull, ev_back):  # type: ignore[no-untyped-def]
    """From derivatives by x_new and ev_new to those by the sums of messages, which are also those by x and ev.

    Args:
        pull: [N, F], changed in place.
        ev_pull: [N, M], changed in place.
        ev_back: [T, N, M] of the layer above, added to ev_pull first; T may be 0.
    """
    f = pull.shape[1]
    m_count = ev_pull.shape[1]
    degrees = layer.norms.shape[0]
    wide = layer.exchange_bias.shape[0]
    real = pull.dtype.type
    rows, hats, inner = np.zeros(TILE * f, pull.dtype), np.empty(TILE * f, pull.dtype), np.empty(TILE * f, pull.dtype)
    back, joined = np.zeros(TILE * wide, pull.dtype), np.zeros(TILE * wide, pull.dtype)
    hidden = np.zeros(TILE * f, pull.dtype)
    y = np.empty(TILE * f, pull.dtype)
    for a in range(first, last, TILE):
        count = min(TILE, last - a)
        for t in range(ev_back.shape[0]):
            accumulate(ev_back[t], a * m_count, ev_pull, a * m_count, count * m_count)
        copy(pull, a * f, rows, 0, count * f)
        copy(kept.hat_2, a * f, hats, 0, count * f)
        normalize_back(rows, count, f, layer.norm_2, hats, kept.width_2[a : a + count])
        for r in range(count):
            copy(rows, r * f, joined, r * wide, f)
            copy(rows, r * f, back, r * wide, f)
            for c in range(degrees):
                t = real(0.0)
                for m in range(layer.first[c], layer.first[c + 1]):
                    t += ev_pull[a + r, m] * kept.middle[a + r, m]
                joined[r * wide + f + c] = t
                back[r * wide + f + c] = 0.0
        multiply(joined, 0, wide, layer.exchange_back, 0, back, 0, wide, count, f + degrees, wide, True)
        for r in range(count):
            for c in range(degrees):
                gain, g = kept.gain[a + r, c], real(2.0) * back[r * wide + f + c] * layer.norms[c]
                for m in range(layer.first[c], layer.first[c + 1]):
                    ev_pull[a + r, m] = gain * ev_pull[a + r, m] + g * kept.middle[a + r, m]
            copy(back, r * wide, rows, r * f, f)
        copy(kept.inner, a * f, inner, 0, count * f)
        multiply(rows, 0, f, layer.update_out_back, 0, hidden, 0, f, count, f, f, False)
        silu_slope_all(inner, count * f, hidden)
        multiply(hidden, 0, f, layer.update_hidden_back, 0, inner, 0, f, count, f, f, False)
        copy(kept.hat_1, a * f, hats, 0, count * f)
        for r in range(count):
            for k in range(0, f, 8):
                store(y, r * f + k, fma(load(hats, r * f + k), load(layer.norm_1, k), load(layer.norm_1_bias, k)))
        silu_slope_all(y, count * f, inner)
        accumulate(inner, 0, rows, 0, count * f)
        normalize_back(rows, count, f, layer.norm_1, hats, kept.width_1[a : a + count])
        copy(rows, 0, pull, a * f, count * f)


@compiled
def heads(first, last, x, numbers, h, hidden, energy, charge, ratio):  # type: ignore[no-untyped-def]
    """Energies, charges before their correction, and Hirshfeld ratios with their sign, from the last features.

    Args:
        h: a `Heads` of `heliodor.kernels.cpu.so3lr.tables`.
        hidden: [N, 2F + n_hirshfeld] before silu, written.
        energy, charge, ratio: [N], written.
    """
    f = x.shape[1]
    wide = h.hidden_bias.shape[0]
    tile, out, active = np.zeros(TILE * f, x.dtype), np.zeros(TILE * wide, x.dtype), np.zeros(TILE * wide, x.dtype)
    zero = splat(x.dtype.type(0.0))
    last_width = wide - 2 * f
    for a in range(first, last, TILE):
        count = min(TILE, last - a)
        copy(x, a * f, tile, 0, count * f)
        begin(h.hidden_bias, count, wide, out)
        multiply(tile, 0, f, h.hidden, 0, out, 0, wide, count, f, wide, True)
        copy(out, 0, hidden, a * wide, count * wide)
        silu_all(out, count * wide, active)
        for r in range(count):
            z = numbers[a + r]
            o = r * wide
            e, q, k = zero, zero, zero
            for c in range(0, f, 8):
                e = fma(load(active, o + c), load(h.energy, c), e)
                q = fma(load(active, o + f + c), load(h.charge, c), q)
            for c in range(0, last_width, 8):
                k = fma(load(active, o + 2 * f + c), load(h.ratio, z * last_width + c), k)
            energy[a + r] = h.energy_scale[z] * (total(e) + h.energy_bias) + h.energy_offset[z]
            charge[a + r] = total(q) + h.charge_bias + h.charge_offset[z]
            ratio[a + r] = total(k) + h.ratio_offset[z]


@compiled
def heads_back(  # type: ignore[no-untyped-def]
    first, last, numbers, h, hidden, energy_pull, charge_pull, ratio_pull, pull,
):  # fmt: skip
    """Derivatives by the last features into pull [N, F], from those by what `heads` gave."""
    f = pull.shape[1]
    wide = h.hidden_bias.shape[0]
    last_width = wide - 2 * f
    before, back, out = (
        np.zeros(TILE * wide, pull.dtype),
        np.zeros(TILE * wide, pull.dtype),
        np.zeros(TILE * f, pull.dtype),
    )
    for a in range(first, last, TILE):
        count = min(TILE, last - a)
        copy(hidden, a * wide, before, 0, count * wide)
        for r in range(count):
            z = numbers[a + r]
            o = r * wide
            e, q, k = splat(energy_pull * h.energy_scale[z]), splat(charge_pull[a + r]), splat(ratio_pull[a + r])
            for c in range(0, f, 8):
                store(back, o + c, mul(e, load(h.energy, c)))
                store(back, o + f + c, mul(q, load(h.charge, c)))
            for c in range(0, last_width, 8):
                store(back, o + 2 * f + c, mul(k, load(h.ratio, z * last_width + c)))
        silu_slope_all(before, count * wide, back)
        multiply(back, 0, wide, h.hidden_back, 0, out, 0, f, count, wide, f, False)
        copy(out, 0, pull, a * f, count * f)
