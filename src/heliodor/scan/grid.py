"""The grid of a scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from heliodor.errors import InputError

Point = tuple[int, ...]
"""A place on the grid: an index per dihedral."""


@dataclass(frozen=True)
class Axis:
    """The grid along one dihedral.

    Attributes:
        angles: [n] degrees, ascending.
        periodic: whether the last is a neighbour of the first.
    """

    angles: np.ndarray
    periodic: bool

    @staticmethod
    def over(low: float, high: float, step: float) -> Axis:
        """From ``low`` to ``high`` by ``step``, in degrees; of a full turn the end, being the start, is left out.

        Raises:
            InputError: a step that does not divide the range, a range that is none or more than a turn.
        """
        if not all(np.isfinite((low, high, step))) or not 0.0 < step <= 180.0 or not 0.0 < high - low <= 360.0:
            raise InputError(
                f"cannot scan from {low:g}° to {high:g}° by {step:g}°: the range must rise, by a turn at most, "
                "and the step lie between 0 and 180"
            )
        count = round((high - low) / step)
        if count < 1 or abs(count * step - (high - low)) > 1e-6:
            raise InputError(f"steps of {step:g}° do not divide the range from {low:g}° to {high:g}°")
        periodic = abs(high - low - 360.0) < 1e-6
        return Axis(low + step * np.arange(count if periodic else count + 1), periodic)


def neighbours(point: Point, grid: Sequence[Axis]) -> list[Point]:
    """Grid points one step away along one dihedral."""
    found: list[Point] = []
    for k, axis in enumerate(grid):
        n = len(axis.angles)
        for way in (1, -1):
            place = point[k] + way
            if axis.periodic:
                place %= n
            near = (*point[:k], place, *point[k + 1 :])
            if 0 <= place < n and near != point and near not in found:
                found.append(near)
    return found


def points_of(grid: Sequence[Axis]) -> list[Point]:
    """All grid points, the last dihedral running fastest."""
    return list(product(*(range(len(axis.angles)) for axis in grid)))
