"""heliodor analyze: analyses of a trajectory by name, as numbers, pictures and tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliodor.cli.bar import frame_bar
from heliodor.cli.common import Json, Overwrite, note, print_json, print_lines

if TYPE_CHECKING:
    from heliodor.analysis.show import Analysis, Number, Shown
    from heliodor.trajectory.trajectory import Trajectory

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor analyze water.h5                         all analyses that fit\n"
    "  heliodor analyze water.h5 rdf diffusion\n"
    "  heliodor analyze peptide.dcd ramachandran --topology peptide.pdb --output folder\n"
    "  heliodor analyze water.h5 rdf --set reach=6\n"
    "  heliodor analyze --list\n"
    "\b\nWrites <trajectory>-<analysis>.png and .csv tables; all that fit go into a folder <trajectory>-analyses. "
    "heliodor report puts all on one page."
)


def register(app: typer.Typer) -> None:
    app.command("analyze", epilog=EXAMPLES)(analyze)


def analyze(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="TRAJECTORY", help="H5MD, extended xyz; DCD, XTC ... with --topology.", show_default=False
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ANALYSIS]...", help="Which; all that fit if none is named.", show_default=False),
    ] = None,
    topology: Annotated[
        Path | None,
        typer.Option(
            "--topology", metavar="FILE", help="Structure with names, its atoms in the same order: pdb, extxyz."
        ),
    ] = None,
    structure: Annotated[int, typer.Option("--structure", help="Which one, of a run of several.")] = 0,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of the analysis; --list shows them. Repeatable."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Where files go. [default: beside the trajectory; all that fit into a folder there]",
        ),
    ] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, help="That share the frames.")] = 1,
    known: Annotated[bool, typer.Option("--list", help="List all analyses and their options, and stop.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Analyse a trajectory: structure, dynamics, spectra, with errors."""
    from heliodor.analysis.catalogue import catalogue, find
    from heliodor.analysis.show import run
    from heliodor.errors import HeliodorError, InputError
    from heliodor.trajectory import open_trajectory

    if known:
        _list(as_json)
        return
    if file is None:
        raise InputError("give a TRAJECTORY, or --list to see the analyses")
    trajectory = open_trajectory(file, topology, structure=structure)
    chosen = [find(name) for name in dict.fromkeys(names or [])]
    every = not chosen
    screen = sys.stderr if as_json else sys.stdout
    if every:
        chosen = [
            analysis for analysis in catalogue().values() if analysis.usual and analysis.unfit(trajectory) is None
        ]
        if options:
            raise InputError("--set belongs to one analysis: name it")
    given = _options(chosen, options or [])
    # all that fit make many files
    folder = output or (file.with_name(f"{file.stem}-analyses") if every else file.parent)
    if folder != file.parent:
        folder.mkdir(parents=True, exist_ok=True)
    print_lines(describe_trajectory(trajectory), screen)
    if not chosen:
        raise InputError(f"no analysis fits {file}: {_why_none(trajectory)}")
    results = []
    failed = 0
    for analysis in chosen:
        stem = f"{file.stem}-{analysis.name}"
        _refuse_existing(folder, stem, overwrite)
        try:
            with frame_bar(analysis.title) as progress:
                shown = run(analysis, trajectory, progress=progress, processes=processes, **given[analysis.name])
        except HeliodorError as error:
            if not every:
                raise
            note(f"{analysis.name}: {error}")
            failed += 1
            continue
        results.append(_written(shown, folder, stem, screen, str(file)))
    if as_json:
        print_json({"trajectory": file, "frames": len(trajectory), "analyses": results})
    if failed and not results:
        raise typer.Exit(1)


def describe_trajectory(trajectory: Trajectory) -> list[tuple[str, str]]:
    """Lines that say what is about to be analysed."""
    from heliodor.units import format_time

    n = len(trajectory)
    span = f", {format_time(float(trajectory.time[-1] - trajectory.time[0]))}" if n > 1 else ""
    topology = trajectory.topology
    count = int(topology.molecules.max()) + 1
    lines = [
        ("trajectory", f"{trajectory.path}: {n} frame{'s' * (n > 1)}{span}"),
        ("structure", f"{trajectory.n_atoms} atoms, {count} molecule{'s' * (count > 1)}; {trajectory.origin}"),
    ]
    return lines + [("note", text) for text in trajectory.notes]


def number_words(number: Number) -> str:
    """``"0.23 ± 0.02 Å²/ps (Mills 1973)"``."""
    from heliodor.analysis.words import value_with_error

    text = f"{value_with_error(number.value, number.error)} {number.unit}".rstrip()
    if number.reference is not None:
        text += f"; reference {number.reference:.4g} {number.unit}".rstrip()
    return f"{text} ({number.note})" if number.note else text


def _written(shown: Shown, folder: Path, stem: str, screen: Any, title: str) -> dict[str, Any]:
    """Files of one analysis, and its numbers on the screen."""
    from heliodor.analysis.drawing import draw, write_tables

    files = []
    if shown.panels:
        picture = folder / f"{stem}.png"
        draw(shown, picture, title)
        files.append(picture)
    files += write_tables(shown, folder, stem)
    print_lines([("", ""), (shown.name, shown.title)], screen)
    print_lines([("", f"{number.name}: {number_words(number)}") for number in shown.numbers], screen)
    print_lines([("note", text) for text in shown.notes], screen)
    print_lines([("written", ", ".join(str(path) for path in files))], screen)
    numbers = [vars(number) for number in shown.numbers]
    return {"name": shown.name, "title": shown.title, "numbers": numbers, "notes": list(shown.notes), "files": files}


def _refuse_existing(folder: Path, stem: str, overwrite: bool) -> None:
    from heliodor.dynamics.files.trajectory import refuse_existing

    refuse_existing(folder / f"{stem}.png", overwrite)


def _why_none(trajectory: Trajectory) -> str:
    from heliodor.analysis.catalogue import catalogue

    reasons = {analysis.unfit(trajectory) for analysis in catalogue().values()}
    return "; ".join(sorted(reason for reason in reasons if reason)[:3])


def _list(as_json: bool) -> None:
    from heliodor.analysis.catalogue import catalogue
    from heliodor.analysis.options import described

    if as_json:
        print_json([{"name": a.name, "about": a.about, "options": described(a.show)} for a in catalogue().values()])
        return
    for analysis in catalogue().values():
        options = ", ".join(f"{name}={default}" for name, default in described(analysis.show).items())
        asked = "" if analysis.usual else " Only when named."
        print_lines(
            [(f"{analysis.name}", f"{analysis.about}{asked}"), ("", f"--set {options}" if options else "")], sys.stdout
        )


def _options(chosen: list[Analysis], texts: list[str]) -> dict[str, dict[str, Any]]:
    """Values by analysis and name.

    Raises:
        InputError: an option that no chosen analysis has, or a value of the wrong kind.
    """
    from heliodor.analysis.options import read_options

    return {analysis.name: read_options(analysis.name, analysis.show, texts) for analysis in chosen}
