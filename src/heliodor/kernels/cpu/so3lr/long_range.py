"""Electrostatics and dispersion of SO3LR over the long list, compiled: energies and all their derivatives in one pass.

What depends on the distance alone, the shifted Coulomb function and the switch of dispersion, comes from splines; the
rest is arithmetic on hundreds of pairs at once. The formulas are those of `heliodor.physics`.
"""

from __future__ import annotations

import inspect
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import types
from numba.extending import overload

from heliodor.kernels.cpu.compiled import compiled
from heliodor.kernels.cpu.splines import with_slopes
from heliodor.kernels.cpu.vector import from_bits, to_bits
from heliodor.physics.dispersion import _GAMMA_FIT, _RADIUS_POWER, _VDW_PREFACTOR
from heliodor.physics.electrostatics import damped_coulomb
from heliodor.physics.tables import BOHR_2014, COULOMB, HARTREE_2014
from heliodor.potentials.radial import smooth_switch
from heliodor.potentials.so3lr import SO3LR

CHUNK = 256
"""Pairs of an atom that are worked on together."""

KNOTS = {np.float32: 1024, np.float64: 16384}
FAR = 1000.0
"""Å beyond which dispersion is taken at this distance, where it is below 1e-17 eV: its powers must not overflow."""

_B0, _B1, _B2, _B3 = _GAMMA_FIT


class PairConstants(NamedTuple):
    """Of elements: α⁰ (Bohr³) [Z], 2 c_i c_j a_i a_j / (a_i² c_j + a_j² c_i) [Z, Z], so that C6 = h_i h_j times it."""

    alpha: np.ndarray
    c6: np.ndarray
    radius: float


class DistanceTable(NamedTuple):
    """Functions of the distance for each kind of cutoff, as cubic polynomials: see `distance_table`."""

    rows: np.ndarray
    scale: np.ndarray
    limit: np.ndarray


def pair_constants(model: SO3LR, real: Any) -> PairConstants:
    """Constants of a model in float64, of unknown elements not numbers."""
    free = model.free_atoms.detach().cpu().double().numpy()
    a, c = free[:, 0], free[:, 1]
    c6 = 2.0 * np.outer(c * a, c * a) / (np.outer(a * a, c) + np.outer(c, a * a))
    radius = model.config.dispersion_scale * 2.0 * _VDW_PREFACTOR
    return PairConstants(a.astype(real), c6.astype(real), radius)


def distance_table(cutoffs: list[float], damping: float, width: float, real: Any) -> DistanceTable:
    """The shifted Coulomb function k_e V(d), eV Å/e², and the switch of dispersion, for each long-range cutoff.

    Args:
        cutoffs: Å; may be infinite, then V is 1/d beyond 6 damping lengths.

    Returns:
        rows [C, intervals, 8], coefficients of rising powers of the place between two knots, of V and of the switch;
        scale [C] knots per Å; limit [C] Å.
    """
    n = KNOTS[real]
    rows = np.empty((len(cutoffs), n, 8))
    scale = np.empty(len(cutoffs))
    for k, cutoff in enumerate(cutoffs):
        end = cutoff if math.isfinite(cutoff) else 6.0 * damping
        limit = torch.tensor([cutoff], dtype=torch.float64)

        def functions(d: torch.Tensor, limit: torch.Tensor = limit) -> torch.Tensor:
            coulomb = damped_coulomb(d, torch.ones_like(d), limit, damping)
            return torch.stack([coulomb, smooth_switch((d - limit) / width + 1.0)], dim=-1)

        knots = torch.linspace(0.0, end, n + 1, dtype=torch.float64).clamp(min=1e-3, max=end * (1.0 - 1e-12))
        values, slopes = with_slopes(functions, knots)
        p, m = values.numpy(), slopes.numpy() * (end / n)
        rise = p[1:] - p[:-1]
        for which in range(2):
            rows[k, :, 4 * which] = p[:-1, which]
            rows[k, :, 4 * which + 1] = m[:-1, which]
            rows[k, :, 4 * which + 2] = (3.0 * rise - 2.0 * m[:-1] - m[1:])[:, which]
            rows[k, :, 4 * which + 3] = (-2.0 * rise + m[:-1] + m[1:])[:, which]
        scale[k] = n / end
    return DistanceTable(rows.astype(real), scale, np.array(cutoffs))


def seventh_root(x: Any) -> Any:  # pragma: no cover - compiled
    """x^(1/7) and 1/x."""
    raise NotImplementedError


@overload(seventh_root, inline="always")
def _seventh_root(x):  # type: ignore[no-untyped-def]
    if x != types.float32:
        return lambda x: (x ** (1.0 / 7.0), 1.0 / x)

    def single(x):  # type: ignore[no-untyped-def]
        # Newton's method for x^(-1/7), which needs no division, from a seventh of the exponent
        seventh, eight = np.float32(1.0 / 7.0), np.float32(8.0)
        y = from_bits(np.int32(np.float32(1.21708e9) - seventh * np.float32(to_bits(x))))
        for _ in range(3):
            y2 = y * y
            y4 = y2 * y2
            y = y * seventh * (eight - x * (y4 * y2 * y))
        y2 = y * y
        y6 = y2 * y2 * y2
        return x * y6, y6 * y

    return inspect.unwrap(single)  # from run-time type checks


@compiled
def look_up(n, r2, rows, scale, end, finite, d, v, slope, w, w_slope):  # type: ignore[no-untyped-def]
    """Distances of n pairs, Coulomb function and switch of dispersion there, and their derivatives.

    Args:
        r2: Å².
        rows: [8 intervals], flat, of one cutoff.
        end: Å, where the table ends; beyond it V is 1/d, which is only asked for without a cutoff.
    """
    real = d.dtype.type
    top = np.int64(rows.shape[0] // 8 - 1)
    two, three = real(2.0), real(3.0)
    for k in range(n):
        x = real(math.sqrt(r2[k]))
        s = x * scale
        # a distance that is not a number must not become an index
        at = max(min(np.int64(s), top), np.int64(0))
        t = s - real(at)
        o = np.uint64(8 * at)
        c1, c2, c3 = rows[o + np.uint64(1)], rows[o + np.uint64(2)], rows[o + np.uint64(3)]
        d[k] = x
        v[k] = rows[o] + t * (c1 + t * (c2 + t * c3))
        slope[k] = (c1 + t * (two * c2 + three * t * c3)) * scale
        c1, c2, c3 = rows[o + np.uint64(5)], rows[o + np.uint64(6)], rows[o + np.uint64(7)]
        w[k] = rows[o + np.uint64(4)] + t * (c1 + t * (c2 + t * c3))
        w_slope[k] = (c1 + t * (two * c2 + three * t * c3)) * scale
    if not finite:
        for k in range(n):
            w[k], w_slope[k] = real(1.0), real(0.0)
            if d[k] > end:
                v[k] = real(COULOMB) / d[k]
                slope[k] = -v[k] / d[k]


@compiled
def interact(n, qi, hi, ai, radius2, pair):  # type: ignore[no-untyped-def]
    """Energies and derivatives of n pairs of one atom with charge qi, ratio hi and free polarizability ai.

    Args:
        pair: [15, n]. In: of the other atoms charge, ratio, free polarizability, C6 constant; r², d, V, V', w, w'. Out:
            half the energies of electrostatics and dispersion; derivatives by distance, over the distance; by hi; by
            the other's h.
    """
    q, h, a, c6, r2 = pair[0], pair[1], pair[2], pair[3], pair[4]
    d, v, slope, w, w_slope = pair[5], pair[6], pair[7], pair[8], pair[9]
    e1, e2, by_d, by_hi, by_hj = pair[10], pair[11], pair[12], pair[13], pair[14]
    real = pair.dtype.type
    one, half = real(1.0), real(0.5)
    per_bohr2, far2 = real(1.0 / BOHR_2014**2), real(FAR**2)
    hartree, power = real(-HARTREE_2014), real(_RADIUS_POWER)
    for k in range(n):
        c = min(r2[k], far2) * per_bohr2
        root, inverse = seventh_root(half * (hi * ai + h[k] * a[k]))
        rho = power * root
        g = ((real(_B3) * rho + real(_B2)) * rho + real(_B1)) * rho + real(_B0)
        g_rho = ((real(3.0 * _B3) * rho + real(2.0 * _B2)) * rho + real(_B1)) * rho
        gamma = real(2.0) * g * g
        q2 = radius2 * root * root
        r4, q4 = c * c, q2 * q2
        r6, q6, r8, q8 = r4 * c, q4 * q2, r4 * r4, q4 * q4
        x6, x8, x10 = one / (r6 + q6), one / (r8 + q8), one / (r6 * r4 + q6 * q4)
        c8, c10 = real(5.0) * gamma, real(30.625) * gamma * gamma
        series = x6 + c8 * x8 + c10 * x10
        y6, y8, y10 = x6 * x6, c8 * x8 * x8, c10 * x10 * x10
        by_c = -(real(3.0) * r4 * y6 + real(4.0) * r6 * y8 + real(5.0) * r8 * y10)
        by_alpha = (real(5.0) * x8 + real(61.25) * gamma * x10) * real(4.0) * g * g_rho
        by_alpha -= real(6.0) * q6 * y6 + real(8.0) * q8 * y8 + real(10.0) * q6 * q4 * y10
        strength = hartree * c6[k]
        base = strength * series * w[k]
        hh, qq = hi * h[k], qi * q[k]
        # 1/14: a seventh of the polarizability's power, half of each atom's
        shared = hh * strength * w[k] * by_alpha * inverse * real(1.0 / 14.0)
        e1[k] = half * qq * v[k]
        e2[k] = half * hh * base
        by_hi[k] = h[k] * base + shared * ai
        by_hj[k] = hi * base + shared * a[k]
        by_c = by_c if r2[k] < far2 else real(0.0)
        radial = strength * (w[k] * by_c * real(2.0) * d[k] * per_bohr2 + series * w_slope[k])
        by_d[k] = (qq * slope[k] + hh * radial) / d[k]


@compiled
def long_range(  # type: ignore[no-untyped-def]
    thread, first, last, start, other, code, positions, shifts, batch, numbers, charges, ratios, constants, table, kind,
    energies, gradient, charge_pull, ratio_pull, strain,
):  # fmt: skip
    """Pairs of receivers first..last, added up for this thread.

    Args:
        start, other, code: [N+1] first pair of each atom, [P] the other atom and the number of its lattice translation.
        positions, shifts: [N, 3] and [B, S, 3], Å, float64.
        kind: [B] which of the cutoffs.
        energies: [T, 2, N] electrostatics and dispersion, float64; set to zero first, as all that follows.
        gradient, strain: [T, N, 3] by positions and [T, B or 0, 3, 3], float64.
        charge_pull, ratio_pull: [T, N].
    """
    real = charges.dtype.type
    pair = np.empty((15, CHUNK), charges.dtype)
    apart = np.empty((3, CHUNK), charges.dtype)
    place = np.empty(CHUNK, np.int64)
    c_sum, d_sum, g_sum = energies[thread, 0], energies[thread, 1], gradient[thread]
    q_sum, h_sum, s_sum = charge_pull[thread], ratio_pull[thread], strain[thread]
    strained = s_sum.shape[0] > 0
    c_sum[:] = 0.0
    d_sum[:] = 0.0
    g_sum[:] = 0.0
    q_sum[:] = 0.0
    h_sum[:] = 0.0
    s_sum[:] = 0.0
    radius2 = real(constants.radius**2)
    for i in range(first, last):
        b = batch[i]
        which = kind[b]
        limit2 = table.limit[which] ** 2
        rows = table.rows[which].reshape(-1)
        scale, end = real(table.scale[which]), real(table.rows.shape[1] / table.scale[which])
        xi, yi, zi = positions[i, 0], positions[i, 1], positions[i, 2]
        qi, hi, ai = charges[i], ratios[i], constants.alpha[numbers[i]]
        c6, moves = constants.c6[numbers[i]], shifts[b]
        c_one, d_one, g_x, g_y, g_z, q_one, h_one = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        p = start[i]
        while p < start[i + 1]:
            n = 0
            while p < start[i + 1] and n < CHUNK:
                # unsigned: negative indices would have to be looked for
                j, s = np.uint64(other[p]), np.uint64(code[p])
                x = positions[j, 0] - xi + moves[s, 0]
                y = positions[j, 1] - yi + moves[s, 1]
                z = positions[j, 2] - zi + moves[s, 2]
                r2 = x * x + y * y + z * z
                p += 1
                # written so that what is not a number is kept, and found
                if not (r2 >= limit2):
                    place[n] = j
                    apart[0, n], apart[1, n], apart[2, n], pair[4, n] = x, y, z, r2
                    number = np.uint64(numbers[j])
                    pair[0, n], pair[1, n], pair[3, n] = charges[j], ratios[j], c6[number]
                    pair[2, n] = constants.alpha[number]
                    n += 1
            look_up(n, pair[4], rows, scale, end, math.isfinite(limit2), pair[5], pair[6], pair[7], pair[8], pair[9])
            interact(n, qi, hi, ai, radius2, pair)
            for k in range(n):
                j = np.uint64(place[k])
                c_one += pair[10, k]
                d_one += pair[11, k]
                q_one += pair[0, k] * pair[6, k]
                h_one += pair[13, k]
                g = pair[12, k]
                x, y, z = g * apart[0, k], g * apart[1, k], g * apart[2, k]
                g_x += x
                g_y += y
                g_z += z
                c_sum[j] += pair[10, k]
                d_sum[j] += pair[11, k]
                q_sum[j] += qi * pair[6, k]
                h_sum[j] += pair[14, k]
                g_sum[j, 0] += x
                g_sum[j, 1] += y
                g_sum[j, 2] += z
            if strained:
                for k in range(n):
                    g = pair[12, k]
                    x, y, z = apart[0, k], apart[1, k], apart[2, k]
                    s_sum[b, 0, 0] += g * x * x
                    s_sum[b, 0, 1] += g * x * y
                    s_sum[b, 0, 2] += g * x * z
                    s_sum[b, 1, 1] += g * y * y
                    s_sum[b, 1, 2] += g * y * z
                    s_sum[b, 2, 2] += g * z * z
        c_sum[i] += c_one
        d_sum[i] += d_one
        q_sum[i] += q_one
        h_sum[i] += h_one
        g_sum[i, 0] -= g_x
        g_sum[i, 1] -= g_y
        g_sum[i, 2] -= g_z
    for b in range(s_sum.shape[0]):
        s_sum[b, 1, 0], s_sum[b, 2, 0], s_sum[b, 2, 1] = s_sum[b, 0, 1], s_sum[b, 0, 2], s_sum[b, 1, 2]
