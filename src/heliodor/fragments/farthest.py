"""Farthest points: structures unlike all those chosen so far, one after another (Gonzalez, 1985)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.errors import InputError
from heliodor.fragments.aligned import Points, Progress

ROWS = 2048
"""Structures compared with all the chosen ones at once."""


@dataclass(frozen=True, eq=False)
class Nearest:
    """To which of K chosen structures each of F is nearest.

    Attributes:
        chosen: indices of the K.
        place: which of them, 0..K-1; of equally near ones the first.
        squared: squared distance to it (Å² for `Shapes`).
    """

    chosen: Int[np.ndarray, "K"]
    place: Int[np.ndarray, "F"]
    squared: Float[np.ndarray, "F"]


def nearest(points: Points, chosen: Int[np.ndarray, "K"], progress: Progress | None = None) -> Nearest:
    """To which of the chosen points each is nearest.

    Raises:
        InputError: none chosen.
    """
    if len(chosen) == 0:
        raise InputError("nothing is nearest to an empty set")
    told = progress or (lambda *_: None)
    stand = points.take(chosen)
    place = np.empty(len(points), np.int64)
    squared = np.empty(len(points), np.float32)
    for first in range(0, len(points), ROWS):
        rows = np.arange(first, min(first + ROWS, len(points)))
        found = points.take(rows).squared(stand)
        place[rows] = found.argmin(axis=1)
        squared[rows] = found[np.arange(len(rows)), place[rows]]
        told("nearest representatives", int(rows[-1]) + 1, len(points))
    place[chosen], squared[chosen] = np.arange(len(chosen)), 0.0
    return Nearest(chosen, place, squared)


def add_farthest(points: Points, start: Nearest, count: int, progress: Progress | None = None) -> Nearest:
    """With up to ``count`` more: each time the point farthest from all chosen ones; none that repeats one of them.

    Raises:
        InputError: a negative count.
    """
    if count < 0:
        raise InputError(f"cannot add {count} structures")
    told = progress or (lambda *_: None)
    chosen, place, squared = start.chosen.tolist(), start.place.copy(), start.squared.copy()
    for k in range(count):
        far = int(squared.argmax())
        if not squared[far] > 0.0:
            break
        distance = points.squared(points.take(np.array([far])))[:, 0]
        distance[far] = 0.0
        closer = distance < squared
        place[closer] = len(chosen)
        squared[closer] = distance[closer]
        chosen.append(far)
        told("farthest points", k + 1, count)
    return Nearest(np.array(chosen, dtype=np.int64), place, squared)
