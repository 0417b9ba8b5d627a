"""Structures that occur more than once."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from jaxtyping import Int

from heliodor.train.data.distances import Shapes, distance_tables, measure_shapes
from heliodor.train.dataset import Dataset

TOLERANCE = 1e-4
"""Å: distances that differ by less are the same. Files have rounded coordinates."""


def find_duplicates(data: Dataset, tolerance: float = TOLERANCE, shapes: Shapes | None = None) -> Int[np.ndarray, "S"]:
    """For each structure the first one that is the same (itself, if none before it).

    Structures are the same if composition, charge, spin and all distances between atoms are, kind of pair by kind of
    pair: whatever their rotation and the order of like atoms. Mirror images count as the same, as they do for every
    model of this package. Candidates are found by three sums over pairs (`Shapes`), then compared distance by distance.

    Args:
        tolerance: Å, by which distances may differ.
    """
    shapes = measure_shapes(data) if shapes is None else shapes
    first = np.arange(len(data))
    for members in _alike(data):
        order = members[np.argsort(shapes.marks[members, 0], kind="stable")]
        marks = shapes.marks[order]
        # distances that differ at random by the tolerance change a mark by less than this
        width = 4.0 * tolerance * shapes.slopes[order] + 1e-9 * np.abs(marks)
        for shift in range(1, len(order)):
            apart = np.abs(marks[shift:] - marks[:-shift])
            close = apart <= np.maximum(width[shift:], width[:-shift])
            if not close[:, 0].any():
                break
            for k in np.flatnonzero(close.all(1)):
                a, b = int(order[k]), int(order[k + shift])
                if _root(first, a) != _root(first, b) and _same(data, a, b, tolerance):
                    low, high = sorted((_root(first, a), _root(first, b)))
                    first[high] = low
    for number in range(len(first)):
        first[number] = _root(first, number)
    return first


def _alike(data: Dataset) -> list[np.ndarray]:
    """Structures of equal composition, charge, spin and periodicity."""
    found: dict[tuple[bytes, float, float, bytes], list[int]] = defaultdict(list)
    for k in range(len(data)):
        numbers = np.sort(data.numbers[data.span(k)]).tobytes()
        found[numbers, float(data.charge[k]), float(data.spin[k]), data.pbc[k].tobytes()].append(k)
    return [np.array(members) for members in found.values() if len(members) > 1]


def _root(first: np.ndarray, k: int) -> int:
    while first[k] != k:
        k = int(first[k])
    return k


def _same(data: Dataset, a: int, b: int, tolerance: float) -> bool:
    if data.pbc[a].any():
        mine, theirs = (data.cell[k] @ data.cell[k].T for k in (a, b))
        if not np.allclose(mine, theirs, rtol=0.0, atol=tolerance * max(1.0, float(np.sqrt(np.abs(mine).max())))):
            return False
    lists = [_sorted_distances(data, k) for k in (a, b)]
    return bool(np.abs(lists[0] - lists[1]).max(initial=0.0) <= tolerance)


def _sorted_distances(data: Dataset, k: int) -> np.ndarray:
    _, numbers, r = next(distance_tables(data, np.array([k])))
    i, j = np.triu_indices(numbers.shape[1], 1)
    z, d = numbers[0].astype(np.int64), r[0, i, j]
    kind = np.minimum(z[i], z[j]) * 1000 + np.maximum(z[i], z[j])
    return np.asarray(d[np.lexsort((d, kind))])
