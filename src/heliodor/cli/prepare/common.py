"""What the sub-commands of heliodor prepare share: options, the progress line, and how a result is told."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from heliodor.cli.common import describe_cell, format_charge, print_json, print_lines

if TYPE_CHECKING:
    from heliodor.prepare.prepared import Prepared

Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="STEM",
        help="Write STEM.xyz (extended xyz), STEM.pdb and STEM.prepare.json (how it was made).",
        show_default=False,
    ),
]
CheckedModel = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="Refuse what this model cannot describe, before the work begins; 'none' refuses nothing.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")]

REFRESH = 0.25
"""Seconds between updates of the line."""

BAR = 24
"""Width of the bar in letters."""


class ProgressBar:
    """Shows what is being done and how much of it is: on a terminal a bar that renews itself, else one line a task.

    Use it as a context and hand it in as `heliodor.prepare.prepared.Progress`.
    """

    def __init__(self, shown: bool = True) -> None:
        self._live: Live | None = None
        self._shown = shown
        self._task = ""
        self._next = 0.0
        console = Console(stderr=True)
        if shown and console.is_terminal:
            # no thread: the line is renewed from the work
            self._live = Live(console=console, auto_refresh=False, transient=True)

    def __call__(self, what: str, part: float) -> None:
        if not self._shown:
            return
        if self._live is None:
            if what != self._task:
                print(f"{what} ...", file=sys.stderr, flush=True)
        elif what != self._task or part >= 1.0 or time.perf_counter() >= self._next:
            self._next = time.perf_counter() + REFRESH
            done = round(BAR * min(max(part, 0.0), 1.0))
            bar = "━" * done + "─" * (BAR - done)
            self._live.update(Text(f"{what:<20} {bar} {100.0 * part:3.0f} %", no_wrap=True), refresh=True)
        self._task = what

    def __enter__(self) -> ProgressBar:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


def finish(prepared: Prepared, stem: str | Path, *, source: str, overwrite: bool, as_json: bool) -> None:
    """Write the files and tell what was made: a table, or JSON.

    Args:
        source: what it was made from, for the first line.
    """
    from heliodor.prepare.output import output_paths, provenance, write_prepared

    xyz, pdb = write_prepared(prepared, stem, overwrite)
    record = output_paths(stem)[2]
    if as_json:
        files = {"structure": xyz, "pdb": pdb, "record": record}
        print_json({**provenance(prepared), "files": files})
        return
    print_lines([("from", source), *lines(prepared), ("written", f"{xyz}, {pdb}, {record}")], sys.stdout)


def lines(prepared: Prepared) -> list[tuple[str, str]]:
    """What was made and how, as (title, text)."""
    from heliodor.prepare.output import residue_counts

    counts = ", ".join(f"{n} {name}" for name, n in residue_counts(prepared.topology).items())
    told = [
        ("made", f"{len(prepared.atoms)} atoms, {prepared.atoms.get_chemical_formula('hill')}"),
        ("residues", counts),
        ("cell", describe_cell(prepared.atoms)),
    ]
    told += [("" if k else "decided", note) for k, note in enumerate(prepared.notes)]
    charged = ""
    if prepared.charged:
        plus = sum(1 for _, q in prepared.charged if q > 0)
        charged = f" ({plus} residues positive, {len(prepared.charged) - plus} negative)"
    return [*told, ("charge", format_charge(prepared.charge) + charged)]
