"""How far a molecule wanders within a time: the distribution of RMSD(t, t+Δt) over t, against Δt.

Small, growing plateaus say that a molecule vibrates in one minimum, a late rise that it has left it: Unke et al., GEMS,
Sci. Adv. 10, eadn4397 (2024), Fig. 4D.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.along import mean_error, time_axis
from heliodor.analysis.conformations.solute import Solute, find_solute, read_shapes
from heliodor.analysis.conformations.superpose import rmsd_of_pairs
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.errors import InputError
from heliodor.trajectory.parallel import Progress
from heliodor.trajectory.trajectory import Trajectory

KEPT = 64 * 2**20
"""Bytes of positions up to which all frames are read once; of larger trajectories the pairs of each lag are read."""


@dataclass(frozen=True, eq=False)
class Wandering:
    """RMSD between frames Δt apart, at L lags.

    Attributes:
        lag: Δt, fs.
        mean, median, low, high: Å; mean, median, first and third quartile over the origins.
        error: Å, standard error of the mean; NaN where there are fewer than ten origins.
        origins: how many t were taken.
        count: atoms superposed.
    """

    lag: Float[np.ndarray, "L"]
    mean: Float[np.ndarray, "L"]
    median: Float[np.ndarray, "L"]
    low: Float[np.ndarray, "L"]
    high: Float[np.ndarray, "L"]
    error: Float[np.ndarray, "L"]
    origins: Int[np.ndarray, "L"]
    count: int


def wandering(
    trajectory: Trajectory,
    selection: str = "",
    *,
    lags: int = 30,
    origins: int = 500,
    progress: Progress | None = None,
) -> Wandering:
    """Distribution of RMSD(t, t+Δt) of heavy atoms, each pair superposed optimally, at lags even on a log scale.

    Lags go up to half of the trajectory. Origins t are spread evenly over it; neighbours overlap, which their error
    allows for.

    Args:
        selection: atoms, of which the heavy ones count; empty: the solute.
        lags: how many, at most.
        origins: how many at each lag, at most.

    Raises:
        InputError: fewer than four frames, or frames that are not evenly spaced; no solute.
    """
    if lags < 1 or origins < 1:
        raise InputError(f"lags and origins must be positive, not {lags} and {origins}")
    interval, total = trajectory.interval, trajectory.even
    if total < 4:
        raise InputError(f"{trajectory.path} holds {total} frames: a distribution over lags needs four and more")
    solute = find_solute(trajectory, selection)
    steps = np.unique(np.round(np.geomspace(1, total // 2, lags)).astype(np.int64))
    everything = None
    if 24 * total * len(solute.shape) <= KEPT:
        everything = read_shapes(trajectory, solute, np.arange(total))
    rows = []
    for done, step in enumerate(steps.tolist()):
        starts = np.unique(np.linspace(0, total - 1 - step, origins).astype(np.int64))
        if everything is not None:
            values = rmsd_of_pairs(everything[starts], everything[starts + step])
        else:
            values = _read_pairs(trajectory, solute, starts, step)
        mean, error = mean_error(values)
        low, median, high = np.percentile(values, (25, 50, 75)).tolist()
        rows.append((step * interval, mean, median, low, high, float("nan") if error is None else error, len(values)))
        if progress is not None:
            progress(done + 1, len(steps))
    table = np.array(rows, dtype=np.float64)
    lag, average, middle, lower, upper, doubt, taken = table.T
    return Wandering(lag, average, middle, lower, upper, doubt, taken.astype(np.int64), len(solute.shape))


def show_wandering(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    selection: str = "",
    lags: int = 30,
    origins: int = 500,
) -> Shown:
    """Distribution of the RMSD between frames, against the time between them.

    Args:
        selection: atoms, of which the heavy ones count; empty: the solute.
        lags: how many times between frames, at most.
        origins: how many pairs of frames for each, at most.
    """
    found = wandering(trajectory, selection, lags=lags, origins=origins, progress=progress)
    x, axis = time_axis(found.lag)
    axis = Axis("time between frames Δt", axis.unit, log=True)
    return Shown(
        name="wandering",
        title="RMSD(t, t+Δt)",
        panels=(
            Panel(
                "How far the molecule goes within a time",
                axis,
                Axis("RMSD(t, t+Δt)", "Å", low=0.0),
                (
                    Curve("mean; quartiles shaded", x, found.mean, found.low, found.high),
                    Curve("median", x, found.median, style="dashed"),
                ),
            ),
        ),
        numbers=(
            Number("mean at the shortest Δt", float(found.mean[0]), _known(found.error[0]), "Å", _time(found.lag[0])),
            Number("mean at the longest Δt", float(found.mean[-1]), _known(found.error[-1]), "Å", _time(found.lag[-1])),
        ),
        notes=(
            f"Heavy atoms of the solute ({found.count}), each pair of frames superposed optimally; at most "
            f"{int(found.origins.max())} origins t for each Δt, spread evenly; Δt up to half of the trajectory.",
            "Equivalent atoms (such as the oxygens of a carboxylate) are not exchanged.",
        ),
        tables={
            "wandering": {
                "lag_ps": found.lag / 1e3,
                "mean_A": found.mean,
                "error_A": found.error,
                "median_A": found.median,
                "quartile_25_A": found.low,
                "quartile_75_A": found.high,
                "origins": found.origins,
            }
        },
    )


def _read_pairs(
    trajectory: Trajectory, solute: Solute, starts: Int[np.ndarray, "P"], step: int
) -> Float[np.ndarray, "P"]:
    size = max(1, KEPT // (48 * len(solute.atoms)))
    parts = []
    for first in range(0, len(starts), size):
        some = starts[first : first + size]
        frames, place = np.unique(np.concatenate([some, some + step]), return_inverse=True)
        shapes = read_shapes(trajectory, solute, frames)
        parts.append(rmsd_of_pairs(shapes[place[: len(some)]], shapes[place[len(some) :]]))
    return np.concatenate(parts)


def _known(error: float) -> float | None:
    return None if np.isnan(error) else float(error)


def _time(femtoseconds: float) -> str:
    from heliodor.units import format_time

    return f"Δt = {format_time(float(femtoseconds))}"
