"""heliodor report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from heliodor.cli.common import Json, Overwrite, note, one_line, print_json, print_lines

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor report run.h5 --open\n"
    "  heliodor report run.h5 --compare other.h5 --only rdf,density -o both.html\n"
    "  heliodor report run.dcd --topology system.pdb --csv tables\n"
    "\b\nLog, record and restart file are read where they lie beside the trajectory. The page needs no network; "
    "'heliodor analyze --list' has the analyses."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report", epilog=EXAMPLES)(report)


def report(
    file: Annotated[
        Path,
        typer.Argument(metavar="TRAJECTORY", help="H5MD, extended xyz, DCD, XTC, ...", show_default=False),
    ],
    compare: Annotated[
        list[Path] | None,
        typer.Option("--compare", metavar="FILE", help="Another run to be held against this one; may be repeated."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The page. [default: the trajectory's name in .html]"),
    ] = None,
    topology: Annotated[
        Path | None,
        typer.Option(
            "--topology",
            metavar="FILE",
            help="Structure with names, for trajectories without (of all runs compared).",
        ),
    ] = None,
    structure: Annotated[
        str | None,
        typer.Option(
            "--structure",
            metavar="NUMBER",
            help="Which one, of a run of several (replicas), from 0; 'all' puts them side by side. [default: 0]",
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="NAMES", help="Analyses to do, by name: rdf,ramachandran.")
    ] = None,
    without: Annotated[str | None, typer.Option("--without", metavar="NAMES", help="Analyses to leave out.")] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, help="That share the work of an analysis.")] = 1,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FOLDER", help="Also write all tables there, as CSV files.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """One HTML page about a run: what was run, is it sound, what it did, with a viewer. Works offline."""
    from heliodor.dynamics.files.trajectory import refuse_existing
    from heliodor.report.words import size
    from heliodor.report.write import write_report
    from heliodor.trajectory.open import open_trajectory

    path = file.with_suffix(".html") if output is None else output
    if path.suffix.lower() not in (".html", ".htm"):
        path = path.with_name(path.name + ".html")
    refuse_existing(path, overwrite)
    opened = [
        open_trajectory(one, topology, structure=which)
        for one in (file, *(compare or []))
        for which in _structures(one, structure)
    ]
    progress = _Line()
    written = write_report(
        opened,
        path,
        only=_names(only),
        without=_names(without),
        processes=processes,
        csv=csv,
        overwrite=overwrite,
        tell=progress.tell,
        step=progress.step,
    )
    if show:
        typer.launch(str(path.absolute()))
    if as_json:
        print_json(
            {
                "report": written.path,
                "bytes": written.bytes,
                "checks": {
                    run: [{"name": name, "verdict": verdict, "words": words} for name, verdict, words in checks]
                    for run, checks in written.checks.items()
                },
                "analyses": list(written.analyses),
                "failed": written.failed,
                "left_out": written.left_out,
                "tables": list(written.tables),
            }
        )
        return
    lines = []
    for run, checks in written.checks.items():
        where = f"{run}: " if len(written.checks) > 1 else ""
        poor = [(name, words) for name, verdict, words in checks if verdict in ("look", "bad")]
        lines += [("look at", f"{where}{name}: {one_line(words)}") for name, words in poor]
        open_ones = [name for name, verdict, _ in checks if verdict == "unknown"]
        counts = f"{sum(verdict == 'ok' for _, verdict, _ in checks)} ok"
        counts += f", {len(poor)} to look at" if poor else ""
        counts += f", not known: {', '.join(open_ones)}" if open_ones else ""
        lines.append(("checks", f"{where}{counts}"))
    lines += [("not done", f"{name}: {one_line(reason)}") for name, reason in written.failed.items()]
    if only is not None:
        lines += [("not done", f"{name}: {one_line(reason)}") for name, reason in written.left_out.items()]
    if written.tables:
        lines.append(("tables", f"{len(written.tables)} in {csv}"))
    lines.append(("written", f"{written.path} ({size(written.bytes)})"))
    print_lines(lines, sys.stdout)


def _structures(path: Path, wish: str | None) -> list[int]:
    """Which structures of a file to report.

    Raises:
        InputError: a wish that is no number.
    """
    from heliodor.dynamics.files.trajectory import H5MD_SUFFIXES
    from heliodor.errors import InputError
    from heliodor.trajectory.open import open_trajectory

    if wish is not None and wish.strip().isdigit():
        return [int(wish)]
    if wish is not None and wish.strip().lower() != "all":
        raise InputError(f"--structure must be a number from 0 on, or 'all', not {wish!r}")
    held = path.suffix.lower() in H5MD_SUFFIXES and path.is_file()
    count = int(open_trajectory(path).settings.get("n_structures", 1)) if held else 1
    if wish is None and count > 1:
        note(f"{path} holds {count} structures: the first is reported (choose with --structure NUMBER, or all)")
    return list(range(count)) if wish is not None else [0]


def _names(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


class _Line:
    """What is being done, on standard error: one line each, renewed on a terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()

    def tell(self, what: str, how: str) -> None:
        if how:
            print(f"{self._begin()}{what:<24} {one_line(how)}", file=sys.stderr, flush=True)
        elif self._terminal:
            print(f"{self._begin()}{what:<24} ...", end="", file=sys.stderr, flush=True)

    def step(self, what: str, done: int, of: int) -> None:
        if self._terminal:
            print(f"{self._begin()}{what:<24} {100 * done // max(1, of)} %", end="", file=sys.stderr, flush=True)

    def _begin(self) -> str:
        return "\r\x1b[K" if self._terminal else ""
