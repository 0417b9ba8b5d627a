"""Tables and pictures of a run, in its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from heliodor.analysis.drawing import csv_of, draw, write_tables
from heliodor.analysis.show import Shown
from heliodor.errors import InputError
from heliodor.paths.result import PROPERTIES
from heliodor.paths.show import Runs, show_bonds, show_course, show_infrared, show_kinetic, show_radial
from heliodor.paths.structures import write_beads, write_centroids
from heliodor.paths.summary import SKIP, limits


def write_report(
    runs: Runs,
    folder: Path,
    *,
    skip: float = SKIP,
    resolution: float | None = None,
    pairs: str | None = None,
) -> tuple[list[Path], list[str]]:
    """Properties of each frame as CSV, beads and centroids as extended xyz, a PNG with tables of all else there is.

    Args:
        runs: by name, such as "quantum" and "classical", drawn together.
        folder: to write into.

    Returns:
        The files, and in words what was left out and why.
    """
    files, notes = [], []
    boxed = all(result.atoms.pbc.all() for result in runs.values())
    for run, result in runs.items():
        path = folder / f"properties-{run}.csv"
        units = {name: f"{name}_{unit}" if unit else name for name, unit in PROPERTIES.items()}
        columns = {"time_fs": result.time} | {units[name]: result.properties[name] for name in PROPERTIES}
        path.write_text(csv_of(columns), encoding="utf-8")
        files.append(path)
        if result.centroids is not None:
            files.append(write_centroids(result, folder / f"centroids-{run}.xyz"))
        if result.marks()["beads"] and not boxed:
            files.append(write_beads(result, folder / f"beads-{run}.xyz", skip))
        short = limits(result, skip)
        if short is not None:
            notes.append(f"{run}: {short}")
    pictures: dict[str, Callable[[], Shown]] = {
        "course": lambda: show_course(runs),
        "kinetic": lambda: show_kinetic(runs, skip),
        "bonds": lambda: show_bonds(runs, skip),
        "rdf": lambda: show_radial(runs, folder, pairs, skip),
        "infrared": lambda: show_infrared(runs, resolution, skip),
    }
    for name, make in pictures.items():
        if name == "rdf" and not boxed:
            continue
        try:
            shown = make()
            files += _write(shown, folder)
            notes += shown.notes if name == "infrared" else ()
        except InputError as error:
            notes.append(f"no {name}: {error}")
    return files, notes


def _write(shown: Shown, folder: Path) -> list[Path]:
    if not shown.panels:
        return []
    path = folder / f"{shown.name}.png"
    draw(shown, path)
    return [path, *write_tables(shown, folder, shown.name)]
