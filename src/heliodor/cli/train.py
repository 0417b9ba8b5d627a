"""heliodor train: fit a model to labelled structures, as one YAML file says."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliodor.cli.common import Json, note, print_json, print_lines
from heliodor.cli.stage_bar import read_choices
from heliodor.errors import InputError

if TYPE_CHECKING:
    from heliodor.train.files.job import Done, Job

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor train config.yaml --dry-run\n"
    "  heliodor train config.yaml\n"
    "  heliodor train config.yaml --set training.learning_rate=5e-4 --set output.folder=second\n"
    "  heliodor train --explain > config.yaml\n"
    "  torchrun --nproc-per-node 2 -m heliodor train config.yaml\n"
    "\b\nA run that was stopped or killed goes on where it was: give the same command again. The folder then holds the "
    "model\n(model.safetensors), the log (log.csv), pictures and result.json; 'heliodor eval' tests the model on other "
    "sets."
)

EVERY = 20.0
"""Seconds between lines where stderr is no terminal."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", epilog=EXAMPLES)(train)


def train(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="YAML; see --explain.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="One choice, such as training.epochs=50; wins over the file."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen: data, model, steps, memory, time; train nothing.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print all choices with their defaults as YAML.")] = False,
    as_json: Json = False,
) -> None:
    """Fit a model to labelled structures, or fine-tune one, as a YAML file says."""
    from heliodor.train.files import config as choices

    if explain:
        print(choices.explain())
        return
    if config is None:
        raise InputError("which configuration? Give a YAML file ('heliodor train --explain' prints one)")
    values = read_choices(config, change or [])
    try:
        wanted = choices.read_config(values, config.parent)
    except InputError as error:
        raise InputError(f"{config}: {error}") from None
    from heliodor.train.files.job import first_process, prepare, run
    from heliodor.train.files.outlook import describe, plan

    quiet = not first_process()
    screen = sys.stderr if as_json else sys.stdout
    with _bar(quiet) as bar:
        job = prepare(wanted, bar.tell)
        if dry_run:
            bar.tell("measuring memory and time", 0, 1)
            outlook = plan(job)
        else:
            if not quiet:
                bar.lines(describe(job).lines)
            done = run(job, bar)
    if quiet:
        return
    if dry_run:
        if as_json:
            print_json(outlook.numbers)
        else:
            print_lines(outlook.lines, screen)
        return
    if as_json:
        print_json(_as_json(job, done))
        return
    _tell(job, done)


def _tell(job: Job, done: Done) -> None:
    print(f"\nvalidation\n{done.errors.table()}")
    if done.test is not None:
        print(f"\ntest\n{done.test.table()}")
    if done.report:
        print(f"\n{done.report}")
    result = done.result
    if result.skipped:
        named = {name for skip in result.skipped for name in skip["structures"]}
        note(f"{len(result.skipped)} batches gave no finite loss and were skipped: {', '.join(sorted(named)[:5])}")
    print()
    print_lines(
        [
            ("run", f"{result.steps} steps, {result.epochs:.4g} epochs, {result.seconds / 60:.1f} min"),
            ("model", str(result.path)),
            ("pictures", ", ".join(str(p) for p in sorted(result.path.parent.glob("*.png")))),
            ("test it", f"heliodor eval FILE --model {result.path}"),
        ],
        sys.stdout,
    )


def _as_json(job: Job, done: Done) -> dict[str, Any]:
    result = done.result
    return {
        "folder": job.config.folder,
        "model": result.path,
        "steps": result.steps,
        "epochs": result.epochs,
        "seconds": result.seconds,
        "skipped": result.skipped,
        "validation": done.errors.to_dict(),
        "test": None if done.test is None else done.test.to_dict(),
    }


class Bar:
    """One line that renews itself on a terminal, else a line now and then; nothing where it is quiet.

    It is called with the fraction done and a few words, as `heliodor.train.progress.Progress`.
    """

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        self.quiet, self._told, self._task = quiet, 0.0, ""
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __call__(self, fraction: float, words: str) -> None:
        now = time.monotonic()
        task = words.split(",")[0].rstrip("0123456789 ")
        # a new task is told at once, the same one when some time has passed
        if self.quiet or (now - self._told < (0.2 if self._live else EVERY) and task == self._task):
            return
        self._told, self._task = now, task
        if self._live is None:
            print(f"{100.0 * fraction:3.0f} %  {words}", file=sys.stderr, flush=True)
            return
        from rich.text import Text

        done = round(24 * min(max(fraction, 0.0), 1.0))
        bar = "━" * done + "─" * (24 - done)
        self._live.update(Text(f"{bar} {100.0 * fraction:3.0f} %  {words}", no_wrap=True), refresh=True)

    def tell(self, what: str, done: int, of: int) -> None:
        """Of what comes before the training."""
        self(0.0, f"{what}, {done} of {of}" if done else what)

    def lines(self, lines: list[tuple[str, str]]) -> None:
        """Something that stays on the screen."""
        for title, text in lines:
            line = f"{title:<12} {text}"
            if self._live is not None:
                self._live.console.print(line, highlight=False, markup=False)
            else:
                print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _bar(quiet: bool) -> Iterator[Bar]:
    bar = Bar(quiet)
    if quiet:
        # several processes saying the same thing help nobody
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield bar
        return
    with bar._live if bar._live is not None else contextlib.nullcontext():
        yield bar
