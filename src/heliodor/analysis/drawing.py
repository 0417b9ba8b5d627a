"""What an analysis shows, as PNG and CSV files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.analysis.show import Axis, Curve, Heat, Panel, Shown
from heliodor.errors import InputError

WIDTH, HEIGHT = 7.0, 3.6
"""Inches of one panel."""

ACROSS = 2
"""Panels side by side where there are more than two."""


def draw(shown: Shown, path: str | Path, title: str = "") -> None:
    """Write a PNG of all panels.

    Raises:
        InputError: nothing to draw.
    """
    # imported here: it takes half a second, and no global state of pyplot is touched
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not shown.panels:
        raise InputError(f"{shown.name} has numbers and nothing to draw")
    across = ACROSS if len(shown.panels) > 2 else 1
    down = math.ceil(len(shown.panels) / across)
    figure = Figure(figsize=(WIDTH * across, HEIGHT * down + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(down, across, squeeze=False)
    for axes, panel in zip(grid.flat, shown.panels, strict=False):
        _panel(figure, axes, panel)
    for axes in grid.flat[len(shown.panels) :]:
        axes.set_axis_off()
    figure.suptitle(f"{shown.title}{f': {title}' if title else ''}", fontsize=11)
    figure.savefig(path, dpi=140, format="png")


def write_tables(shown: Shown, folder: str | Path, stem: str) -> list[Path]:
    """Write tables and numbers as CSV files ``<stem>-<table>.csv``; the table named as the analysis as ``<stem>.csv``.

    Raises:
        InputError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder} to write tables into")
    written = []
    for name, columns in shown.tables.items():
        path = folder / (f"{stem}.csv" if name == shown.name else f"{stem}-{name}.csv")
        path.write_text(csv_of(columns), encoding="utf-8")
        written.append(path)
    if shown.numbers:
        path = folder / f"{stem}-numbers.csv"
        columns = {
            "quantity": np.array([number.name for number in shown.numbers]),
            "value": np.array([number.value for number in shown.numbers]),
            "error": np.array([np.nan if number.error is None else number.error for number in shown.numbers]),
            "unit": np.array([number.unit for number in shown.numbers]),
            "reference": np.array([np.nan if n.reference is None else n.reference for n in shown.numbers]),
            "note": np.array([number.note for number in shown.numbers]),
        }
        path.write_text(csv_of(columns), encoding="utf-8")
        written.append(path)
    return written


def csv_of(columns: Any) -> str:
    """A table as CSV text: numbers in ten digits, words quoted where they hold commas."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True):
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.10g}"
    return str(value)


def _panel(figure: Any, axes: Any, panel: Panel) -> None:
    if panel.heat is not None:
        _heat(figure, axes, panel.heat)
    plain = 0
    for curve in panel.curves:
        _curve(figure, axes, curve, plain)
        plain += not curve.reference
    for axis, which in ((panel.x, "x"), (panel.y, "y")):
        _axis(axes, axis, which)
    axes.set_title(panel.title, fontsize=10)
    if panel.heat is None:
        axes.grid(alpha=0.25)
    if any(curve.name for curve in panel.curves):
        axes.legend(fontsize=8, frameon=False)


def _axis(axes: Any, axis: Axis, which: str) -> None:
    getattr(axes, f"set_{which}label")(axis.title)
    if axis.log:
        getattr(axes, f"set_{which}scale")("log")
    if axis.low is not None or axis.high is not None:
        getattr(axes, f"set_{which}lim")(axis.low, axis.high)


def _curve(figure: Any, axes: Any, curve: Curve, place: int) -> None:
    colour = "0.35" if curve.reference else f"C{place % 10}"
    label = curve.name or None
    if curve.low is not None and curve.high is not None:
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.25, lw=0)
    if curve.style == "points":
        if curve.colours is not None:
            drawn = axes.scatter(curve.x, curve.y, c=curve.colours, s=8, cmap="viridis", label=label)
            if curve.colour_axis is not None:
                figure.colorbar(drawn, ax=axes, label=curve.colour_axis.title)
        else:
            marker = "D" if curve.reference else "o"
            axes.plot(
                curve.x, curve.y, marker, ms=4, color=colour, label=label, mfc="none" if curve.reference else None
            )
        return
    how = {"drawstyle": "steps-mid"} if curve.style == "steps" else {}
    dashed = curve.style == "dashed" or curve.reference
    axes.plot(curve.x, curve.y, color=colour, lw=1.1, ls="--" if dashed else "-", label=label, **how)


def _heat(figure: Any, axes: Any, heat: Heat) -> None:
    if heat.kinds:
        from matplotlib.colors import BoundaryNorm, ListedColormap
        from matplotlib.patches import Patch

        shades = [f"C{k}" for k in range(len(heat.kinds))]
        colours = ListedColormap(shades)
        norm = BoundaryNorm(np.arange(len(heat.kinds) + 1) - 0.5, len(heat.kinds))
        axes.pcolormesh(heat.x, heat.y, heat.values, cmap=colours, norm=norm, shading="nearest")
        patches = [Patch(color=s, label=f"{k} {words}") for s, (k, words) in zip(shades, heat.kinds, strict=True)]
        axes.legend(handles=patches, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    else:
        drawn = axes.pcolormesh(heat.x, heat.y, heat.values, cmap="viridis", shading="nearest")
        figure.colorbar(drawn, ax=axes, label=heat.axis.title)
    if heat.y_names:
        every = max(1, len(heat.y_names) // 25)
        axes.set_yticks(heat.y[::every], heat.y_names[::every], fontsize=7)
