"""Mass density along a trajectory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from heliodor.analysis.liquids import experiment
from heliodor.analysis.liquids.conditions import PARTIAL, cells, pure_water, temperature_of
from heliodor.analysis.settling import Settling, settled
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.analysis.statistics import SHORTEST
from heliodor.errors import InputError
from heliodor.trajectory.parallel import Progress
from heliodor.trajectory.trajectory import Trajectory
from heliodor.units import GRAM_PER_CM3

CONSTANT = 1e-6
"""Relative variation of the volume that counts as none (positions may be stored in single precision)."""

LONG = 1e4
"""ps beyond which time is drawn in ns."""


@dataclass(frozen=True, eq=False)
class Density:
    """Along T times.

    Attributes:
        time: ps.
        density: g/cm³.
        mean, error: g/cm³, of the equilibrated region with its standard error; no error where the cell is constant.
        settling: whether there is a drift; None where the cell is constant or there are fewer than 10 frames.
    """

    time: Float[np.ndarray, "T"]
    density: Float[np.ndarray, "T"]
    mean: float
    error: float | None
    settling: Settling | None


def density(trajectory: Trajectory) -> Density:
    """Mass of all atoms over the volume of each frame's cell.

    Raises:
        InputError: not periodic in all directions, or a file with a part of the atoms.
    """
    if not trajectory.periodic:
        raise InputError(f"{trajectory.path} is not periodic in all directions: it has no density")
    if trajectory.partial:
        raise InputError(f"{trajectory.path}: {PARTIAL}: see the density in the log")
    volume = np.abs(np.linalg.det(cells(trajectory)))
    values = float(trajectory.masses.sum()) / volume / GRAM_PER_CM3
    time = 1e-3 * trajectory.time
    if np.ptp(volume) <= CONSTANT * volume.mean() or len(values) < SHORTEST:
        return Density(time, values, float(values.mean()), None, None)
    verdict = settled(time, values, "density", "g/cm³")
    return Density(time, values, verdict.mean, verdict.error, verdict)


def show(trajectory: Trajectory, *, progress: Progress | None = None, processes: int = 1) -> Shown:
    """Mass density along time, its mean with error, and whether it has settled."""
    found = density(trajectory)
    temperature = temperature_of(trajectory)
    known, note = None, ""
    if pure_water(trajectory) and temperature is not None and experiment.is_liquid(temperature):
        known = experiment.water_density(temperature)
        note = f"water at {temperature:.0f} K and 1 bar: {experiment.KELL}"
    if progress is not None:
        progress(len(trajectory), len(trajectory))
    notes = ["Mass of all atoms over the volume of the cell."]
    if found.settling is not None:
        notes.append(f"{found.settling.words[0].upper()}{found.settling.words[1:]}.")
    elif found.density.size > 1 and np.ptp(found.density) > 0.0:
        notes.append(f"Fewer than {SHORTEST} frames: no error is given.")
    else:
        notes.append("The cell is constant: this density was set, and says nothing about the model.")
    scale, unit = (1e-3, "ns") if float(np.ptp(found.time)) > LONG else (1.0, "ps")
    curves = [Curve("", scale * found.time, found.density)]
    if known is not None:
        curves.append(Curve("measured", scale * found.time[[0, -1]], np.full(2, known), style="dashed", reference=True))
    panels = (Panel("density along time", Axis("time", unit), Axis("density", "g/cm³"), tuple(curves)),)
    return Shown(
        name="density",
        title="Density",
        panels=panels if len(found.density) > 1 else (),
        numbers=(Number("density", found.mean, found.error, "g/cm³", note, known),),
        notes=tuple(notes),
        tables={"density": {"time_ps": found.time, "density_g_cm3": found.density}},
    )
