"""heliodor bench: models against reference data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heliodor.cli.common import (
    DEFAULT_MODEL,
    Device,
    Dtype,
    Json,
    Kernels,
    LongRangeCutoff,
    Threads,
    load_model,
    note,
    plain,
    print_json,
    print_lines,
)

if TYPE_CHECKING:
    from heliodor.bench.result import SetResult
    from heliodor.potential import Potential

HELP = "Measure models: how accurate they are, and how fast on this machine."
EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor bench accuracy --model so3lr --sets s66x8 --quick\n"
    "  heliodor bench accuracy --model so3lr --model runs/mine.safetensors --data ../shared/data\n"
    "  heliodor bench accuracy --model so3lr --sets mine.json\n"
    "  heliodor bench accuracy --list\n"
    "\b\nWhat is done is kept in the output folder: the same command goes on, and with one more model or set only the "
    "new ones are computed. docs/accuracy.md says how energies are taken and how a set of your own is written."
)

group = typer.Typer(rich_markup_mode=None, invoke_without_command=True, help=HELP)


def register(app: typer.Typer) -> None:
    """Add the command."""
    from heliodor.cli.bench_speed import register as register_speed

    if not any(command.name == "speed" for command in group.registered_commands):
        register_speed(group)
    app.add_typer(group, name="bench")


@group.callback()
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@group.command("accuracy", epilog=EXAMPLES)
def accuracy(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|FILE",
            help=f"Model name or file; give the option several times to compare. [default: {DEFAULT_MODEL}]",
            show_default=False,
        ),
    ] = None,
    sets: Annotated[
        str | None,
        typer.Option(
            "--sets",
            metavar="NAMES",
            help="Sets by name, separated by commas; interactions, conformers, forces, torsions, crystals, sapt10k, "
            "all; or FILE.json of your own. [default: interactions,conformers]",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FOLDER",
            help="Where the sets are. [default: $HELIODOR_SHARED/data, else ../shared/data]",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Tables, pictures, and what is done already.")
    ] = Path("accuracy"),
    quick: Annotated[bool, typer.Option("--quick", help="A few rows of each set that is no matter of hours.")] = False,
    protocol: Annotated[
        str,
        typer.Option("--protocol", help="fragments (each keeps its charge) or relaxed (charge flows in the complex)."),
    ] = "fragments",
    page: Annotated[
        Path | None,
        typer.Option(
            "--page",
            metavar="FILE",
            help="Also put the tables into this page, between '<!-- begin accuracy -->' and '<!-- end accuracy -->'.",
            show_default=False,
        ),
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Only say which sets there are and what they take.")] = False,
    device: Device = "auto",
    dtype: Dtype = "float64",
    long_range_cutoff: LongRangeCutoff = "auto",
    threads: Threads = None,
    kernels: Kernels = "auto",
    as_json: Json = False,
) -> None:
    """Errors of models on sets of reference data, in kcal/mol (forces: meV/Å)."""
    from heliodor.bench.record import model_key
    from heliodor.bench.run import run_task
    from heliodor.bench.sets import DEFAULT, open_tasks
    from heliodor.bench.tables import as_json as statistics
    from heliodor.bench.tables import csv_text, markdown, put_into
    from heliodor.cli.bar import frame_bar
    from heliodor.errors import InputError
    from heliodor.potential import check_energy

    if listing:
        _list(sets, data, protocol, as_json)
        return
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; --output is a folder")
    tasks = open_tasks(sets or DEFAULT, data, protocol)
    if quick:
        for slow in (task.name for task in tasks if not task.quick):
            note(f"{slow} has no quick part and is left out")
        tasks = [task for task in tasks if task.quick]
    words = model or [DEFAULT_MODEL]
    if len(set(words)) < len(words):
        raise InputError("a model is given twice")
    potentials = []
    for word in words:
        potential = load_model(
            word, device=device, dtype=dtype, long_range_cutoff=long_range_cutoff, threads=threads, kernels=kernels
        )
        check_energy(potential)
        potentials.append(potential)
    names = _names(potentials, words)
    screen = sys.stderr if as_json else sys.stdout
    results: list[SetResult] = []
    keys = [model_key(potential) for potential in potentials]
    for task in tasks:
        for name, potential, key in zip(names, potentials, keys, strict=True):
            with frame_bar(f"{name}, {task.name}", "rows") as told:
                result = run_task(potential, task, output / "rows", quick=quick, name=name, progress=told, key=key)
            results.append(result)
            print_lines([(task.name, f"{name}: {_told(result)}")], screen)
    output.mkdir(parents=True, exist_ok=True)
    text = markdown(results)
    (output / "accuracy.md").write_text(text)
    (output / "accuracy.csv").write_text(csv_text(results))
    found = statistics(results)
    (output / "accuracy.json").write_text(json.dumps(plain(found), indent=1, ensure_ascii=False))
    pictures = _draw(results, output)
    if page is not None:
        put_into(page, text)
    if as_json:
        print_json(found)
        return
    files = [str(output / name) for name in ("accuracy.md", "accuracy.csv", "accuracy.json")]
    print_lines([("written", ", ".join(files) + f" and {len(pictures)} pictures")], screen)


def _list(sets: str | None, data: Path | None, protocol: str, as_json: bool) -> None:
    from heliodor.bench.sets import described_sets, find_data, open_tasks
    from heliodor.errors import InputError

    if sets is None and data is None:
        try:
            find_data()
        except InputError as error:
            # what there is to be had can be said without having it
            note(str(error))
            known = described_sets()
            if as_json:
                print_json([{"set": name, "what": title, "reference_level": level} for name, title, level in known])
            else:
                print("\n".join(f"{name:<18} {title}; {level}" for name, title, level in known))
            return
    tasks = open_tasks(sets or "all", data, protocol)
    if as_json:
        print_json([{"set": t.name, "what": t.title, "reference_level": t.level, "rows": len(t.items)} for t in tasks])
        return
    for t in tasks:
        print(f"{t.name:<18} {len(t.items):>5} rows, {t.cost:<8} {t.title}; {t.level}")


def _draw(results: list[SetResult], output: Path) -> list[Path]:
    from heliodor.bench.draw import draw_all
    from heliodor.errors import MissingExtraError

    try:
        return draw_all(results, output)
    except MissingExtraError as error:
        # hours of numbers are not lost for a picture
        note(f"no pictures: {error}")
        return []


def _names(potentials: list[Potential], words: list[str]) -> list[str]:
    """The models' own names; of those that share one, what they were called by."""
    own = [potential.name for potential in potentials]
    return [name if own.count(name) == 1 else word for name, word in zip(own, words, strict=True)]


def _told(result: SetResult) -> str:
    e = result.errors()
    left = sum(result.skipped.values())
    skipped = f", {left} left out ({result.skipped.most_common(1)[0][0]})" if left else ""
    if not e.count:
        return f"no numbers{skipped}"
    mean = "" if e.mean != e.mean else f", mean {e.mean:+.2f}"
    return f"MAE {e.mae:.2f}{mean}, RMSE {e.rmse:.2f} {result.unit} over {e.count}{skipped}"
