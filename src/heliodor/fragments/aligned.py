"""Distances between structures of the same atoms: least sums of squares after centring and the best rotation.

d²(x, y) = Σ_a |x_a - R y_a|² = |x|² + |y|² - 2λ, R the best proper rotation (Kabsch, Acta Cryst. A 32, 922 (1976)).
λ is the largest eigenvalue of Horn's 4x4 matrix (J. Opt. Soc. Am. A 4, 629 (1987)), found as the largest root of its
characteristic polynomial by Newton's method from above (Theobald, Acta Cryst. A 61, 478 (2005)). With M = Σ_a x_a y_aᵀ:

    P(λ) = λ⁴ - 2|M|² λ² - 8 det(M) λ + |M|⁴ - 4|adj M|²

Correlation matrices of a whole tile of pairs are one matrix product. All arithmetic is float64, results are float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped

from heliodor.errors import InputError
from heliodor.kernels.cpu.threads import run

TILE = 256
"""Structures along each side of the tiles in which pairs are taken: 9 numbers of each fit the cache."""

MOST_STEPS = 60
"""Of Newton's method: where two roots coincide (molecules in a line) each step only halves the error."""

PRECISION = 1e-12
"""Relative, of the root."""

Progress = Callable[[str, int, int], object]
"""Called with what is being done, how much is done, and of how much."""


@runtime_checkable
class Points(Protocol):
    """Things with a squared distance between any two."""

    def __len__(self) -> int: ...

    def take(self, index: Int[np.ndarray, "K"]) -> Any:
        """Some of them, in this order."""
        ...

    def squared(self, other: Any) -> Float[np.ndarray, "A B"]:
        """Squared distances of all of these to all of those, float32."""
        ...

    def fingerprint(self) -> bytes:
        """Bytes that change when a distance does."""
        ...


@dataclass(frozen=True, eq=False)
class Shapes:
    """F structures of the same n atoms, centred; made by `shapes`.

    Attributes:
        positions: Å.
        size: Å², sum of squared coordinates of each.
    """

    positions: Float[np.ndarray, "F n 3"]
    size: Float[np.ndarray, "F"]

    def __len__(self) -> int:
        return len(self.size)

    @property
    def n_atoms(self) -> int:
        return self.positions.shape[1]

    def take(self, index: Int[np.ndarray, "K"]) -> Shapes:
        """Some of them, in this order."""
        return Shapes(self.positions[index], self.size[index])

    def squared(self, other: Shapes) -> Float[np.ndarray, "A B"]:
        """Å², least sums over the atoms of squared distances, each pair superposed; float32.

        Raises:
            InputError: structures of other atoms.
        """
        if other.n_atoms != self.n_atoms:
            raise InputError(f"structures of {self.n_atoms} and of {other.n_atoms} atoms cannot be superposed")
        out = np.empty((len(self), len(other)), np.float32)
        fill = _filler()
        for top in range(0, len(self), TILE):
            rows = slice(top, min(top + TILE, len(self)))
            left = torch.from_numpy(self.positions[rows].transpose(2, 0, 1).reshape(-1, self.n_atoms))
            for begin in range(0, len(other), TILE):
                columns = slice(begin, min(begin + TILE, len(other)))
                right = torch.from_numpy(other.positions[columns].transpose(2, 0, 1).reshape(-1, self.n_atoms))
                count, width = rows.stop - rows.start, columns.stop - columns.start
                m = (left @ right.T).numpy().reshape(3, count, 3, width)
                fill(m, self.size[rows], other.size[columns], out[rows, columns])
        return out

    def fingerprint(self) -> bytes:
        """Bytes that change when a distance does."""
        return np.ascontiguousarray(self.positions).tobytes()


def shapes(positions: Shaped[np.ndarray, "F n 3"], masses: Float[np.ndarray, "n"] | None = None) -> Shapes:
    """Structures ready to be superposed.

    Args:
        positions: Å.
        masses: amu; the centre of mass is laid at the origin, and rotations are about it. None: the mean position,
            about which the distance is smallest. The sum of squares has no weights in either case.

    Raises:
        InputError: no atoms, positions that are no numbers, masses that do not fit.
    """
    if positions.shape[1] == 0:
        raise InputError("structures without atoms have no distances")
    x = np.array(positions, dtype=np.float64)
    if not np.isfinite(x).all():
        bad = int(np.flatnonzero(~np.isfinite(x).all(axis=(1, 2)))[0])
        raise InputError(f"structure {bad} has a coordinate that is not a finite number")
    if masses is None:
        x -= x.mean(axis=1, keepdims=True)
    else:
        if masses.shape != (x.shape[1],) or not (masses > 0.0).all():
            raise InputError(f"masses must be {x.shape[1]} numbers above zero, one for each atom")
        # from near the origin, so that far-off structures lose nothing
        x -= x[:, :1].copy()
        x -= np.einsum("n,fni->fi", masses / masses.sum(), x)[:, None]
    return Shapes(x, np.einsum("fni,fni->f", x, x))


def squared_distances(points: Points) -> Float[np.ndarray, "F F"]:
    """Å² between all of some structures, each pair once; float32, zeros on the diagonal."""
    out = np.empty((len(points), len(points)), np.float32)
    for first in range(0, len(points), TILE):
        fill_strip(points, out, first, min(first + TILE, len(points)))
    return out


def fill_strip(points: Points, out: Float[np.ndarray, "F F"], first: int, last: int) -> None:
    """Write distances of rows ``first`` to ``last`` to all from ``first`` on, and their mirror images."""
    strip = points.take(np.arange(first, last)).squared(points.take(np.arange(first, len(points))))
    square = strip[:, : last - first]
    square[:] = np.triu(square, 1) + np.triu(square, 1).T
    out[first:last, first:] = strip
    out[last:, first:last] = strip[:, last - first :].T


def _filler() -> Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], None]:
    """Numba's loop where it is installed."""
    try:
        from heliodor.fragments.selection_loops import fill_distances
    except ImportError:
        return _distances

    def fill(m: np.ndarray, size_a: np.ndarray, size_b: np.ndarray, out: np.ndarray) -> None:
        threads = torch.get_num_threads()
        edges = np.linspace(0, len(size_a), min(threads, len(size_a)) + 1).astype(int).tolist()
        ranges = list(pairwise(edges))
        run(fill_distances, ranges, m, size_a, size_b, out)

    return fill


def _distances(correlation: np.ndarray, size_a: np.ndarray, size_b: np.ndarray, out: np.ndarray) -> None:
    """Squared distances [A, B] from correlation matrices [3, A, 3, B]."""
    a = [[correlation[i, :, j, :] for j in range(3)] for i in range(3)]
    square = np.einsum("iajb,iajb->ab", correlation, correlation)
    minors = np.zeros_like(square)
    turn = np.zeros_like(square)
    for i in range(3):
        for j in range(3):
            k, m, p, q = (i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3
            cofactor = a[k][p] * a[m][q] - a[k][q] * a[m][p]
            minors += cofactor * cofactor
            if i == 0:
                turn += 8.0 * a[0][j] * cofactor
    constant = square * square - 4.0 * minors
    both = size_a[:, None] + size_b[None, :]
    root = np.minimum(0.5 * both, np.sqrt(3.0 * square))
    for _ in range(MOST_STEPS):
        r2 = root * root
        slope = 4.0 * root * (r2 - square) - turn
        value = r2 * (r2 - 2.0 * square) - turn * root + constant
        step = np.divide(value, slope, out=np.zeros_like(root), where=slope > 0.0)
        root -= step
        if not (step > PRECISION * root).any():
            break
    np.maximum(both - 2.0 * root, 0.0, out=out, casting="same_kind")
