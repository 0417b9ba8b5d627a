"""Distances within many structures at once: the closest pair, neighbours against covalent radii, marks of a shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float, Int

from heliodor.train.dataset import Dataset

PAIRS = 150_000
"""Pairs of atoms in memory at a time (or one structure)."""


@dataclass(frozen=True, eq=False)
class Shapes:
    """What distances say of each of S structures.

    Attributes:
        shortest: Å, the closest pair; infinite for single atoms.
        bonded: median over atoms of the distance to the nearest neighbour over the sum of covalent radii; NaN for
            single atoms.
        marks: three sums over pairs that do not change with rotation, reflection or the order of like atoms:
            Σ Z_i Z_j/(r + ½ Å), Σ Z_i Z_j exp(-r/1.5 Å), Σ (Z_i + Z_j) r.
        slopes: of the marks, root of the summed squares of their derivatives by the distances, per Å.
    """

    shortest: Float[np.ndarray, "S"]
    bonded: Float[np.ndarray, "S"]
    marks: Float[np.ndarray, "S 3"]
    slopes: Float[np.ndarray, "S 3"]


def measure_shapes(data: Dataset, progress: Callable[[int, int], None] | None = None) -> Shapes:
    """Distances of all structures; between nearest images of periodic ones, exact below half their cell's thickness.

    Args:
        progress: called with the structures done and their number.
    """
    count = len(data)
    shortest, bonded = np.full(count, np.inf), np.full(count, np.nan)
    marks, slopes = np.zeros((count, 3)), np.zeros((count, 3))
    done = 0
    for chosen, numbers, r in distance_tables(data):
        if numbers.shape[1] > 1:
            nearest = r.min(2)
            partner = r.argmin(2)
            shortest[chosen] = nearest.min(1)
            radii = covalent_radii[numbers]
            bonded[chosen] = np.median(nearest / (radii + np.take_along_axis(radii, partner, 1)), axis=1)
            i, j = np.triu_indices(numbers.shape[1], 1)
            z = numbers.astype(np.float64)
            d, product, total = r[:, i, j], z[:, i] * z[:, j], z[:, i] + z[:, j]
            near, far = product / (d + 0.5), product * np.exp(-d / 1.5)
            marks[chosen] = np.stack([near.sum(1), far.sum(1), (total * d).sum(1)], axis=1)
            rates = (near / (d + 0.5), far / 1.5, total)
            slopes[chosen] = np.stack([np.sqrt((rate**2).sum(1)) for rate in rates], axis=1)
        done += len(chosen)
        if progress is not None:
            progress(done, count)
    return Shapes(shortest, bonded, marks, slopes)


def distance_tables(
    data: Dataset, where: Int[np.ndarray, "s"] | None = None
) -> Iterator[tuple[Int[np.ndarray, "c"], Int[np.ndarray, "c n"], Float[np.ndarray, "c n n"]]]:
    """Indices, elements and distances (Å, infinite on the diagonal) of structures with equally many atoms, in pieces.

    Structures near each other in the set are taken together, so that a shelf is read from its beginning to its end.
    """
    order = np.arange(len(data)) if where is None else np.asarray(where)
    for begin in range(0, len(order), 20_000):
        window = order[begin : begin + 20_000]
        counts = data.offsets[window + 1] - data.offsets[window]
        for n in np.unique(counts):
            same = window[counts == n]
            size = max(1, PAIRS // int(n) ** 2)
            for k in range(0, len(same), size):
                chosen = same[k : k + size]
                rows = data.offsets[chosen][:, None] + np.arange(n)
                yield chosen, np.asarray(data.numbers[rows]), _distances(data, chosen, np.asarray(data.positions[rows]))


def nearest_images(difference: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Difference vectors [c, ..., 3] in Å of the images nearest to each other, for cells [c, 3, 3]."""
    from ase.geometry import complete_cell

    whole = np.stack([complete_cell(one) for one in cell])
    inverse = np.linalg.inv(whole)
    flat = difference.reshape(len(cell), -1, 3)
    turns = np.round(flat @ inverse) * pbc[:, None, :]
    return np.asarray((flat - turns @ whole).reshape(difference.shape))


def _distances(data: Dataset, chosen: np.ndarray, positions: np.ndarray) -> np.ndarray:
    from ase.geometry import complete_cell

    pbc = data.pbc[chosen]
    cells = np.broadcast_to(np.eye(3), (len(chosen), 3, 3))
    if pbc.any():
        cells = np.stack(
            [complete_cell(c) if p.any() else np.eye(3) for c, p in zip(data.cell[chosen], pbc, strict=True)]
        )
        positions = positions @ np.linalg.inv(cells)
    metric = cells @ cells.transpose(0, 2, 1)
    # one component at a time: numpy is slow at sums over three numbers
    apart = []
    for x in range(3):
        d = positions[:, None, :, x] - positions[:, :, None, x]
        if pbc[:, x].any():
            d -= np.round(d) * pbc[:, x, None, None]
        apart.append(d)
    squares = np.zeros_like(apart[0])
    for x in range(3):
        for y in range(x, 3):
            weight = metric[:, x, y] * (1.0 if x == y else 2.0)
            if weight.any():
                squares += weight[:, None, None] * apart[x] * apart[y]
    # rounding can leave less than nothing
    r = np.sqrt(np.maximum(squares, 0.0))
    n = np.arange(r.shape[1])
    r[:, n, n] = np.inf
    return np.asarray(r)
