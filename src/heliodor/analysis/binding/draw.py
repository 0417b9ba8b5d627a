"""Binding curves as a picture and a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.analysis.binding.curve import BindingCurve
from heliodor.units import KCAL_PER_MOL


def draw_binding(curves: Sequence[BindingCurve], path: str | Path, title: str = "") -> None:
    """Write a PNG: interaction energy in kcal/mol (left) and eV (right) against the displacement.

    A single curve is drawn with its terms. Repulsion far above zero is cut off.
    """
    # imported here: it takes half a second, and no global state of pyplot is touched
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.axhline(0.0, color="0.6", lw=0.8)
    for curve in curves:
        label = f"{curve.name}: {curve.depth / KCAL_PER_MOL:.2f} kcal/mol"
        axes.plot(curve.displacement, curve.energy / KCAL_PER_MOL, "o-", ms=3, lw=1.2, label=label)
        if not curve.at_edge:
            axes.plot(curve.minimum, curve.depth / KCAL_PER_MOL, "k+", ms=8)
    if len(curves) == 1 and len(curves[0].terms) > 1:
        for name, values in curves[0].terms.items():
            axes.plot(curves[0].displacement, values / KCAL_PER_MOL, "--", lw=1.0, label=name)
    values = np.concatenate([curve.energy for curve in curves]) / KCAL_PER_MOL
    low = min(float(values.min()), -0.1)
    axes.set_ylim(1.15 * low, min(1.05 * max(float(values.max()), 0.0) - 0.15 * low, -1.0 * low))
    right = axes.secondary_yaxis("right", functions=(_to_ev, _to_kcal))
    right.set_ylabel("interaction energy (eV)")
    axes.set_ylabel("interaction energy (kcal/mol)")
    axes.set_xlabel("displacement from the given geometry (Å)")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=150, format="png")


def _to_ev(y: Any) -> Any:
    return y * KCAL_PER_MOL


def _to_kcal(y: Any) -> Any:
    return y / KCAL_PER_MOL


def write_binding(curves: Sequence[BindingCurve], path: str | Path) -> None:
    """Write a CSV: one row for each complex and displacement."""
    terms = list(dict.fromkeys(term for curve in curves for term in curve.terms))
    columns = ["displacement_A", "separation_A", "closest_A", "interaction_kcal_per_mol", "interaction_eV"]
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["complex", *columns, *(f"{term}_eV" for term in terms)])
        for curve in curves:
            for k, x in enumerate(curve.displacement.tolist()):
                row = [x, curve.separation[k], curve.closest[k], curve.energy[k] / KCAL_PER_MOL, curve.energy[k]]
                row += [curve.terms[term][k] if term in curve.terms else float("nan") for term in terms]
                table.writerow([curve.name, *(f"{value:.8g}" if value == value else "" for value in row)])
