"""Self-diffusion for people."""

from __future__ import annotations

import numpy as np

from heliodor.analysis.liquids import experiment
from heliodor.analysis.liquids.conditions import (
    PARTIAL,
    Kind,
    cubic,
    kinds_of,
    other_masses,
    pure_water,
    temperature_of,
)
from heliodor.analysis.liquids.diffusion import CM2_PER_S, Diffusion, finite_size_correction, self_diffusion
from heliodor.analysis.liquids.paths import FRAMES, MOLECULES, Paths, all_of, follow
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.trajectory.parallel import Progress
from heliodor.trajectory.selection import select
from heliodor.trajectory.trajectory import Trajectory
from heliodor.units import parse_time

KINDS = 4
"""Of molecules that are shown at most."""

FEW = 8
"""Molecules of a kind below which it is shown only if there is no other."""

CAGED = 1e3
"""fs until molecules of a thin liquid such as water have forgotten how they moved."""

ODD = 0.1
"""Deviation of the exponent from 1 that is mentioned, if it is beyond two errors."""


def show(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    molecules: str | None = None,
    start: str | None = None,
    end: str | None = None,
    viscosity: float | None = None,
    temperature: float | None = None,
    drift_removed: bool = True,
) -> Shown:
    """Self-diffusion from the mean square displacement of molecules, corrected for the size of a cubic cell.

    Args:
        molecules: a selection; molecules with any of these atoms. By default each kind of molecule by itself.
        start: of the straight line, such as "2 ps"; by default a fifth of its end.
        end: of the straight line, such as "20 ps"; by default a tenth of the run and 50 ps at most.
        viscosity: in mPa s, for the correction; by default that of real water for water, and no correction else.
        temperature: in K, for the correction; by default that of the run.
        drift_removed: subtract the motion of the whole system's centre of mass (of files with all atoms).
    """
    topology = trajectory.topology
    wanted = None if molecules is None else all_of(topology, select(topology, molecules))
    paths = follow(trajectory, wanted, drift_removed=drift_removed, progress=progress, processes=processes)
    warm = temperature_of(trajectory) if temperature is None else temperature
    times = {key: None if text is None else parse_time(text) for key, text in (("start", start), ("end", end))}
    kinds = _shown(kinds_of(topology), paths)
    found = [
        (label, self_diffusion(paths, which=which, start=times["start"], end=times["end"]))
        for label, which in ([("selection", np.arange(len(paths.molecules)))] if wanted is not None else kinds)
    ]
    water = pure_water(trajectory)
    notes = _notes(paths, found[0][1], len(trajectory), trajectory.partial) + other_masses(trajectory)
    if trajectory.settings.get("thermostat") == "langevin":
        notes.append("The run had a Langevin thermostat, whose friction slows diffusion down: csvr or nve does not.")
    correction, said = _correction(paths, water, warm, viscosity)
    notes += said
    numbers: list[Number] = []
    for label, item in found:
        numbers += _numbers(label, item, correction, water, warm)
        if abs(item.exponent - 1.0) > max(ODD, 2.0 * item.exponent_error):
            notes.append(
                f"{label}: the displacement grows as t^{item.exponent:.2f} (± {item.exponent_error:.2f}) in the "
                "window, not as in diffusion (t^1): run longer, or move the window with start and end."
            )
    scale = 1e-3
    return Shown(
        name="diffusion",
        title="Self-diffusion",
        panels=(
            Panel(
                "mean square displacement of centres of mass",
                Axis("time", "ps", 0.0),
                Axis("⟨|r(t) − r(0)|²⟩", "Å²", 0.0),
                tuple(curve for label, item in found for curve in _curves(label, item)),
            ),
        ),
        numbers=tuple(numbers),
        notes=tuple(notes),
        tables={
            f"msd_{label.translate(_PLAIN)}": {
                "time_ps": scale * item.lag,
                "msd_A2": item.msd,
                "msd_error_A2": item.msd_error,
            }
            for label, item in found
        },
    )


_PLAIN = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")


def _shown(kinds: tuple[Kind, ...], paths: Paths) -> list[tuple[str, np.ndarray]]:
    """Labels and positions in ``paths`` of the kinds that are many."""
    each = [(kind.label, np.flatnonzero(np.isin(paths.molecules, kind.molecules))) for kind in kinds]
    each = sorted((item for item in each if len(item[1])), key=lambda item: -len(item[1]))
    many = [item for item in each if len(item[1]) >= FEW]
    return (many or each)[:KINDS]


def _curves(label: str, item: Diffusion) -> tuple[Curve, Curve]:
    time = 1e-3 * item.lag
    low, high = item.window
    line = (item.lag >= low) & (item.lag <= high)
    offset = float((item.msd - 6.0 * item.coefficient * time)[line].mean())
    straight = np.where(line, offset + 6.0 * item.coefficient * time, np.nan)
    return (
        Curve(label, time, item.msd, item.msd - item.msd_error, item.msd + item.msd_error),
        Curve(f"{label}, straight line", time, straight, style="dashed"),
    )


def _correction(
    paths: Paths, water: bool, temperature: float | None, viscosity: float | None
) -> tuple[float | None, list[str]]:
    if paths.cell is None:
        return None, ["Not periodic: no correction for the size of a cell, and molecules may fly apart."]
    if not cubic(paths.cell):
        return None, ["Not corrected for the size of the cell: the formula is for cubic ones."]
    if temperature is None:
        return None, ["Not corrected for the size of the cell: the temperature of the run is not known (temperature=)."]
    source = "as given"
    if viscosity is None and water and experiment.is_liquid(temperature):
        viscosity = experiment.water_viscosity(temperature)
        source = f"measured, {experiment.PATEK}; the model's own would be better"
    if viscosity is None:
        return None, ["Not corrected for the size of the cell: give the liquid's viscosity in mPa s (viscosity=)."]
    edge = float(np.cbrt(np.abs(np.linalg.det(paths.cell)).mean()))
    correction = finite_size_correction(temperature, viscosity, edge)
    return correction, [
        f"Corrected for the cell by ξ k_BT/(6πηL) = {correction:.4f} Å²/ps (Yeh & Hummer 2004), ξ = 2.837297, "
        f"L = {edge:.2f} Å, T = {temperature:.0f} K, η = {viscosity:.3f} mPa s ({source})."
    ]


def _numbers(
    label: str, item: Diffusion, correction: float | None, water: bool, temperature: float | None
) -> list[Number]:
    of_water = water and temperature is not None and experiment.is_liquid(temperature)
    known = experiment.water_diffusion(temperature) if of_water and temperature is not None else None
    # what was measured is of an endless liquid
    compared = [("in the cell", 0.0, known if correction is None else None)]
    if correction is not None:
        compared.append(("corrected for the cell", correction, known))
    numbers = []
    for how, more, measured in compared:
        note = "" if measured is None else experiment.HOLZ
        value = item.coefficient + more
        numbers.append(Number(f"D of {label}, {how}", value, item.error, "Å²/ps", note, measured))
        converted = None if measured is None else CM2_PER_S * measured
        numbers.append(
            Number(f"D of {label}, {how}", CM2_PER_S * value, CM2_PER_S * item.error, "1e-5 cm²/s", note, converted)
        )
    return numbers


def _notes(paths: Paths, item: Diffusion, frames: int, partial: bool) -> list[str]:
    low, high = (1e-3 * edge for edge in item.window)
    notes = [
        f"D = slope/6 of a straight line from {low:.3g} to {high:.3g} ps through the mean square displacement of "
        f"centres of mass, all time origins; errors from {5} pieces of the run along three directions.",
        "The motion of the whole system's centre of mass is "
        + ("subtracted." if paths.drift_removed else "not subtracted."),
    ]
    if partial:
        notes.append(
            f"{PARTIAL[0].upper()}{PARTIAL[1:]}: the whole system's centre of mass is not known, and nothing is held "
            "against measurements of pure liquids."
        )
    if item.window[0] < CAGED:
        notes.append(
            f"The straight line begins before {1e-3 * CAGED:g} ps, where molecules still fly and rattle in their "
            "cages: a run so short tells the order of magnitude at best."
        )
    if item.frames < frames - 1:
        notes.append(f"Every {-(-frames // item.frames)}th frame is used ({FRAMES} at most).")
    if len(paths.molecules) == MOLECULES:
        notes.append(f"{MOLECULES} molecules are followed, evenly spaced in the file.")
    if paths.cell is not None and float(np.ptp(np.linalg.det(paths.cell))) > 0.0:
        notes.append("The cell changes, and with it all positions: diffusion is better taken at constant volume.")
    return notes
