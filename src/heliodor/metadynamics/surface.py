"""Free-energy surfaces of a run, two ways, with errors; basins, their differences, and these against time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.metadynamics.averages import BLOCKS, block_labels, jackknife, share
from heliodor.metadynamics.basins import basins
from heliodor.metadynamics.grids import between, inside, visited
from heliodor.metadynamics.samples import HONEST, METHODS, Samples

TIMES = 50
"""Points of a convergence curve."""


@dataclass(frozen=True, eq=False)
class Surface:
    """F in eV on bins of half a Gaussian's width, zero at the lowest bin reweighted.

    Attributes:
        centers: of the bins along each variable, ° or Å.
        from_bias: -γ/(γ-1) V, shifted so that both have the same probability in the bins that were visited; NaN more
            than a Gaussian's width from any sample.
        reweighted: -kT ln of the weighted histogram; NaN in bins never visited.
        error: standard error of ``reweighted`` from blocks of time; NaN where only one block has been, and all with the
            final bias (`HONEST`).
    """

    centers: tuple[Float[np.ndarray, "_"], ...]
    from_bias: Float[np.ndarray, "*m"]
    reweighted: Float[np.ndarray, "*m"]
    error: Float[np.ndarray, "*m"]


@dataclass(frozen=True, eq=False)
class Basins:
    """B basins of the surface, deepest first.

    Attributes:
        labels: basin of each point of the grid between the walls.
        places: [B, D] minima, ° or Å.
        population, population_error: shares of each basin, reweighted.
        difference, error: free energy of each basin over that of the first, eV, reweighted; NaN where never visited.
            Errors with the final bias are NaN (`HONEST`).
        from_bias: the same by integrating exp(-F/kT) of the bias.
        times, against_time: fs [K], and from_bias at these times [K, B].
    """

    labels: Int[np.ndarray, "*n"]
    places: Float[np.ndarray, "B D"]
    population: Float[np.ndarray, "B"]
    population_error: Float[np.ndarray, "B"]
    difference: Float[np.ndarray, "B"]
    error: Float[np.ndarray, "B"]
    from_bias: Float[np.ndarray, "B"]
    times: Float[np.ndarray, "K"]
    against_time: Float[np.ndarray, "K B"]

    def __len__(self) -> int:
        return len(self.places)


def free_energy_surface(
    samples: Samples, *, method: str = METHODS[0], skip: float = 0.2, blocks: int = BLOCKS
) -> Surface:
    """Both estimates of F.

    Raises:
        InputError: too few samples for the blocks.
    """
    kt = samples.settings.kt
    edges = [v.edges for v in samples.variables]
    shape = tuple(len(e) - 1 for e in edges)
    log_weights = samples.log_weights(method, skip)
    counted = np.flatnonzero(np.isfinite(log_weights))
    label = block_labels(len(counted), blocks)
    weight = np.exp(log_weights[counted] - log_weights[counted].max())
    place = np.zeros(len(counted), dtype=np.int64)
    kept = np.ones(len(counted), dtype=bool)
    for k, (e, n) in enumerate(zip(edges, shape, strict=True)):
        along = np.floor((samples.values[counted, k] - e[0]) / (e[1] - e[0])).astype(np.int64)
        if samples.variables[k].periodic:
            along = along % n
        # a little way into a wall is outside of the surface
        kept &= (along >= 0) & (along < n)
        place = place * n + np.clip(along, 0, n - 1)
    size = int(np.prod(shape))
    by_block = np.bincount((label * size + place)[kept], weight[kept], blocks * size).reshape(blocks, size)
    total = by_block.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        reweighted = -kt * np.log(total / total.sum())
        left = total - by_block
        parts = left / left.sum(1, keepdims=True)
        error = kt * jackknife(parts) / (total / total.sum())
    seen = total > 0.0
    reweighted[~seen] = np.nan
    error[((by_block > 0.0).sum(0) < 2) | (method not in HONEST)] = np.nan
    centers = tuple(0.5 * (e[1:] + e[:-1]) for e in edges)
    points = np.stack([a.ravel() for a in np.meshgrid(*centers, indexing="ij")], -1)
    from_bias = between(samples.variables, samples.free_energy(), points)
    from_bias += kt * (np.log(np.exp(-from_bias[seen] / kt).sum()))
    known = visited(samples.variables, samples.values)
    near = []
    for v, c in zip(samples.variables, centers, strict=True):
        near.append(np.rint((c - v.grid[0]) / (v.grid[1] - v.grid[0])).astype(np.int64))
    from_bias[~known[np.ix_(*near)].ravel()] = np.nan
    zero = np.nanmin(reweighted)
    return Surface(
        centers,
        (from_bias - zero).reshape(shape),
        (reweighted - zero).reshape(shape),
        error.reshape(shape),
    )


def free_energy_basins(
    samples: Samples, *, depth: float | None = None, method: str = METHODS[0], skip: float = 0.2, blocks: int = BLOCKS
) -> Basins:
    """Basins of the surface from the bias, their populations and differences.

    Args:
        depth: eV by which a minimum lies below the lowest pass to a deeper one; kT if not given.

    Raises:
        InputError: too few samples for the blocks.
    """
    kt = samples.settings.kt
    there = inside(samples.variables)
    surface = samples.free_energy()[there]
    labels, minima = basins(surface, samples.variables[0].periodic, kt if depth is None else depth)
    grids = [v.grid[s] for v, s in zip(samples.variables, there, strict=True)]
    places = np.stack([g[minima[:, k]] for k, g in enumerate(grids)], -1)
    index = []
    for k, (v, g) in enumerate(zip(samples.variables, grids, strict=True)):
        along = np.rint((samples.values[:, k] - g[0]) / (g[1] - g[0])).astype(np.int64)
        index.append(along % len(g) if v.periodic else np.clip(along, 0, len(g) - 1))
    of_sample = labels[tuple(index)]
    count = len(minima)
    log_weights = samples.log_weights(method, skip)
    population, population_error = share(log_weights, of_sample[:, None] == np.arange(count), blocks)
    difference, error = _differences(log_weights, of_sample, count, kt, blocks)
    if method not in HONEST:
        population_error, error = (np.full_like(x, np.nan) for x in (population_error, error))
    counts = np.unique(np.linspace(0, len(samples), TIMES + 1).astype(int))[1:]
    against = np.stack([_of_bias(samples.free_energy(int(c))[there], labels, count, kt) for c in counts])
    return Basins(
        labels=labels,
        places=places,
        population=population,
        population_error=population_error,
        difference=difference,
        error=error,
        from_bias=against[-1],
        times=samples.steps[counts - 1] * samples.settings.timestep_fs,
        against_time=against,
    )


def _differences(
    log_weights: np.ndarray, of_sample: np.ndarray, count: int, kt: float, blocks: int
) -> tuple[np.ndarray, np.ndarray]:
    """-kT ln(p_b/p_0) and its error: populations that add up to one are not independent."""
    counted = np.flatnonzero(np.isfinite(log_weights))
    label = block_labels(len(counted), blocks)
    weight = np.exp(log_weights[counted] - log_weights[counted].max())
    by_block = np.bincount(label * count + of_sample[counted], weight, blocks * count).reshape(blocks, count)
    total = by_block.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = -kt * np.log(total / total[0])
        left = total - by_block
        error = jackknife(-kt * np.log(left / left[:, :1]))
    unseen = ~np.isfinite(difference)
    difference[unseen], error[unseen | ~np.isfinite(error)] = np.nan, np.nan
    return difference, error


def _of_bias(surface: np.ndarray, labels: np.ndarray, count: int, kt: float) -> np.ndarray:
    inner = np.bincount(labels.ravel(), np.exp(-(surface - surface.min()) / kt).ravel(), count)
    found: np.ndarray = -kt * np.log(inner / inner[0])
    return found
