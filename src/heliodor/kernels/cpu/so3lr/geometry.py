"""From positions to what the network knows of its edges, and from its derivatives by them to forces; with repulsion.

The list holds more pairs than are close enough: those that are, are collected first.
"""

from __future__ import annotations

import math

import numpy as np

from heliodor.kernels.cpu.compiled import compiled
from heliodor.kernels.cpu.so3lr.harmonics import COMPONENTS, harmonics, harmonics_pullback
from heliodor.physics.tables import COULOMB


@compiled
def count_edges(  # type: ignore[no-untyped-def]
    first, last, start, other, code, positions, shifts, batch, cutoff, count,
):  # fmt: skip
    """Pairs of each of the atoms first..last within the cutoff, into count [N]."""
    limit = cutoff * cutoff
    for i in range(first, last):
        b = batch[i]
        n = 0
        for p in range(start[i], start[i + 1]):
            j, s = other[p], code[p]
            x = positions[j, 0] - positions[i, 0] + shifts[b, s, 0]
            y = positions[j, 1] - positions[i, 1] + shifts[b, s, 1]
            z = positions[j, 2] - positions[i, 2] + shifts[b, s, 2]
            # what is not a number is kept, and found
            n += not (x * x + y * y + z * z > limit)
        count[i] = n


@compiled
def switch(x):  # type: ignore[no-untyped-def]
    """1 for x <= 0, 0 for x >= 1, smooth between, and the derivative (`heliodor.potentials.radial.smooth_switch`)."""
    if x <= 0.0:
        return 1.0, 0.0
    if x >= 1.0:
        return 0.0, 0.0
    u = 1.0 - x
    s = 1.0 / (1.0 + math.exp(1.0 / u - 1.0 / x))
    return s, -s * (1.0 - s) * (1.0 / (x * x) + 1.0 / (u * u))


@compiled
def find_edges(  # type: ignore[no-untyped-def]
    thread, first, last, start, other, code, positions, shifts, batch, numbers, cutoff, average, repulsion, place,
    pair_i, pair_j, unit, d, scaled, slope, angular, d_pull, energies,
):  # fmt: skip
    """Edges of receivers first..last.

    Args:
        place: [N+1] first edge of each atom among those that are written:
        pair_i, pair_j: [P] atoms.
        unit, d: [P, 3], [P] Å.
        scaled, slope: [P] cutoff function over average number of neighbours, and its derivative.
        angular: [P, M] harmonics.
        d_pull: [P], set to the derivative of the repulsion.
        energies: [T, N] repulsion, set to zero first.
    """
    limit = cutoff * cutoff
    y = np.zeros(max(COMPONENTS, angular.shape[1]))
    known = angular.shape[1]
    mine = energies[thread]
    mine[:] = 0.0
    for i in range(first, last):
        b = batch[i]
        e = place[i]
        for p in range(start[i], start[i + 1]):
            j, s = other[p], code[p]
            x0 = positions[j, 0] - positions[i, 0] + shifts[b, s, 0]
            x1 = positions[j, 1] - positions[i, 1] + shifts[b, s, 1]
            x2 = positions[j, 2] - positions[i, 2] + shifts[b, s, 2]
            r2 = x0 * x0 + x1 * x1 + x2 * x2
            if r2 > limit:
                continue
            r = math.sqrt(r2)
            x0, x1, x2 = x0 / r, x1 / r, x2 / r
            pair_i[e], pair_j[e] = i, j
            unit[e, 0], unit[e, 1], unit[e, 2] = x0, x1, x2
            d[e] = r
            u = min(r / cutoff, 1.0)
            f = 1.0 + u * u * u * (u * (15.0 - 6.0 * u) - 10.0)
            f_slope = -30.0 * u * u * (1.0 - u) * (1.0 - u) / cutoff
            scaled[e], slope[e] = f / average, f_slope / average
            harmonics(x0, x1, x2, y)
            for m in range(known):
                angular[e, m] = y[m]
            d_pull[e] = 0.0
            x = r / repulsion.switch_off
            if x < 1.0:
                w, w_slope = switch(x)
                z = COULOMB * repulsion.charge[numbers[i]] * repulsion.charge[numbers[j]]
                by = (repulsion.power[numbers[i]] + repulsion.power[numbers[j]]) * repulsion.inverse
                screen, screen_slope = 0.0, 0.0
                for n in range(len(repulsion.exponents)):
                    t = repulsion.coefficients[n] * math.exp(-repulsion.exponents[n] * by * r)
                    screen += t
                    screen_slope -= repulsion.exponents[n] * by * t
                energy = z / r * f * screen * w
                mine[i] += 0.5 * energy
                mine[j] += 0.5 * energy
                g = f_slope * screen * w + f * (screen_slope * w + screen * w_slope / repulsion.switch_off)
                d_pull[e] = z / r * g - energy / r
            e += 1


@compiled
def pull_edges(  # type: ignore[no-untyped-def]
    thread,
    first,
    last,
    place,
    pair_i,
    pair_j,
    batch,
    unit,
    d,
    slope,
    d_pull,
    scaled_pull,
    angular_pull,
    gradient,
    strain,
):  # fmt: skip
    """Derivatives by positions from those by distance, cutoff function and harmonics of the edges of first..last.

    Args:
        gradient, strain: [T, N, 3] and [T, B or 0, 3, 3], float64, added to.
    """
    g_sum, s_sum = gradient[thread], strain[thread]
    strained = s_sum.shape[0] > 0
    pull = np.zeros(max(COMPONENTS, angular_pull.shape[1]))
    for p in range(place[first], place[last]):
        i, j = pair_i[p], pair_j[p]
        x, y, z = float(unit[p, 0]), float(unit[p, 1]), float(unit[p, 2])
        for m in range(angular_pull.shape[1]):
            pull[m] = angular_pull[p, m]
        gx, gy, gz = harmonics_pullback(x, y, z, pull)
        along = gx * x + gy * y + gz * z
        radial = d_pull[p] + slope[p] * scaled_pull[p]
        gx = (gx - along * x) / d[p] + radial * x
        gy = (gy - along * y) / d[p] + radial * y
        gz = (gz - along * z) / d[p] + radial * z
        g_sum[i, 0] -= gx
        g_sum[i, 1] -= gy
        g_sum[i, 2] -= gz
        g_sum[j, 0] += gx
        g_sum[j, 1] += gy
        g_sum[j, 2] += gz
        if strained:
            b = batch[i]
            x, y, z = x * d[p], y * d[p], z * d[p]
            s_sum[b, 0, 0] += x * gx
            s_sum[b, 0, 1] += x * gy
            s_sum[b, 0, 2] += x * gz
            s_sum[b, 1, 0] += y * gx
            s_sum[b, 1, 1] += y * gy
            s_sum[b, 1, 2] += y * gz
            s_sum[b, 2, 0] += z * gx
            s_sum[b, 2, 1] += z * gy
            s_sum[b, 2, 2] += z * gz
