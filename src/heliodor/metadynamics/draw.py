"""The picture of a run: the surface, and its basins' differences against time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from heliodor.errors import MissingExtraError
from heliodor.metadynamics.grids import inside, visited
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
        # of torsions both ends, so that the picture closes
        there = tuple(
            slice(None) if v.periodic else s for v, s in zip(samples.variables, inside(samples.variables), strict=True)
        )
        first, second = (v.grid[s] for v, s in zip(samples.variables, there, strict=True))
        known = visited(samples.variables, samples.values)[there]
        values = np.ma.masked_where(~known, samples.free_energy()[there] / KCAL_PER_MOL)
        top = float(values.max())
        step = next((s for s in (0.5, 1.0, 2.0, 5.0, 10.0) if top <= 16.0 * s), float(np.ceil(top / 16.0)))
        levels = np.arange(0.0, top + step, step)
        drawn = left.contourf(first, second, values.T, levels=levels, cmap="viridis")
        left.contour(first, second, values.T, levels=levels, colors="k", linewidths=0.3)
        figure.colorbar(drawn, ax=left, label="free energy from the bias (kcal/mol)")
        left.set_ylabel(names[1])
        left.set_title("blank: no sample within a Gaussian's width", fontsize=9)
    for k, place in enumerate(basins.places):
        if len(names) == 1:
            left.axvline(place[0], color="0.7", lw=0.8, zorder=0)
        else:
            left.annotate(str(k + 1), place, color="white", ha="center", va="center", fontsize=9)
    for axis, v in zip((left.xaxis, left.yaxis), samples.variables, strict=False):
        if v.periodic:
            axis.set_ticks(range(-180, 181, 60))
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
