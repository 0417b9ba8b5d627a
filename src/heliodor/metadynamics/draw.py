"""The picture of a run: the surface, and its basins' differences against time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from heliodor.errors import MissingExtraError
from heliodor.metadynamics.grids import inside
from heliodor.metadynamics.samples import Samples
from heliodor.metadynamics.surface import Basins, Surface
from heliodor.units import KCAL_PER_MOL


def draw(samples: Samples, surface: Surface, basins: Basins, path: Path) -> None:
    """Write a PNG; free energies in kcal/mol.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        # imported here: it takes half a second, and no global state of pyplot is touched
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "analysis") from None
    figure = Figure(figsize=(11.0, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    names = [f"{v.name} ({v.unit})" for v in samples.variables]
    if len(names) == 1:
        _line(left, surface)
        left.set_ylabel("free energy (kcal/mol)")
    else:
        there = inside(samples.variables)
        first, second = (v.grid[s] for v, s in zip(samples.variables, there, strict=True))
        values = samples.free_energy()[there] / KCAL_PER_MOL
        levels = np.arange(0.0, np.ceil(values.max()) + 1.0, 1.0 if values.max() > 4.0 else 0.5)
        drawn = left.contourf(first, second, values.T, levels=levels, cmap="viridis")
        left.contour(first, second, values.T, levels=levels, colors="k", linewidths=0.3)
        figure.colorbar(drawn, ax=left, label="free energy from the bias (kcal/mol)")
        left.set_ylabel(names[1])
    for k, place in enumerate(basins.places):
        if len(names) == 1:
            left.axvline(place[0], color="0.7", lw=0.8, zorder=0)
        else:
            left.annotate(str(k + 1), place, color="white", ha="center", va="center", fontsize=9)
    left.set_xlabel(names[0])
    for k in range(1, len(basins)):
        colour = f"C{k - 1}"
        time = basins.times * 1e-3
        right.plot(time, basins.against_time[:, k] / KCAL_PER_MOL, color=colour, label=f"basin {k + 1} - basin 1")
        if np.isfinite(basins.error[k]):
            middle, error = basins.difference[k] / KCAL_PER_MOL, basins.error[k] / KCAL_PER_MOL
            right.axhspan(middle - error, middle + error, color=colour, alpha=0.2, lw=0)
    right.set_xlabel("time (ps)")
    right.set_ylabel("difference of free energies (kcal/mol)")
    right.set_title("lines: from the bias; bands: reweighted, ± standard error", fontsize=9)
    if len(basins) > 1:
        right.legend(fontsize=8)
    figure.savefig(path, dpi=150, format="png")


def _line(axes: Any, surface: Surface) -> None:
    x = surface.centers[0]
    axes.plot(x, surface.from_bias / KCAL_PER_MOL, lw=1.2, label="from the bias")
    errors = np.nan_to_num(surface.error) / KCAL_PER_MOL
    axes.errorbar(x, surface.reweighted / KCAL_PER_MOL, errors, fmt="o", ms=3, lw=0.8, label="reweighted")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)
