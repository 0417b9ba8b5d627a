"""Dipoles for people."""

from __future__ import annotations

import numpy as np

from heliodor.analysis.liquids.charges import skipped_words
from heliodor.analysis.liquids.dipoles import Dipoles, Moments, molecular_dipoles
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.analysis.statistics import mean_with_error
from heliodor.trajectory.parallel import Progress
from heliodor.trajectory.trajectory import Trajectory
from heliodor.units import DEBYE

KINDS = 4
"""Of molecules that are shown at most."""

NEUTRAL = 0.02
"""e; net charges of molecules above are mentioned."""


def show(trajectory: Trajectory, *, progress: Progress | None = None, processes: int = 1) -> Shown:
    """Dipole moments of molecules from the charges of each frame: means, distributions, along time."""
    found = molecular_dipoles(trajectory, progress=progress, processes=processes)
    kinds = found.kinds[:KINDS]
    total = np.linalg.norm(found.total, axis=1) / DEBYE
    numbers = [_number(f"dipole of {item.kind.label}", item.mean) for item in kinds]
    numbers += [Number(f"spread of it, {item.kind.label}", item.spread, None, "D") for item in kinds]
    several = len(found.kinds) > 1 or len(found.kinds[0].kind.molecules) > 1
    if several and not trajectory.pbc.any():
        numbers.append(_number("dipole of the whole", total))
    time = 1e-3 * found.time
    panels = [
        Panel(
            "distribution of molecular dipoles",
            Axis("dipole", "D", 0.0),
            Axis("probability", "1/D", 0.0),
            tuple(Curve(item.kind.label, item.dipole, item.probability, style="steps") for item in kinds),
        )
    ]
    if len(time) > 1:
        panels.append(
            Panel(
                "mean molecular dipole along time",
                Axis("time", "ps"),
                Axis("dipole", "D"),
                tuple(Curve(item.kind.label, time, item.mean) for item in kinds),
            )
        )
    columns = {f"dipole_{item.kind.formula}_D": item.mean for item in kinds}
    axes = {f"total_{axis}_D": found.total[:, k] / DEBYE for k, axis in enumerate("xyz")}
    return Shown(
        name="dipoles",
        title="Dipole moments",
        panels=tuple(panels),
        numbers=tuple(numbers),
        notes=tuple(_notes(trajectory, found, kinds)),
        tables={
            "dipoles": {"time_ps": time, **columns, **axes},
            **{
                f"dipole_distribution_{item.kind.formula}": {
                    "dipole_D": item.dipole,
                    "probability_per_D": item.probability,
                }
                for item in kinds
            },
        },
    )


def _number(name: str, series: np.ndarray) -> Number:
    mean, error = mean_with_error(series)
    return Number(name, mean, error, "D", "" if error is not None else f"{len(series)} frame(s): no error")


def _notes(trajectory: Trajectory, found: Dipoles, kinds: tuple[Moments, ...]) -> list[str]:
    notes = [
        "Dipoles are sums of the model's atomic charges of each frame times positions, about each molecule's centre of "
        "mass (which matters only for molecules that are charged)."
    ]
    notes += [
        f"Net charges of {item.kind.label} are {item.charge:.2f} e (root mean square): its dipole depends on the "
        "origin by as much times the distance."
        for item in kinds
        if item.charge > NEUTRAL
    ]
    if trajectory.pbc.any():
        notes.append("A periodic system has no dipole of its own; total_x_D ... in the table is the sum of molecules'.")
    notes += skipped_words(found.skipped, "charges")
    if len(found.kinds) > len(kinds):
        notes.append(f"{len(found.kinds)} kinds of molecules, of which the {len(kinds)} with most atoms are shown.")
    return notes
