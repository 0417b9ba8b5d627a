"""How well representatives cover what they stand for, as a picture."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from heliodor.errors import InputError
from heliodor.fragments.affinity import SelectionWarning, affinity_propagation
from heliodor.fragments.aligned import Points, Progress, squared_distances
from heliodor.fragments.select import Selected

WINDOW = 100
"""Frames of the rolling mean, as in the supplement of GEMS."""


def rolling_mean(values: Float[np.ndarray, "F"], window: int = WINDOW) -> Float[np.ndarray, "M"]:
    """Means of all stretches of ``window`` values, M = F - window + 1; the first belongs to the stretch that begins
    with the first value. Of fewer values than the window one mean.

    Raises:
        InputError: a window below 1, no values.
    """
    if window < 1 or len(values) == 0:
        raise InputError("a rolling mean needs values and a window of one and more")
    width = min(window, len(values))
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    result: np.ndarray = (sums[width:] - sums[:-width]) / width
    return result


def preference_scan(
    points: Points,
    preferences: Sequence[float],
    *,
    most: int = 1000,
    damping: float = 0.9,
    seed: int = 0,
    progress: Progress | None = None,
) -> Int[np.ndarray, "P"]:
    """Numbers of clusters at several preferences (minus squared distances), of at most so many points drawn at random.

    Of a part of the points there are fewer clusters than of all at the same preference: good for the shape of the
    curve, not for the number.
    """
    some = np.sort(np.random.default_rng(seed).permutation(len(points))[:most])
    similarity = -squared_distances(points.take(some))
    counts = []
    for preference in preferences:
        with warnings.catch_warnings():
            # counted as they are: the curve is for orientation
            warnings.simplefilter("ignore", SelectionWarning)
            found = affinity_propagation(similarity.copy(), preference, damping=damping, most=300, seed=seed)
        counts.append(len(found.exemplars))
        if progress is not None:
            progress("preferences", len(counts), len(preferences))
    return np.array(counts, dtype=np.int64)


def plot_coverage(
    selected: Selected,
    path: str | Path,
    *,
    title: str = "",
    scan: tuple[Sequence[float], Sequence[int]] | None = None,
    unit: str = "RMSD (Å)",
) -> None:
    """Write a PNG: distance of each structure to its nearest representative along the frames with its rolling mean,
    how often each distance occurs, and how many structures each representative stands for.

    Args:
        scan: preferences and numbers of clusters (`preference_scan`), for one more panel.
        unit: of the distance, for the axis.
    """
    # imported here: it takes half a second, and no global state of pyplot is touched
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    distance = selected.distance
    figure = Figure(figsize=(10.0, 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    count = 2 if scan is None else 3
    grid = figure.add_gridspec(2, count, height_ratios=(1.2, 1.0))
    along = figure.add_subplot(grid[0, :])
    along.plot(selected.looked, distance, ".", ms=2.5, color="0.65", rasterized=True, label="each structure")
    mean = rolling_mean(distance)
    width = len(distance) - len(mean) + 1
    if len(distance) > width:
        # each mean at the middle of its stretch
        middle = selected.looked[(width - 1) // 2 : (width - 1) // 2 + len(mean)]
        along.plot(middle, mean, color="C0", lw=1.4, label=f"rolling mean ({width})")
    along.plot(
        selected.index, np.zeros(len(selected)), "|", color="C3", ms=7, label=f"representatives ({len(selected)})"
    )
    along.set_xlabel("structure")
    along.set_ylabel(f"to nearest representative\n{unit}")
    top = float(distance.max()) or 1.0
    along.set_ylim(-0.03 * top, 1.2 * top)
    along.margins(x=0.01)
    along.grid(alpha=0.25)
    along.legend(fontsize=8, ncols=3, loc="upper right")
    if title:
        along.set_title(title, fontsize=10)

    histogram = figure.add_subplot(grid[1, 0])
    bars = histogram.hist(distance, bins=60, color="C0", alpha=0.8)[0]
    histogram.set_ylim(0.0, 1.35 * float(np.max(bars)))
    histogram.axvline(distance.mean(), color="0.2", lw=1.0, ls="--")
    text = f"mean {distance.mean():.3g}\nmedian {np.median(distance):.3g}\nlargest {distance.max():.3g}"
    histogram.text(0.97, 0.95, text, transform=histogram.transAxes, ha="right", va="top", fontsize=9)
    histogram.set_xlabel(f"to nearest representative, {unit}")
    histogram.set_ylabel("structures")

    sizes = figure.add_subplot(grid[1, 1])
    for word, colour in (("cluster", "C0"), ("alone", "C2"), ("farthest", "C1")):
        mine = np.sort(selected.size[selected.origin == word])[::-1]
        if len(mine):
            sizes.plot(np.arange(1, len(mine) + 1), mine, ".", ms=4, color=colour, label=word)
    sizes.set_xlabel("representative, largest first")
    sizes.set_ylabel("structures nearest to it")
    sizes.set_yscale("log")
    if len(selected) > 30:
        sizes.set_xscale("log")
    sizes.legend(fontsize=8, loc="upper right")
    if scan is not None:
        preferences = figure.add_subplot(grid[1, 2])
        preferences.plot([-p for p in scan[0]], list(scan[1]), "o-", ms=4)
        preferences.set_xscale("log")
        preferences.set_yscale("log")
        preferences.set_xlabel("minus preference (Å²)")
        preferences.set_ylabel("clusters")
    for axes in figure.axes:
        axes.tick_params(labelsize=8)
    figure.savefig(path, dpi=130, format="png")
