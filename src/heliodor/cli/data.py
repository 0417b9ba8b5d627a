"""heliodor data: labelled structures checked, converted, divided and counted."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from heliodor.cli.bar import frame_bar
from heliodor.cli.common import Json, Overwrite, note, print_json, print_lines
from heliodor.cli.data_options import with_reading
from heliodor.errors import InputError

if TYPE_CHECKING:
    from heliodor.train.data.reading import Source, Wanted
    from heliodor.train.dataset import Dataset

FOUND = 1
"""Exit code of `check` when there are errors."""

group = typer.Typer(
    rich_markup_mode=None,
    invoke_without_command=True,
    help="Data sets for training: check, convert, split, count.\n\n"
    "Files are extxyz (.gz too), ASE databases, npz as of MD17, HDF5 as of SPICE, or heliodor's own: a shelf "
    "(a folder) or .h5.",
    epilog="\b\nExamples:\n"
    "  heliodor data check train.extxyz test.extxyz\n"
    "  heliodor data convert md17_ethanol.npz --units kcal/mol --output ethanol.shelf\n"
    "  heliodor data split ethanol.shelf --parts train=950,valid=50 --output ethanol\n"
    "  heliodor data stats ethanol.shelf --plot ethanol.png",
)

Files = Annotated[list[Path], typer.Argument(metavar="FILES...", help="Labelled structures.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.add_typer(group, name="data")


@group.callback()
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@group.command("check")
@with_reading
def check(
    files: Files,
    wanted: Any,
    max_force: Annotated[float, typer.Option("--max-force", metavar="EV/Å", help="Forces above are told.")] = 25.0,
    min_distance: Annotated[float, typer.Option("--min-distance", metavar="Å", help="Closer atoms are told.")] = 0.25,
    tolerance: Annotated[
        float, typer.Option("--tolerance", metavar="Å", help="Distances of the same structure; 0: no duplicates.")
    ] = 1e-4,
    as_json: Json = False,
) -> None:
    """Find wrong units, signs, charges, labels, and structures that occur twice, in one file or in several."""
    from heliodor.train.data.checks import Limits, check_dataset

    screen = sys.stderr if as_json else sys.stdout
    data, parts, bad = _load(files, replace(wanted, keep_nan=True), screen)
    with frame_bar("distances", "structures") as tell:
        report = check_dataset(
            data,
            Limits(max_force, min_distance, tolerance),
            parts=parts if len(files) > 1 else None,
            names=[str(path) for path in files],
            not_numbers=bad,
            progress=tell,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        lines = [("structures", f"{report.count}; {int(data.offsets[-1])} atoms")]
        lines += [(title if len(title) < 12 else "consistency", text) for title, text in report.facts.items()]
        lines += [(finding.severity, f"{finding.about}: {finding}") for finding in report.findings]
        told = [
            f"{n} {word}{'s' * (n != 1)}"
            for n, word in ((len(report.errors), "error"), (len(report.warnings), "warning"))
        ]
        lines.append(("result", ", ".join(told)))
        print_lines(lines, sys.stdout)
    if report.errors:
        raise typer.Exit(FOUND)


@group.command("convert")
@with_reading
def convert(
    files: Files,
    wanted: Any,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="A shelf (a folder), or .h5.", show_default=False)
    ],
    max_force: Annotated[
        float | None, typer.Option("--max-force", metavar="EV/Å", help="Leave out structures with stronger forces.")
    ] = None,
    min_distance: Annotated[
        float | None, typer.Option("--min-distance", metavar="Å", help="Leave out structures with closer atoms.")
    ] = None,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Leave out structures that occurred before.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write files into one shelf or .h5, in our units; what is interrupted goes on with the same command."""
    from heliodor.train.data.conversion import Filters
    from heliodor.train.data.conversion import convert as run
    from heliodor.train.data.reading import open_source

    screen = sys.stderr if as_json else sys.stdout
    sources = []
    for path in files:
        sources.append(open_source(path, wanted))
        _say(sources[-1], screen)
    methods = sorted({source.method for source in sources if source.method})
    if len(methods) > 1:
        raise InputError(f"labels of different methods do not go into one set: {', '.join(methods)}")
    with frame_bar("structures", "structures") as tell:
        done = run(
            sources,
            output,
            Filters(max_force, min_distance, drop_duplicates),
            wanted=wanted,
            overwrite=overwrite,
            progress=tell,
        )
    if as_json:
        print_json({**asdict(done), "output": str(output)})
        return
    lines = [("resumed", f"{done.resumed} structures had been read before")] if done.resumed else []
    reasons = {"force": "forces too strong", "distance": "atoms too close", "duplicate": "occurred before"}
    for reason, count in done.dropped.items():
        named = ", ".join(str(k) for k in done.examples[reason])
        lines.append(("left out", f"{count}: {reasons[reason]} ({named}{' ...' if count > 10 else ''})"))
    lines.append(("written", f"{done.written} of {done.read} structures to {output}"))
    print_lines(lines, screen)


@group.command("split")
@with_reading
def split(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Labelled structures.", show_default=False)],
    wanted: Any,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="PREFIX", help="Parts are PREFIX-train, ...", show_default=False)
    ],
    parts: Annotated[
        str, typer.Option("--parts", metavar="NAME=SHARE,...", help="Fractions, or numbers of structures.")
    ] = "train=0.8,valid=0.1,test=0.1",
    by: Annotated[
        str, typer.Option("--by", help="What stays together: frame (nothing), group, molecule, formula.")
    ] = "frame",
    stratify: Annotated[bool, typer.Option("--stratify", help="Divide each kind on its own.")] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the random division.")] = 0,
    h5: Annotated[bool, typer.Option("--h5", help="Write .h5 files rather than shelves.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Divide a set into training, validation and test."""
    from heliodor.train.data.conversion import check_target, copy_to
    from heliodor.train.data.splits import split_dataset

    screen = sys.stderr if as_json else sys.stdout
    shares = _shares(parts)
    targets = {name: Path(f"{output}-{name}.{'h5' if h5 else 'shelf'}") for name in shares}
    for target in targets.values():
        if target.exists() and not overwrite:
            raise InputError(f"{target} exists: choose another --output, or --overwrite")
        check_target(target)
    data, _, _ = _load([file], wanted, screen)
    if by == "molecule" and (data.group == "").any():
        note("structures without a group word are told apart by formula, charge and bonds")
    found = split_dataset(data, shares, by=by, stratify=stratify, seed=seed)
    notes = {"split": {"of": str(file), "by": by, "stratify": stratify, "seed": seed, "parts": parts}}
    for name, target in targets.items():
        copy_to(data, found.parts[name], target, {**notes, "part": name})
    record = {
        name: {"file": str(targets[name]), "structures": len(k), "groups": found.units[name]}
        for name, k in found.parts.items()
    }
    if as_json:
        print_json(record)
        return
    grouped = "" if by == "frame" else " in {groups} groups"
    print_lines(
        [(n, ("{structures} structures" + grouped + " to {file}").format(**r)) for n, r in record.items()], screen
    )


@group.command("stats")
@with_reading
def stats(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Labelled structures.", show_default=False)],
    wanted: Any,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="PNG", help="Draw histograms.")] = None,
    as_json: Json = False,
) -> None:
    """Count structures, elements, charges, kinds and labels, with their spreads."""
    from heliodor.train.data.statistics import describe_set, draw_set

    screen = sys.stderr if as_json else sys.stdout
    data, _, _ = _load([file], wanted, screen)
    found = describe_set(data)
    if plot is not None:
        draw_set(found, plot)
    if as_json:
        print_json(found.to_dict())
    else:
        print_lines(found.lines(), sys.stdout)


def _load(files: list[Path], wanted: Wanted, screen: TextIO) -> tuple[Dataset, Any, dict[str, list[int]]]:
    """Files as one set, the number of the file of each structure, and those with labels that are no numbers."""
    import numpy as np

    from heliodor.train.data.reading import open_source
    from heliodor.train.dataset import join, open_dataset
    from heliodor.train.shelf import is_shelf

    if len(files) == 1 and is_shelf(files[0]) and not wanted.says_something:
        # stays on the disk
        data = open_dataset(files[0])
        return data, np.zeros(len(data), dtype=np.int64), {}
    blocks, parts = [], []
    bad: dict[str, list[int]] = {}
    first = 0
    for number, path in enumerate(files):
        source = open_source(path, wanted)
        _say(source, screen)
        with frame_bar(path.name, "structures") as tell:
            done = 0
            for block in source.blocks(0):
                for name, rows in block.notes.get("not_numbers", {}).items():
                    bad.setdefault(name, []).extend(first + k for k in rows)
                blocks.append(block)
                parts.append(np.full(len(block), number))
                first, done = first + len(block), done + len(block)
                tell(done, source.total)
    return join(blocks), np.concatenate(parts), bad


def _say(source: Source, screen: TextIO) -> None:
    lines = [("file", f"{source.path}: {source.total} structures, {source.format}")]
    print_lines(lines + [("", sentence) for sentence in source.said], screen)


def _shares(text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for piece in text.split(","):
        name, _, value = piece.partition("=")
        name = name.strip()
        try:
            shares[name] = float(value)
        except ValueError:
            name = ""
        if not name or "/" in name:
            raise InputError(f"--parts is written train=0.8,valid=0.1,test=0.1 or train=950,valid=50, not {text!r}")
    return shares
