"""heliodor bench speed: how fast models are on this machine."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliodor.cli.common import (
    DEFAULT_MODEL,
    Device,
    Dtype,
    Json,
    Kernels,
    LongRangeCutoff,
    Threads,
    note,
    plain,
    print_json,
    read_long_range_cutoff,
)

if TYPE_CHECKING:
    from heliodor.bench.speed.measure import Task
    from heliodor.bench.speed.run import Outcome

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor bench speed --model so3lr\n"
    "  heliodor bench speed --model heliodor-s --model so3lr --sizes 192,1536 --threads 2\n"
    "  heliodor bench speed --model so3lr --systems water,peptide,molecule --steps 50\n"
    "  heliodor bench speed --model MACE-OFF23_small.model --ensemble npt --limit 300\n"
    "\b\nFull steps of dynamics, neighbour lists included, at 300 K. Sizes grow until time or memory is over. What "
    "is done is kept in the output folder: the same command goes on. docs/speed.md says how to read the table."
)


def register(group: typer.Typer) -> None:
    """Add the command to the group ``bench``."""
    group.command("speed", epilog=EXAMPLES)(speed)


def speed(
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
    sizes: Annotated[
        str | None,
        typer.Option(
            "--sizes",
            metavar="N,N,...",
            help="Numbers of atoms; the nearest that can be built are taken. [default: 192 to 400,000 of water, "
            "52 to 512 of a peptide]",
            show_default=False,
        ),
    ] = None,
    systems: Annotated[
        str,
        typer.Option(
            "--systems", metavar="NAMES", help="water (boxes), peptide (capped polyalanine), molecule (paracetamol)."
        ),
    ] = "water",
    ensemble: Annotated[str, typer.Option("--ensemble", help="nvt (Langevin), nve or npt (water only).")] = "nvt",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps that are timed.")] = 100,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Steps before them.")] = 10,
    timestep: Annotated[str, typer.Option("--timestep", metavar="FS", help="For ns/day, and for the steps.")] = "0.5",
    skin: Annotated[float, typer.Option("--skin", metavar="Å", help="Of the neighbour lists.")] = 1.0,
    limit: Annotated[
        float, typer.Option("--limit", metavar="S", help="Seconds that the steps of one size may take.")
    ] = 120.0,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Table, picture, and what is done already.")
    ] = Path("speed"),
    device: Device = "auto",
    dtype: Dtype = "float32",
    long_range_cutoff: LongRangeCutoff = "auto",
    threads: Threads = None,
    kernels: Kernels = "auto",
    as_json: Json = False,
) -> None:
    """Time for a step of dynamics against the number of atoms, beside what the hardware needs at least."""
    import torch

    from heliodor.api import choose_device
    from heliodor.bench.speed.measure import Task, device_name
    from heliodor.bench.speed.rates import best_rates, measure_rates
    from heliodor.bench.speed.run import default_sizes, grow, identity
    from heliodor.bench.speed.tables import csv_text, parts_text, text
    from heliodor.bench.speed.tables import plain as plain_row
    from heliodor.errors import InputError
    from heliodor.units import parse_time

    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; --output is a folder")
    if not limit > 0.0:
        raise InputError(f"--limit must be a positive number of seconds, not {limit:g}")
    words = model or [DEFAULT_MODEL]
    if len(set(words)) < len(words):
        raise InputError("a model is given twice")
    wanted = {name: _sizes(sizes) or default_sizes(name) for name in _names(systems)}
    target = choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    base = Task(
        words[0],
        "water",
        1,
        ensemble=ensemble,
        steps=steps,
        warmup=warmup,
        timestep=parse_time(timestep),
        skin=skin,
        device=str(target),
        dtype=dtype,
        kernels=kernels,
        threads=threads,
        long_range_cutoff=read_long_range_cutoff(long_range_cutoff),
    )
    # all of them before the first is timed
    weights = {word: identity(word, base.long_range_cutoff) for word in words}
    screen = sys.stderr if as_json else sys.stdout
    outcomes: list[Outcome] = []
    with _bar(sum(len(each) for each in wanted.values()) * len(words)) as (stage, done):
        machine = f"{platform.node()} {device_name(target)} {torch.get_num_threads()}"
        rates = best_rates(output / "rates.json", machine, measure_rates(target))
        for word in words:
            for system, each in wanted.items():
                stage(f"{word}, {system}")
                steps_of = partial(_stage, stage, f"{word}, {system}")
                for found in grow(
                    _of(base, word, system), each, output, weights=weights[word], limit=limit, told=steps_of
                ):
                    outcomes.append(found)
                    done(_told(found))
    # again: a moment ago something else may have run
    rates = best_rates(output / "rates.json", machine, measure_rates(target))
    timings = [found.timing for found in outcomes if found.timing is not None]
    rows: list[dict[str, Any]] = [plain_row(timing, rates) for timing in timings]
    left = [{"model": f.task.model, "system": f.task.system, "atoms": f.atoms, "why": f.why} for f in outcomes if f.why]
    result = {
        "device": device_name(target),
        "threads": torch.get_num_threads(),
        "rates": {"operations_per_s": rates.operations, "bytes_per_s": rates.bandwidth},
        "rows": rows,
        "left_out": left,
    }
    files = []
    if timings:
        output.mkdir(parents=True, exist_ok=True)
        (output / "speed.csv").write_text(csv_text(timings, rates))
        (output / "speed.json").write_text(json.dumps(plain(result), indent=1, ensure_ascii=False))
        files = [output / "speed.csv", output / "speed.json", *_draw(timings, rates, output / "speed.png")]
    if as_json:
        print_json(result)
        return
    where = result["device"] if target.type == "cuda" else f"CPU, {result['threads']} threads"
    print(
        f"{where}: {rates.operations / 1e9:.0f} GFLOP/s (matrix product, float32), "
        f"{rates.bandwidth / 1e9:.0f} GB/s (copy)",
        file=screen,
    )
    for name in dict.fromkeys(timing.model for timing in timings):
        mine = [timing for timing in timings if timing.model == name]
        print(f"\n{name}, {dtype}, {ensemble.upper()}, {base.timestep:g} fs", file=screen)
        print(text(mine, rates), file=screen)
        if mine[-1].parts:
            print(f"floor at {mine[-1].atoms} atoms ({mine[-1].system}), for each atom and step:", file=screen)
            print(parts_text(mine[-1], rates), file=screen)
    for one in left:
        print(f"\n{one['model']}, {one['system']}, {one['atoms']} atoms: {one['why']}", file=screen)
    if files:
        print(f"\nwritten: {', '.join(str(file) for file in files)}", file=screen)
    if not timings:
        raise InputError("nothing could be timed" + (f": {left[0]['why']}" if left else ""))


def _stage(tell: Callable[[str], None], title: str, stage: str) -> None:
    tell(f"{title}: {stage}")


def _of(base: Task, model: str, system: str) -> Task:
    from dataclasses import replace

    return replace(base, model=model, system=system)


def _names(text: str) -> list[str]:
    from heliodor.bench.speed.systems import SYSTEMS
    from heliodor.errors import InputError, suggestion

    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in SYSTEMS:
            raise InputError(
                f"--systems: no system called {name!r}{suggestion(name, SYSTEMS)}; there are {', '.join(SYSTEMS)}"
            )
    if not names:
        raise InputError(f"--systems names at least one of {', '.join(SYSTEMS)}")
    return list(dict.fromkeys(names))


def _sizes(text: str | None) -> tuple[int, ...]:
    from heliodor.errors import InputError

    if text is None:
        return ()
    try:
        found = tuple(int(word) for word in text.replace("_", "").split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise InputError(f"--sizes must be numbers of atoms such as 192,1536, not {text!r}")
    return found


def _told(found: Outcome) -> str:
    if found.timing is None:
        return f"{found.task.model}, {found.task.system}, {found.atoms} atoms: {found.why}"
    kept = " (from before)" if found.kept else ""
    return (
        f"{found.timing.model}, {found.task.system}, {found.atoms} atoms: {found.timing.ms_per_step:.3g} ms/step{kept}"
    )


def _draw(timings: list[Any], rates: Any, path: Path) -> list[Path]:
    from heliodor.bench.speed.draw import draw
    from heliodor.errors import MissingExtraError

    try:
        draw(timings, rates, path)
    except MissingExtraError as error:
        # minutes of numbers are not lost for a picture
        note(f"no picture: {error}")
        return []
    return [path]


class _bar:
    """A line of progress that renews itself on a terminal; elsewhere a line for each size. Gives two functions: what is
    being done, and that a size is done."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._bar: Any = None

    def __enter__(self) -> tuple[Any, Any]:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("measuring the machine", total=self._total)
        return self._stage, self._done

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _stage(self, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=text)

    def _done(self, text: str) -> None:
        if self._bar is not None:
            self._bar.advance(self._task)
        else:
            print(text, file=sys.stderr, flush=True)
