"""Time against the number of atoms, with the physical floor, and simulated time in a day."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from heliodor.bench.speed.measure import Timing
from heliodor.bench.speed.rates import Rates
from heliodor.bench.speed.tables import floor_of
from heliodor.errors import MissingExtraError


def draw(timings: Sequence[Timing], rates: Rates, path: Path) -> None:
    """Write a picture with two panels; models have colours, systems markers, floors are dashed.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "report") from None
    figure = Figure(figsize=(10.0, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    models = list(dict.fromkeys(t.model for t in timings))
    systems = list(dict.fromkeys(t.system for t in timings))
    for model in models:
        color = f"C{models.index(model) % 10}"
        for system in systems:
            mine = sorted((t for t in timings if (t.model, t.system) == (model, system)), key=lambda t: t.atoms)
            if not mine:
                continue
            marker = "osD"[systems.index(system) % 3]
            atoms = [t.atoms for t in mine]
            label = f"{model}, {system} ({mine[-1].kernel})"
            left.plot(atoms, [t.us_per_atom for t in mine], marker=marker, ms=4, lw=1.2, color=color, label=label)
            right.plot(atoms, [t.ns_per_day for t in mine], marker=marker, ms=4, lw=1.2, color=color, label=label)
            low = [(t.atoms, value) for t in mine if (value := floor_of(t, rates)) is not None]
            if low:
                x, y = zip(*low, strict=True)
                # a line through one size is none
                style = {"ls": "--"} if len(low) > 1 else {"ls": "none", "marker": "_", "ms": 12}
                left.plot(x, y, lw=1.0, color=color, alpha=0.7, label=f"{model}, {system}: floor", **style)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("atoms")
        axes.grid(alpha=0.25, which="both", lw=0.4)
    first = timings[0]
    where = first.device if first.device != "cpu" else f"CPU, {first.threads} thread{'s' if first.threads > 1 else ''}"
    left.set_ylabel("µs per atom and step")
    left.set_title(f"{where}, {first.dtype}, {first.ensemble.upper()}", fontsize=9)
    right.set_ylabel("ns per day")
    right.set_title(f"at a timestep of {first.timestep:g} fs", fontsize=9)
    left.legend(fontsize=7)
    figure.savefig(path, dpi=130)
