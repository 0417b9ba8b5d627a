"""What is drawn and written of vibrations: a spectrum, a table, an animation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import numpy as np
from jaxtyping import Float

from heliodor.analysis.vibrations import Vibrations

WIDTH = 20.0
"""cm⁻¹; full width at half maximum of drawn lines."""

AMPLITUDE = 0.4
"""Å; how far the atom that moves most goes in an animation."""

FRAMES = 16
"""Of one period in an animation."""


def mode_rows(modes: Vibrations) -> list[dict[str, Any]]:
    """One row for each mode, numbered from 1; units in the names, imaginary frequencies negative."""
    rows = []
    for index, frequency in enumerate(modes.frequencies):
        row = {
            "mode": index + 1,
            "frequency_per_cm": float(frequency),
            "reduced_mass_amu": float(modes.reduced_masses[index]),
            "force_constant_eV_per_A2": float(modes.force_constants[index]),
        }
        if modes.intensities is not None:
            row["infrared_km_per_mol"] = float(modes.intensities[index])
        rows.append(row)
    return rows


def broadened(
    places: Float[np.ndarray, "M"], heights: Float[np.ndarray, "M"], grid: Float[np.ndarray, "G"], width: float = WIDTH
) -> Float[np.ndarray, "G"]:
    """Sum of Lorentzian lines whose areas are ``heights``; ``width`` is that at half maximum."""
    half = 0.5 * width
    lines = half / np.pi / (np.square(grid[:, None] - places) + half**2)
    total: np.ndarray = lines @ heights
    return total


def plot_spectrum(modes: Vibrations, path: Path, title: str) -> None:
    """Write a PNG: the infrared spectrum, or the density of modes where there are no intensities."""
    # imported here: it takes half a second, and no global state of pyplot is touched
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    real = modes.frequencies > 0.0
    places = modes.frequencies[real]
    infrared = modes.intensities is not None
    heights = modes.intensities[real] if modes.intensities is not None else np.ones(len(places))
    grid = np.arange(0.0, 1.05 * max(float(places.max(initial=0.0)), 500.0), 1.0)
    figure = Figure(figsize=(7.5, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.fill_between(grid, broadened(places, heights, grid), color="C0", alpha=0.25, lw=0)
    axes.plot(grid, broadened(places, heights, grid), color="C0", lw=1.0)
    axes.set_xlabel("wavenumber (cm⁻¹), harmonic")
    unit = "absorption (km/mol per cm⁻¹)" if infrared else "density of modes (1/cm⁻¹)"
    axes.set_ylabel(f"{unit}\nlines {WIDTH:g} cm⁻¹ wide", color="C0")
    axes.set_ylim(bottom=0.0)
    axes.set_xlim(grid[0], grid[-1])
    axes.grid(alpha=0.25)
    sticks = axes.twinx()
    sticks.vlines(places, 0.0, heights, color="0.25", lw=0.9)
    if infrared:
        sticks.set_ylabel("infrared intensity of a mode (km/mol)", color="0.25")
    else:
        sticks.set_yticks([])
    sticks.set_ylim(0.0, 1.05 * (float(heights.max(initial=0.0)) or 1.0))
    count = modes.imaginary
    left = f"; {count} imaginary mode{'s' if count > 1 else ''} not drawn" if count else ""
    axes.set_title(f"{title}{left}", fontsize=10)
    figure.savefig(path, dpi=140, format="png")


def animation(modes: Vibrations) -> list[ase.Atoms]:
    """`FRAMES` structures for each mode, a sine of `AMPLITUDE` Å; the first of each is the structure at rest.

    ``info`` names the mode and its frequency.
    """
    frames = []
    rest = modes.atoms
    for index, (shape, frequency) in enumerate(zip(modes.modes, modes.frequencies, strict=True)):
        largest = float(np.linalg.norm(shape, axis=1).max())
        for frame in range(FRAMES):
            phase = np.sin(2.0 * np.pi * frame / FRAMES)
            moved = ase.Atoms(
                numbers=rest.numbers,
                positions=rest.positions + AMPLITUDE / largest * phase * shape,
                cell=rest.cell,
                pbc=rest.pbc,
                info={"mode": index + 1, "frequency_per_cm": round(float(frequency), 3), "frame": frame},
            )
            frames.append(moved)
    return frames
