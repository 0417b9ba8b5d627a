"""Basins of a free-energy surface: which minima, and which points belong to each."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float, Int


def basins(
    surface: Float[np.ndarray, "*n"], periodic: bool, depth: float
) -> tuple[Int[np.ndarray, "*n"], Int[np.ndarray, "B D"]]:
    """Minima at least ``depth`` below the lowest pass to a deeper one, deepest first, and the basin of each point.

    The surface is filled from below; where two lakes meet, the shallower one becomes part of the other unless it is
    deep enough (persistence).

    Returns:
        labels, and grid indices of the minima.
    """
    shape = surface.shape
    flat = surface.ravel()
    offsets = [o for o in itertools.product((-1, 0, 1), repeat=len(shape)) if any(o)]
    label = np.full(flat.size, -1)
    lowest: list[int] = []
    parent: list[int] = []

    def root(k: int) -> int:
        while parent[k] != k:
            k = parent[k]
        return k

    for point in np.argsort(flat, kind="stable").tolist():
        place = np.unravel_index(point, shape)
        near: set[int] = set()
        below = (np.inf, -1)
        for o in offsets:
            there = [int(p) + d for p, d in zip(place, o, strict=True)]
            if periodic:
                there = [t % n for t, n in zip(there, shape, strict=True)]
            elif any(not 0 <= t < n for t, n in zip(there, shape, strict=True)):
                continue
            at = int(np.ravel_multi_index(there, shape))
            if label[at] >= 0:
                near.add(root(int(label[at])))
                below = min(below, (float(flat[at]), at))
        if not near:
            label[point] = len(lowest)
            parent.append(len(lowest))
            lowest.append(point)
            continue
        # on a ridge to the side that goes down most steeply
        label[point] = label[below[1]]
        # lakes are numbered from below
        deepest = min(near)
        for other in near - {deepest}:
            if flat[point] - flat[lowest[other]] < depth:
                parent[other] = deepest
    roots = sorted({root(k) for k in range(len(lowest))})
    number = {r: k for k, r in enumerate(roots)}
    labels = np.array([number[root(int(k))] for k in label]).reshape(shape)
    minima = np.array([np.unravel_index(lowest[r], shape) for r in roots], dtype=np.int64)
    return labels, minima
