"""Root mean square deviations after optimal superposition, of many structures at once.

The smallest deviation of two centred structures is √((Ga + Gb - 2λ)/n), where G are sums of squared coordinates and λ
is the largest eigenvalue of a 4x4 matrix made of the correlation matrix Aᵀ B: Horn, J. Opt. Soc. Am. A 4, 629 (1987);
Theobald, Acta Cryst. A 61, 478 (2005). Reflections are not superposed.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

CHUNK = 200_000
"""Pairs whose 4x4 matrices are in memory at once."""


def centred(positions: Float[np.ndarray, "F n 3"]) -> Float[np.ndarray, "F n 3"]:
    """With the centre of each structure at the origin."""
    result: np.ndarray = positions - positions.mean(axis=1, keepdims=True)
    return result


def rmsd_of_pairs(
    a: Float[np.ndarray, "F n 3"], b: Float[np.ndarray, "F n 3"] | Float[np.ndarray, "1 n 3"]
) -> Float[np.ndarray, "F"]:
    """Å between structures of the same row (or all of ``a`` and the one of ``b``), superposed optimally."""
    a, b = centred(a), centred(b)
    correlation = np.einsum("fni,fnj->fij", a, np.broadcast_to(b, a.shape))
    return _deviation(np.square(a).sum((1, 2)), np.square(b).sum((1, 2)), correlation, a.shape[1])


def rmsd_matrix(a: Float[np.ndarray, "A n 3"], b: Float[np.ndarray, "B n 3"]) -> Float[np.ndarray, "A B"]:
    """Å between each structure of one set and each of another, superposed optimally."""
    a, b = centred(a), centred(b)
    n = a.shape[1]
    size_a, size_b = np.square(a).sum((1, 2)), np.square(b).sum((1, 2))
    columns = b.transpose(1, 0, 2).reshape(n, -1)
    result = np.empty((len(a), len(b)))
    step = max(1, CHUNK // max(len(b), 1))
    for first in range(0, len(a), step):
        rows = slice(first, first + step)
        some = a[rows].transpose(0, 2, 1).reshape(-1, n)
        correlation = (some @ columns).reshape(-1, 3, len(b), 3).transpose(0, 2, 1, 3)
        result[rows] = _deviation(size_a[rows, None], size_b[None, :], correlation, n)
    return result


def superposed(
    positions: Float[np.ndarray, "F n 3"], reference: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "F n 3"]:
    """Structures turned and moved onto a reference, which is centred at the origin.

    Kabsch, Acta Cryst. A 32, 922 (1976).
    """
    a, b = centred(positions), reference - reference.mean(0)
    u, _, vt = np.linalg.svd(np.einsum("fni,nj->fij", a, b))
    turned = np.sign(np.linalg.det(u @ vt))
    # a reflection would fit better: the least important axis is turned back
    u[:, :, -1] *= turned[:, None]
    result: np.ndarray = a @ (u @ vt)
    return result


def _deviation(size_a: np.ndarray, size_b: np.ndarray, m: np.ndarray, n: int) -> np.ndarray:
    """``m`` [..., 3, 3] correlation matrices."""
    key = np.empty((*m.shape[:-2], 4, 4))
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    key[..., 0, 0] = xx + yy + zz
    key[..., 1, 1] = xx - yy - zz
    key[..., 2, 2] = yy - xx - zz
    key[..., 3, 3] = zz - xx - yy
    for (i, j), value in {
        (0, 1): m[..., 1, 2] - m[..., 2, 1],
        (0, 2): m[..., 2, 0] - m[..., 0, 2],
        (0, 3): m[..., 0, 1] - m[..., 1, 0],
        (1, 2): m[..., 0, 1] + m[..., 1, 0],
        (1, 3): m[..., 0, 2] + m[..., 2, 0],
        (2, 3): m[..., 1, 2] + m[..., 2, 1],
    }.items():
        key[..., i, j] = key[..., j, i] = value
    largest = np.linalg.eigvalsh(key)[..., -1]
    result: np.ndarray = np.sqrt(np.maximum(size_a + size_b - 2.0 * largest, 0.0) / n)
    return result
