"""Symmetric products of atoms' vectors, channels side by side: see `heliodor.kernels.cpu.mace.loops` for the layout."""

from __future__ import annotations

import numpy as np

from heliodor.kernels.cpu.compiled import compiled


@compiled
def multiply(first, last, species, a, pairs, terms, coefficients, result):  # type: ignore[no-untyped-def]
    """Symmetric products of atoms first..last: result [M, N, K] from a [S, N, K].

    Args:
        pairs: [P, 2], products a_q a_q' that terms refer to.
        terms: [T, 3] of (M, q, pair); q < 0 for none, pair < 0 for none.
        coefficients: [Z, T, K].
    """
    channels = a.shape[2]
    own = np.empty((a.shape[0], channels), a.dtype)
    twos = np.empty((pairs.shape[0], channels), a.dtype)
    total = np.empty((result.shape[0], channels), a.dtype)
    for i in range(first, last):
        z = species[i]
        for q in range(a.shape[0]):
            for k in range(channels):
                own[q, k] = a[q, i, k]
        for n in range(pairs.shape[0]):
            q, s = pairs[n, 0], pairs[n, 1]
            for k in range(channels):
                twos[n, k] = own[q, k] * own[s, k]
        total[:] = 0.0
        for n in range(terms.shape[0]):
            m, q, two = terms[n, 0], terms[n, 1], terms[n, 2]
            if two < 0:
                for k in range(channels):
                    total[m, k] += coefficients[z, n, k] * own[q, k]
            elif q < 0:
                for k in range(channels):
                    total[m, k] += coefficients[z, n, k] * twos[two, k]
            else:
                for k in range(channels):
                    total[m, k] += coefficients[z, n, k] * own[q, k] * twos[two, k]
        for m in range(result.shape[0]):
            for k in range(channels):
                result[m, i, k] = total[m, k]


@compiled
def multiply_back(first, last, species, a, pairs, terms, coefficients, pull, a_pull):  # type: ignore[no-untyped-def]
    """Gradient of `multiply` by a, added to a_pull [S, N, K]; pull [M, N, K]."""
    channels = a.shape[2]
    own = np.empty((a.shape[0], channels), a.dtype)
    twos = np.empty((pairs.shape[0], channels), a.dtype)
    twos_pull = np.empty((pairs.shape[0], channels), a.dtype)
    total = np.empty((a.shape[0], channels), a.dtype)
    for i in range(first, last):
        z = species[i]
        for q in range(a.shape[0]):
            for k in range(channels):
                own[q, k] = a[q, i, k]
                total[q, k] = a_pull[q, i, k]
        for n in range(pairs.shape[0]):
            q, s = pairs[n, 0], pairs[n, 1]
            for k in range(channels):
                twos[n, k] = own[q, k] * own[s, k]
        twos_pull[:] = 0.0
        for n in range(terms.shape[0]):
            m, q, two = terms[n, 0], terms[n, 1], terms[n, 2]
            if two < 0:
                for k in range(channels):
                    total[q, k] += coefficients[z, n, k] * pull[m, i, k]
            elif q < 0:
                for k in range(channels):
                    twos_pull[two, k] += coefficients[z, n, k] * pull[m, i, k]
            else:
                for k in range(channels):
                    w = coefficients[z, n, k] * pull[m, i, k]
                    total[q, k] += w * twos[two, k]
                    twos_pull[two, k] += w * own[q, k]
        for n in range(pairs.shape[0]):
            q, s = pairs[n, 0], pairs[n, 1]
            for k in range(channels):
                w = twos_pull[n, k]
                total[q, k] += w * own[s, k]
                total[s, k] += w * own[q, k]
        for q in range(a.shape[0]):
            for k in range(channels):
                a_pull[q, i, k] = total[q, k]
