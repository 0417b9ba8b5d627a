"""A picture of a run: energies, temperature, pressure, density and the conserved quantity against time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

PANELS = {
    "temperature_K": "temperature (K)",
    "pressure_bar": "pressure (bar)",
    "density_g_cm3": "density (g/cm³)",
}
"""Columns drawn as they are, where the log has them and they move."""


def plot_log(log: dict[str, np.ndarray], path: Path, *, n_atoms: np.ndarray, target: float | None = None) -> None:
    """Write a PNG: energies, temperature, pressure and density where there are any, the conserved quantity.

    Args:
        log: as `heliodor.dynamics.files.log.Log.arrays`.
        n_atoms: [B] atoms of each structure.
        target: temperature of the thermostat, K.
    """
    # imported here: it takes half a second, and no global state of pyplot is touched
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picoseconds = log["time_fs"] / 1e3
    columns = {name: column.reshape(len(picoseconds), -1) for name, column in log.items()}
    shown = [name for name in PANELS if name in columns and bool(np.ptp(columns[name], axis=0).any())]
    figure = Figure(figsize=(7.0, 3.0 + 1.9 * (len(shown) + 1)), layout="constrained")
    FigureCanvasAgg(figure)
    energies, *panels, constants = figure.subplots(len(shown) + 2, 1, sharex=True)
    potential, kinetic, conserved = (columns[name] for name in ("potential_eV", "kinetic_eV", "conserved_eV"))
    one = potential.shape[1] == 1
    for b in range(potential.shape[1]):
        suffix = "" if one else f" {b}"
        energies.plot(picoseconds, potential[:, b] - potential[0, b], lw=0.8, label=f"potential{suffix}")
        if one:
            energies.plot(picoseconds, kinetic[:, b] - kinetic[0, b], lw=0.8, label="kinetic")
        change = 1e3 * (conserved[:, b] - conserved[0, b]) / n_atoms[b]
        constants.plot(picoseconds, change, lw=0.8)
    for axes, name in zip(panels, shown, strict=True):
        axes.plot(picoseconds, columns[name], lw=0.8)
        axes.set_ylabel(PANELS[name])
        if name == "temperature_K" and target is not None:
            axes.axhline(target, color="0.3", lw=0.8, ls="--", label=f"thermostat, {target:g} K")
            axes.legend(loc="best", fontsize=8)
    if potential.shape[1] <= 8:
        energies.legend(loc="best", fontsize=8)
    energies.set_ylabel("energy relative\nto start (eV)")
    constants.set_ylabel("conserved quantity,\nchange (meV/atom)")
    constants.set_xlabel("time (ps)")
    for axes in (energies, *panels, constants):
        axes.grid(alpha=0.25)
        axes.margins(x=0.01)
    figure.savefig(path, dpi=130, format="png")
