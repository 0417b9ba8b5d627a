"""Parity plots and tables of a comparison."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from heliodor.analysis.parity import Compared

LABELS = {
    "energy": "relative energy",
    "energy_per_atom": "relative energy per atom",
    "forces": "force component",
    "dipole": "dipole component",
    "polarizability": "polarizability component",
    "charges": "partial charge",
    "hirshfeld_ratios": "Hirshfeld ratio",
}
MANY_POINTS = 20_000
"""Points in a plot beyond which their density is drawn."""


def plot_parity(item: Compared, path: Path, model: str) -> None:
    """Write a PNG: predictions against labels, elements in colours."""
    # imported here: it takes half a second, and no global state of pyplot is touched
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    width = item.reference[0].size
    x, y = item.reference.ravel(), item.predicted.ravel()
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    margin = 0.04 * (high - low) or 0.1
    span = (low - margin, high + margin)
    axes.plot(span, span, color="0.6", lw=0.8, zorder=0)
    if len(x) > MANY_POINTS:
        drawn = axes.hexbin(x, y, gridsize=120, bins="log", mincnt=1, cmap="viridis", extent=(*span, *span))
        figure.colorbar(drawn, ax=axes, label="points", shrink=0.8)
    elif item.numbers is not None:
        for symbol in item.elements:
            mine = np.repeat(item.numbers == atomic_numbers[symbol], width)
            axes.scatter(x[mine], y[mine], s=8, lw=0, alpha=0.6, label=symbol)
        axes.legend(fontsize=8, markerscale=1.5, loc="lower right")
    else:
        axes.scatter(x, y, s=10, lw=0, alpha=0.7)
    found, unit = item.errors(), f" {item.unit}" if item.unit else ""
    text = f"MAE {found.mae:.3g}{unit}\nRMSE {found.rmse:.3g}{unit}\nR² {found.r2:.5f}\nn = {found.count}"
    axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top", fontsize=9)
    bracket = f" ({item.unit})" if item.unit else ""
    axes.set_xlabel(f"{LABELS[item.name]}, reference{bracket}")
    axes.set_ylabel(f"{LABELS[item.name]}, {model}{bracket}")
    axes.set_xlim(span)
    axes.set_ylim(span)
    axes.set_aspect("equal")
    axes.grid(alpha=0.2)
    figure.savefig(path, dpi=150, format="png")


def write_table(rows: list[dict[str, Any]], path: Path) -> None:
    """Rows as CSV; numbers that are not finite are left empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, names, restval="")
        table.writeheader()
        for row in rows:
            table.writerow({name: "" if value != value or value is None else value for name, value in row.items()})
