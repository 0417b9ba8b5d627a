"""A picture of a run: energies, temperature and the conserved quantity against time."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def plot_log(log: dict[str, np.ndarray], path: Path, *, n_atoms: np.ndarray, target: float | None = None) -> None:
    """Write a PNG with three panels.

    Args:
        log: as `heliodor.dynamics.log.Log.arrays`.
        n_atoms: [B] atoms of each structure.
        target: temperature of the thermostat, K.
    """
    # imported here: it takes half a second, and no global state of pyplot is touched
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picoseconds = log["time_fs"] / 1e3
    potential, kinetic, conserved = (
        log[name].reshape(len(picoseconds), -1) for name in ("potential_eV", "kinetic_eV", "conserved_eV")
    )
    temperature = log["temperature_K"].reshape(len(picoseconds), -1)
    figure = Figure(figsize=(7.0, 8.0), layout="constrained")
    FigureCanvasAgg(figure)
    energies, temperatures, constants = figure.subplots(3, 1, sharex=True)
    one = potential.shape[1] == 1
    for b in range(potential.shape[1]):
        suffix = "" if one else f" {b}"
        energies.plot(picoseconds, potential[:, b] - potential[0, b], lw=0.8, label=f"potential{suffix}")
        if one:
            energies.plot(picoseconds, kinetic[:, b] - kinetic[0, b], lw=0.8, label="kinetic")
        temperatures.plot(picoseconds, temperature[:, b], lw=0.8)
        change = 1e3 * (conserved[:, b] - conserved[0, b]) / n_atoms[b]
        constants.plot(picoseconds, change, lw=0.8)
    if target is not None:
        temperatures.axhline(target, color="0.3", lw=0.8, ls="--", label=f"thermostat, {target:g} K")
        temperatures.legend(loc="best", fontsize=8)
    if potential.shape[1] <= 8:
        energies.legend(loc="best", fontsize=8)
    energies.set_ylabel("energy relative to start (eV)")
    temperatures.set_ylabel("temperature (K)")
    constants.set_ylabel("conserved quantity,\nchange (meV/atom)")
    constants.set_xlabel("time (ps)")
    for axes in (energies, temperatures, constants):
        axes.grid(alpha=0.25)
        axes.margins(x=0.01)
    figure.savefig(path, dpi=130, format="png")
