"""Pictures of a run: errors along it, and answers against labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.potential import Potential
from heliodor.train.dataset import Dataset
from heliodor.train.errors import Predicted, pairs_of, predict
from heliodor.train.weights import WEIGHT_FIELDS

PROPERTIES = {
    "energy_shifted": ("energy per atom, mean error removed", "meV", 1e3),
    "forces": ("force components", "eV/Å", 1.0),
    "stress": ("stress components", "meV/Å³", 1e3),
    "dipole": ("dipole components", "e·Å", 1.0),
    "hirshfeld_ratios": ("Hirshfeld ratios", "", 1.0),
    "charges": ("partial charges", "e", 1.0),
    "node_energies": ("energies of atoms", "eV", 1.0),
}
POINTS = 20000
"""Shown of each kind, at most."""


def plot_parity(predicted: Predicted | Potential, dataset: Dataset, path: str | Path) -> dict[str, dict[str, float]]:
    """Answers against labels, by property and kind, with MAE and R².

    Energies per atom are shown without reference energies, about the mean of the labels.

    Args:
        predicted: answers for the data set, or a model to give them.

    Returns:
        MAE and R² by property, in the units of the axes.
    """
    if isinstance(predicted, Potential):
        predicted = predict(predicted, dataset)
    found = {
        name: both
        for name, both in pairs_of(predicted, dataset).items()
        if name in PROPERTIES and np.isfinite(both[0]).any() and np.isfinite(both[1]).any()
    }
    figure, axes = _axes(len(found))
    kinds = list(np.unique(dataset.kind))
    figures: dict[str, dict[str, float]] = {}
    for ax, (name, (label, answer)) in zip(axes, found.items(), strict=True):
        title, unit, factor = PROPERTIES[name]
        both = np.isfinite(label) & np.isfinite(answer)
        middle = label[both].mean() if name == "energy_shifted" else 0.0
        per_atom = len(label) == len(dataset.numbers) and name != "energy_shifted"
        kind_of = np.repeat(dataset.kind, dataset.counts) if per_atom else dataset.kind
        x, y = factor * (label - middle), factor * (answer - middle)
        known = np.isfinite(x) & np.isfinite(y)
        for k, kind in enumerate(kinds):
            mask = kind_of == kind
            here = known[mask]
            shown_x, shown_y = x[mask][here], y[mask][here]
            step = max(1, len(shown_x) // POINTS)
            ax.plot(shown_x[::step], shown_y[::step], ".", ms=2.5, alpha=0.5, color=f"C{k}", label=str(kind))
        error = (y - x)[both]
        mae = float(np.abs(error).mean())
        spread = np.square(x[both] - x[both].mean()).sum()
        r2 = float(1.0 - np.square(error).sum() / spread) if spread > 0 else float("nan")
        figures[name] = {"mae": mae, "r2": r2}
        ends = [min(x[both].min(), y[both].min()), max(x[both].max(), y[both].max())]
        ax.plot(ends, ends, color="0.4", lw=0.8, zorder=0)
        ax.set(xlabel=f"label {unit}".strip(), ylabel=f"model {unit}".strip())
        ax.set_title(f"{title}\nMAE {mae:.3g} {unit}, R² {r2:.4f}", fontsize=9)
        if len(kinds) > 1:
            ax.legend(fontsize=7, markerscale=4)
    _save(figure, path)
    return figures


def plot_curves(rows: Sequence[dict[str, float]], path: str | Path) -> None:
    """Errors of training and validation along a run, the learning rate, the robust loss's shapes, changing weights."""
    steps = [row["step"] for row in rows]
    both = [("training", "training"), ("validation", "validation")]

    def errors(name: str) -> list[tuple[str, str]]:
        return [(f"{which}_{name}_mae", word) for which, word in both]

    panels: list[tuple[str, str, float, list[tuple[str, str]]]] = [
        (
            "energy per atom",
            "MAE meV/atom",
            1e3,
            [("training_energy_mae", "training"), ("validation_energy_shifted_mae", "validation, mean removed")],
        ),
        ("forces", "MAE meV/Å", 1e3, errors("forces")),
        ("stress", "MAE meV/Å³", 1e3, errors("stress")),
        ("dipole", "MAE e·Å", 1.0, errors("dipole")),
        ("Hirshfeld ratios", "MAE", 1.0, errors("hirshfeld_ratios")),
        ("charges", "MAE e", 1.0, errors("charges")),
        ("energies of atoms", "MAE meV", 1e3, errors("node_energies")),
        ("learning rate", "rate", 1.0, [("learning_rate", "learning rate")]),
        ("shape of the robust loss", "α", 1.0, [(f"{n}_shape", n) for n in ("energy", "forces", "stress", "dipole")]),
        ("weights in the loss", "weight", 1.0, [(f"{n}_weight", n) for n in WEIGHT_FIELDS]),
    ]
    present = [p for p in panels if any(key in row for row in rows for key, _ in p[3])]
    figure, axes = _axes(len(present))
    for ax, (title, unit, factor, lines) in zip(axes, present, strict=True):
        largest = 0.0
        for key, label in lines:
            values = [factor * row.get(key, np.nan) for row in rows]
            if np.isfinite(values).any():
                ax.plot(steps, values, ".-", label=label)
                largest = max(largest, float(np.nanmax(values)))
        if largest > 0.0 and not unit.startswith("α"):
            ax.set_yscale("log")
        ax.set(xlabel="step", ylabel=unit, title=title)
        if ax.lines:
            ax.legend(fontsize=8)
    _save(figure, path)


def _axes(number: int) -> tuple[Any, list[Any]]:
    # without pyplot: nothing global, nothing to be closed
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(max(number, 1), 4)
    rows = -(-max(number, 1) // columns)
    figure = Figure(figsize=(3.8 * columns, 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes[number:]:
        ax.remove()
    return figure, axes[:number]


def _save(figure: Any, path: str | Path) -> None:
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    figure.savefig(temporary, format="png", dpi=130)
    temporary.replace(path)
