"""The bias on its grid, put together from the Gaussians of a run's table, as OpenMM does it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from heliodor.metadynamics.variables import POINTS, Variable

CHUNK = 4096
"""Gaussians at a time."""


def axis_gaussians(variable: Variable, values: Float[np.ndarray, "T"]) -> Float[np.ndarray, "T n"]:
    """exp(-(s - s_t)²/2w²) at the grid's points; across -180/180 of torsions the nearer way."""
    apart = np.abs(variable.grid - values[:, None])
    if variable.periodic:
        apart = np.minimum(apart, 360.0 - apart)
        # a value of -180.0001 by rounding
        apart = np.abs(apart)
    return np.exp(-0.5 * (apart / variable.width) ** 2)


def sum_of_gaussians(
    variables: Sequence[Variable], values: Float[np.ndarray, "T D"], heights: Float[np.ndarray, "T"]
) -> Float[np.ndarray, "*n"]:
    """Σ_t h_t exp(...) on the grid, in the unit of the heights; first variable along the first axis."""
    total = np.zeros(tuple(len(v.grid) for v in variables))
    for k in range(0, len(heights), CHUNK):
        rows = slice(k, k + CHUNK)
        first = axis_gaussians(variables[0], values[rows, 0]) * heights[rows, None]
        if len(variables) == 1:
            total += first.sum(0)
        else:
            total += first.T @ axis_gaussians(variables[1], values[rows, 1])
    return total


def between(
    variables: Sequence[Variable], table: Float[np.ndarray, "*n"], values: Float[np.ndarray, "T D"]
) -> Float[np.ndarray, "T"]:
    """A table on the grid at other values, by cubic splines."""
    from scipy.ndimage import map_coordinates

    periodic = variables[0].periodic
    places = []
    for k, v in enumerate(variables):
        grid = v.grid
        places.append((values[:, k] - grid[0]) / (grid[1] - grid[0]))
    if periodic:
        # the last point is the first
        table = table[tuple(slice(None, -1) for _ in variables)]
    found: np.ndarray = map_coordinates(table, np.array(places), order=3, mode="grid-wrap" if periodic else "nearest")
    return found


def visited(variables: Sequence[Variable], values: Float[np.ndarray, "T D"]) -> Bool[np.ndarray, "*n"]:
    """Points of the grid that have a sample within a Gaussian's width along each variable: elsewhere the bias knows
    nothing, and the free energy from it is no more than a lower limit."""
    from scipy.ndimage import maximum_filter

    shape = tuple(len(v.grid) - v.periodic for v in variables)
    index = []
    for k, (v, n) in enumerate(zip(variables, shape, strict=True)):
        grid = v.grid
        along = np.rint((values[:, k] - grid[0]) / (grid[1] - grid[0])).astype(np.int64)
        index.append(along % n if v.periodic else np.clip(along, 0, n - 1))
    there = np.zeros(shape, dtype=bool)
    there[tuple(index)] = True
    periodic = variables[0].periodic
    found: np.ndarray = maximum_filter(there, size=2 * POINTS + 1, mode="wrap" if periodic else "constant")
    return np.pad(found, [(0, int(v.periodic)) for v in variables], mode="wrap")


def inside(variables: Sequence[Variable]) -> tuple[slice, ...]:
    """Of the grid: each point once, and of distances those between the walls."""
    found = []
    for v in variables:
        grid = v.grid
        if v.periodic:
            found.append(slice(0, len(grid) - 1))
        else:
            there = np.flatnonzero((grid >= v.lower - 1e-9) & (grid <= v.upper + 1e-9))
            found.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(found)
