"""Spectra of several runs side by side: vibrations from velocities, infrared from dipoles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from heliodor.analysis.spectra.infrared import infrared_spectrum
from heliodor.analysis.spectra.velocities import velocity_power
from heliodor.analysis.spectra.welch import LIGHT, absorption, integral, rate_power, reached
from heliodor.trajectory import open_trajectory

STRETCHES = (2400.0, 4600.0)
"""cm⁻¹; bonds to hydrogen, hot and classical ones included."""

KINDS = ("vdos", "infrared")

HIGHEST = STRETCHES[1]
"""cm⁻¹; the end of the plots."""


@dataclass(frozen=True, eq=False)
class Line:
    """One spectrum.

    Attributes:
        name: "classical", "corrected" or "trpmd".
        wavenumber: cm⁻¹, even.
        values: modes per cm⁻¹ ("vdos"), or km/mol per cm⁻¹ ("infrared").
        error: standard error over the copies, or blocks; not a number for one of them.
    """

    name: str
    wavenumber: Float[np.ndarray, "G"]
    values: Float[np.ndarray, "G"]
    error: Float[np.ndarray, "G"]

    def mean_of(self, low: float, high: float) -> float:
        """Mean wavenumber of the intensity between two wavenumbers, cm⁻¹; not a number without any."""
        here = (self.wavenumber >= low) & (self.wavenumber <= high)
        weight = self.values[here]
        return float((weight * self.wavenumber[here]).sum() / weight.sum()) if weight.sum() > 0 else float("nan")

    def peak_of(self, low: float, high: float) -> float:
        """Wavenumber of the highest value between two wavenumbers, cm⁻¹."""
        here = np.flatnonzero((self.wavenumber >= low) & (self.wavenumber <= high))
        return float(self.wavenumber[here[self.values[here].argmax()]]) if len(here) else float("nan")


def classical_spectra(
    path: Path, copies: int, name: str, temperature: float, resolution: float, *, infrared: bool
) -> dict[str, Line]:
    """ "vdos", and "infrared" where asked for, averaged over the copies in a trajectory."""
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in (KINDS if infrared else KINDS[:1])}
    grids: dict[str, np.ndarray] = {}
    for k in range(copies):
        trajectory = open_trajectory(path, structure=k)
        width = max(resolution, reached(trajectory.even - 2, trajectory.interval) * 1.001)
        power = velocity_power(trajectory, resolution=width)
        found["vdos"].append(power.weighted.sum(0))
        grids["vdos"] = power.wavenumber
        if infrared:
            spectrum, _ = infrared_spectrum(trajectory, temperature=temperature, resolution=width)
            found["infrared"].append(spectrum.intensity)
            grids["infrared"] = spectrum.wavenumber
    return {kind: _mean(name, grids[kind], np.stack(values)) for kind, values in found.items()}


def centroid_spectra(
    centroids: Float[np.ndarray, "T N 3"],
    dipole: Float[np.ndarray, "T 3"] | None,
    masses: Float[np.ndarray, "N"],
    interval: float,
    temperature: float,
    resolution: float,
    name: str,
) -> dict[str, Line]:
    """The same of one run of centroids, Å, frames ``interval`` fs apart; dipoles in e·Å."""
    width = max(resolution, reached(len(centroids) - 2, interval) * 1.001)
    weighted = (np.sqrt(masses)[:, None] * centroids).reshape(len(centroids), -1)
    power, _ = rate_power(weighted, interval, width)
    grid = np.linspace(0.0, 0.5 / (interval * LIGHT), power.shape[1])
    scale = weighted.shape[1] / integral(power.mean(0), grid)
    found = {"vdos": _mean(name, grid, scale * power)}
    if dipole is not None:
        spectrum = absorption(dipole, interval, temperature, width)
        found["infrared"] = Line(name, spectrum.wavenumber, spectrum.intensity, spectrum.error)
    return found


def _mean(name: str, grid: np.ndarray, values: np.ndarray) -> Line:
    count = len(values)
    error = values.std(0, ddof=1) / np.sqrt(count) if count > 1 else np.full(values.shape[1:], np.nan)
    return Line(name, grid, values.mean(0), error)


def write_table(lines: Sequence[Line], path: Path) -> None:
    """CSV: wavenumber of the first, and the values of each, interpolated to it."""
    grid = lines[0].wavenumber
    grid = grid[grid <= HIGHEST]
    columns = [grid]
    for line in lines:
        columns += [np.interp(grid, line.wavenumber, values) for values in (line.values, line.error)]
    header = ",".join(["wavenumber_per_cm", *(f"{line.name}{end}" for line in lines for end in ("", "_error"))])
    np.savetxt(path, np.stack(columns, 1), delimiter=",", header=header, comments="", fmt="%.6g")


def plot_spectra(spectra: dict[str, list[Line]], path: Path, title: str, *, hydrogen: bool) -> None:
    """Write a PNG: a panel for each kind, a curve for each run; where there is hydrogen, the mean of its stretches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    words = {"vdos": "density of states (modes per cm⁻¹)", "infrared": "absorption (km/mol per cm⁻¹)"}
    colours = {"classical": "0.45", "corrected": "C3", "trpmd": "C0"}
    figure = Figure(figsize=(8.0, 3.2 * len(spectra)), layout="constrained")
    FigureCanvasAgg(figure)
    for k, (kind, lines) in enumerate(spectra.items(), 1):
        axes = figure.add_subplot(len(spectra), 1, k)
        for line in lines:
            shown = line.wavenumber <= HIGHEST
            x, y, e = line.wavenumber[shown], line.values[shown], np.nan_to_num(line.error[shown])
            colour = colours.get(line.name, "C2")
            label = line.name.replace("trpmd", "TRPMD")
            if hydrogen:
                label += f": X–H stretches at {line.mean_of(*STRETCHES):.0f} cm⁻¹ in the mean"
            axes.fill_between(x, np.maximum(y - e, 0.0), y + e, color=colour, alpha=0.2, lw=0)
            axes.plot(x, y, color=colour, lw=1.1, label=label)
        axes.set_xlim(0.0, HIGHEST)
        axes.set_ylim(bottom=0.0)
        axes.set_ylabel(words[kind])
        axes.legend(frameon=False, fontsize=8)
        axes.grid(alpha=0.25)
    axes.set_xlabel("wavenumber (cm⁻¹); bands: ± standard error")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=140, format="png")
