"""Pictures of results: errors by set, against distance, and values against references."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heliodor.bench.result import FORCE, KCAL, SetResult
from heliodor.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_all(results: Sequence[SetResult], folder: Path) -> list[Path]:
    """Write PNGs into a folder; their names."""
    written = []
    for unit, name in ((KCAL, "errors.png"), (FORCE, "forces.png")):
        mine = [r for r in results if r.unit == unit and r.good]
        if mine:
            draw_errors(mine, folder / name)
            written.append(folder / name)
    for task in dict.fromkeys(r.task for r in results if r.unit == KCAL and r.good):
        mine = [r for r in results if r.task == task and r.good]
        draw_set(mine, folder / f"{task}.png")
        written.append(folder / f"{task}.png")
    return written


def draw_errors(results: Sequence[SetResult], path: Path) -> None:
    """Mean absolute errors of sets, models side by side; logarithmic, since sets differ by orders of magnitude."""
    tasks = list(dict.fromkeys(r.task for r in results))
    models = list(dict.fromkeys(r.model for r in results))
    figure = _figure(min(1.8 + (0.3 + 0.1 * len(models)) * len(tasks), 14.0), 4.2)
    axes = figure.subplots()
    width = 0.8 / len(models)
    for k, model in enumerate(models):
        heights = {r.task: r.errors().mae for r in results if r.model == model}
        places = [t + (k + 0.5) * width - 0.4 for t, task in enumerate(tasks) if task in heights]
        axes.bar(places, [heights[task] for task in tasks if task in heights], width, label=model)
    axes.set_yscale("log")
    if results[0].unit == KCAL:
        axes.axhline(1.0, color="0.4", lw=0.8, ls="--", zorder=0)
    axes.set_xticks(range(len(tasks)), tasks, rotation=60, ha="right", fontsize=8)
    axes.set_ylabel(f"mean absolute error ({results[0].unit})")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def draw_set(results: Sequence[SetResult], path: Path) -> None:
    """Model against reference of one set; beside it errors against distance where the set is a series."""
    series = any(r.by_distance() for r in results)
    figure = _figure(9.0 if series else 4.8, 4.4)
    panels = figure.subplots(1, 2 if series else 1, squeeze=False)[0]
    parity = panels[0]
    everything = np.array([v for r in results for row in r.good for v in (row.reference, row.value)])
    span = [float(everything.min()), float(everything.max())]
    parity.plot(span, span, color="0.6", lw=0.8, zorder=0)
    for r in results:
        e = r.errors()
        parity.scatter(
            [row.reference for row in r.good], [row.value for row in r.good], s=9, lw=0, alpha=0.6,
            label=f"{r.model}: MAE {e.mae:.2f}, n = {e.count}",
        )  # fmt: skip
    parity.set_xlabel(f"{results[0].level} ({results[0].unit})", fontsize=8)
    parity.set_ylabel(f"model ({results[0].unit})")
    parity.set_title(f"{results[0].task}: {results[0].title}", fontsize=9)
    parity.legend(fontsize=8)
    if series:
        for r in results:
            _draw_distances(panels[1], r)
        panels[1].axhline(0.0, color="0.6", lw=0.8)
        panels[1].set_xlabel("distance over that of equilibrium")
        panels[1].set_ylabel(f"error ({results[0].unit}): mean, band of 10 to 90 %", fontsize=8)
        panels[1].legend(fontsize=8)
    figure.savefig(path, dpi=130)


def _draw_distances(axes: object, result: SetResult) -> None:
    places = sorted({row.x for row in result.good if np.isfinite(row.x)})
    # series with a distance for each dimer alone are read in steps
    edges = places if len(places) <= 12 else sorted({round(x, 1) for x in places})
    errors = [
        np.array([row.error for row in result.good if abs(row.x - x) < (1e-6 if edges is places else 0.05)])
        for x in edges
    ]
    kept = [(x, e) for x, e in zip(edges, errors, strict=True) if len(e)]
    x = [place for place, _ in kept]
    line = axes.plot(x, [e.mean() for _, e in kept], "o-", ms=3, lw=1.0, label=result.model)  # type: ignore[attr-defined]
    low, high = zip(*(np.percentile(e, [10, 90]) for _, e in kept), strict=True)
    axes.fill_between(x, low, high, color=line[0].get_color(), alpha=0.15, lw=0)  # type: ignore[attr-defined]


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "report") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
