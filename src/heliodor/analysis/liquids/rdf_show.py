"""Radial distribution functions for people."""

from __future__ import annotations

import numpy as np

from heliodor.analysis.liquids import experiment
from heliodor.analysis.liquids.conditions import PARTIAL, only_water, pure_water, temperature_of
from heliodor.analysis.liquids.rdf import Radial, first_peak, radial_distributions, read_pairs, usual_pairs
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.trajectory.parallel import Progress
from heliodor.trajectory.selection import is_water
from heliodor.trajectory.trajectory import Trajectory


def show(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    pairs: str | None = None,
    reach: float | None = None,
    width: float = 0.05,
    intermolecular: bool = True,
    frames: int | None = None,
) -> Shown:
    """Radial distribution functions with coordination numbers; for water beside what is measured.

    Args:
        pairs: elements "O-O; O-H", or selections "water and O : resname LIG"; by default those of water, or of the
            commonest elements.
        reach: in Å, at most half the thickness of the cell; by default 10 Å or that half.
        width: of a shell in Å.
        intermolecular: leave out pairs within a molecule.
        frames: used at most, evenly spaced; by default 1000, fewer of large systems.
    """
    topology = trajectory.topology
    chosen = usual_pairs(topology) if pairs is None else read_pairs(topology, pairs)
    found = radial_distributions(
        trajectory,
        chosen,
        reach=reach,
        width=width,
        intermolecular=intermolecular,
        frames=frames,
        progress=progress,
        processes=processes,
    )
    temperature = temperature_of(trajectory)
    compared = intermolecular and pure_water(trajectory) and experiment.is_ambient(temperature)
    panels, numbers = [], []
    tables = {}
    for item in found:
        measured = experiment.water_rdf(item.name) if compared and item.name in ("O-O", "O-H", "H-H") else None
        panels.append(_panel(item, measured))
        numbers += _numbers(item, measured)
        tables[f"rdf_{_plain(item.name)}"] = {
            "r_A": item.r,
            "g": item.g,
            "g_error": item.error,
            "outer_A": item.outer,
            "coordination": item.coordination,
        }
        if measured is not None:
            tables[f"rdf_{_plain(item.name)}_measured"] = {
                "r_A": measured.r,
                "g": measured.g,
                "g_error": measured.error,
            }
    return Shown(
        name="rdf",
        title="Radial distribution functions",
        panels=tuple(panels),
        numbers=tuple(numbers),
        notes=tuple(_notes(trajectory, found, compared, temperature)),
        tables=tables,
    )


def _panel(item: Radial, measured: experiment.Measured | None) -> Panel:
    curves = [Curve("simulation", item.r, item.g, item.g - item.error, item.g + item.error)]
    if measured is not None:
        near = measured.r <= item.outer[-1]
        r, g, error = measured.r[near], measured.g[near], measured.error[near]
        curves.append(Curve("Soper 2013, 298 K", r, g, g - error, g + error, reference=True))
    # neighbours within a molecule stand far above all others
    top = None if item.intermolecular else 1.1 * float(item.g[item.r > 1.7].max(initial=1.5))
    return Panel(
        title=item.name.replace("-", "–") if len(item.name) < 6 else item.name,
        x=Axis("distance", "Å", 0.0, float(item.outer[-1])),
        y=Axis("g(r)", low=0.0, high=top),
        curves=tuple(curves),
    )


def _numbers(item: Radial, measured: experiment.Measured | None) -> list[Number]:
    peak = first_peak(item.r, item.g)
    if peak is None:
        return []
    known = None if measured is None else first_peak(measured.r, measured.g)
    at = int(np.abs(item.r - peak.position).argmin())
    error = float(item.error[at]) if np.isfinite(item.error[at]) else None
    where = "" if known is None else experiment.SOPER.split(":")[0]
    numbers = [
        Number(
            f"{item.name} first peak",
            peak.position,
            None,
            "Å",
            where,
            None if known is None else round(known.position, 2),
        ),
        Number(
            f"{item.name} height of it",
            peak.height,
            error,
            "",
            where,
            None if known is None else round(known.height, 2),
        ),
    ]
    if np.isfinite(peak.minimum):
        within = float(np.interp(peak.minimum, item.outer, item.coordination))
        note = f"within the first minimum, {peak.minimum:.2f} Å"
        numbers.append(Number(f"{item.name} coordination number", within, None, "", note))
    return numbers


def _notes(trajectory: Trajectory, found: tuple[Radial, ...], compared: bool, temperature: float | None) -> list[str]:
    first = found[0]
    notes = [
        f"From {first.frames} of {len(trajectory)} frames; bands are standard errors from blocks of the run. "
        "g(r) is normalised by the pairs that are counted and the volume of each frame: 1 for an ideal gas.",
        "Pairs of atoms of one molecule are left out; molecules are what bonds hold together."
        if first.intermolecular
        else "Pairs of atoms of one molecule are counted too.",
    ]
    if not only_water(trajectory.topology) and is_water(trajectory.topology).mean() > 0.5:
        notes.append("Other molecules keep water out of a part of the cell: there, g(r) of water does not end at 1.")
    if compared:
        notes.append(f"Measured: {experiment.SOPER}. Nuclei there are quantum, which widens the O-H and H-H peaks.")
    elif trajectory.partial:
        notes.append(f"{PARTIAL[0].upper()}{PARTIAL[1:]}: it is not held against measurements of pure liquids.")
    elif only_water(trajectory.topology) and first.intermolecular:
        low, high = experiment.AMBIENT
        was = "unknown" if temperature is None else f"{temperature:.0f} K"
        notes.append(f"Not held against experiment: it is of 298 K, shown from {low:.0f} to {high:.0f} K; here {was}.")
    return notes


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name).strip("_")
