"""heliodor label: quantum-chemical energies and forces of many structures, and the store they are kept in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from heliodor.cli.common import INTERRUPTED, Json, Overwrite, note, print_json, print_lines
from heliodor.cli.label_bar import campaign_bar
from heliodor.cli.label_cost import say_cost

if TYPE_CHECKING:
    import ase

    from heliodor.label.cost import Cost
    from heliodor.label.store import Store

DEFAULT = "run"
"""The sub-command that is meant where none is named."""

HELP = (
    "Label structures by quantum chemistry: energies, forces, dipoles, charges.\n\n"
    "heliodor label STRUCTURES... [OPTIONS] is short for heliodor label run STRUCTURES... [OPTIONS]. Whatever stops "
    "it, the same command goes on from there: what is done is kept in the store, and nothing is done twice."
)
EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor label fragments.extxyz --method gfn2 --workers 2 --output labelled.h5\n"
    "  heliodor label fragments.extxyz --method pbe0-mbd/def2-svp --dry-run\n"
    "  heliodor label fragments.extxyz --method pbe0-mbd/def2-tzvpp --config cluster.yaml --time-limit '2 h'\n"
    "  heliodor label status labels.db\n"
    "\b\nheliodor label run --help lists the options; docs/campaigns.md has configurations for Slurm and clouds."
)


class LabelGroup(TyperGroup):
    """A group that takes files or options in the place of a sub-command's name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


group = typer.Typer(cls=LabelGroup, rich_markup_mode=None, invoke_without_command=True, help=HELP, epilog=EXAMPLES)

StoreFile = Annotated[Path, typer.Argument(metavar="STORE", help="The file of a campaign.", show_default=False)]
ChosenMethod = Annotated[
    str | None, typer.Option("--method", metavar="NAME", help="Which, if the store holds labels of several methods.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Labels for training: a data set (.h5) or .extxyz."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.add_typer(group, name="label")


@group.callback()
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@group.command("run")
def run(
    structures: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="STRUCTURES...",
            help="Files with any number of structures; none: go on with what the store holds.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method", metavar="NAME", help="gfn2, pbe0-mbd/def2-svp, wb97m-d3bj/def2-tzvppd, teacher:MODEL."
        ),
    ] = "gfn2",
    store: Annotated[Path, typer.Option("--store", metavar="FILE", help="What is done is kept here.")] = Path(
        "labels.db"
    ),
    workers: Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Jobs at the same time.")] = 2,
    threads: Annotated[int, typer.Option("--threads", min=1, metavar="N", help="CPU threads of each job.")] = 1,
    executor: Annotated[
        str | None,
        typer.Option(
            "--executor", help="local or parsl. [default: parsl with --config, else local]", show_default=False
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="YAML", help="Where Parsl finds workers: Slurm, clouds, ...")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Limit of a job, such as '4 GB'.")
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option("--time-limit", metavar="TIME", help="Limit of an attempt of a job, such as '10 min'.")
    ] = None,
    output: Output = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it will take: jobs, hours, disk; times a few jobs.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Label structures; Ctrl-C or a kill loses nothing that is done."""
    from heliodor.durations import parse_duration
    from heliodor.errors import InputError
    from heliodor.label.amounts import parse_memory
    from heliodor.label.label import LabelError
    from heliodor.label.methods import find_method
    from heliodor.label.parsl_pool import read_cluster
    from heliodor.label.shard import Limits

    kind = executor or ("parsl" if config else "local")
    if kind not in ("local", "parsl"):
        raise InputError(f"--executor must be local or parsl, not {kind!r}")
    if config is not None and kind != "parsl":
        raise InputError("--config is for --executor parsl")
    cluster = None if config is None else read_cluster(config)
    limits = Limits(
        None if time_limit is None else parse_duration(time_limit), None if memory is None else parse_memory(memory)
    )
    if output is not None:
        _check_output(output, overwrite)
    frames = [frame for path in structures or () for frame in _read(path)]
    if not structures and not store.exists():
        raise InputError(f"there are no structures to label and no store {store}")
    try:
        name = find_method(method).name
    except LabelError as error:
        raise InputError(str(error)) from None
    screen = sys.stderr if as_json else sys.stdout
    if dry_run:
        say_cost(frames, name, store, workers, threads, limits, as_json)
        return
    from heliodor.label.campaign import run_campaign
    from heliodor.label.store import Store

    with Store(store) as opened:
        if frames:
            added = opened.add(frames, name)
            known = f", {added.known} were known" if added.known else ""
            print_lines([("structures", f"{len(frames)} for {name}: {added.new} new{known}")], screen)
        try:
            with campaign_bar("labels") as tell:
                summary = run_campaign(
                    opened, workers, kind, cluster=cluster, limits=limits, threads=threads, progress=tell
                )
        except KeyboardInterrupt:
            note(f"stopped; what is done is kept in {store}: the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
        record = {
            "method": name,
            "done": summary.done,
            "failed": summary.failed,
            "seconds": summary.seconds,
            "cpu_seconds": summary.cpu,
            "lost_workers": summary.lost_workers,
            **_state(opened),
        }
        if output is not None:
            record["output"] = _export(opened, output, frames or None, name if frames else None, screen)
        if as_json:
            print_json(record)
            return
        from heliodor.label.amounts import format_duration

        print_lines(
            [
                (
                    "this run",
                    f"{summary.done} done, {summary.failed} failed in {format_duration(summary.seconds)}, "
                    f"{summary.cpu / 3600.0:.3g} CPU hours",
                ),
                *_state_lines(opened),
            ],
            screen,
        )


@group.command("status")
def status(store: StoreFile, as_json: Json = False) -> None:
    """How far a campaign is: counts, failures by reason, rate, time to come."""
    from heliodor.label.store import open_store

    with open_store(store) as opened:
        if as_json:
            print_json(_state(opened))
        else:
            print_lines(_state_lines(opened), sys.stdout)


@group.command("export")
def export(
    store: StoreFile,
    output: Output = Path("labelled.h5"),
    method: ChosenMethod = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the labels for training; failed structures are left out and counted."""
    from heliodor.label.store import open_store

    assert output is not None
    _check_output(output, overwrite)
    with open_store(store) as opened:
        record = _export(opened, output, None, method, sys.stderr if as_json else sys.stdout)
    if as_json:
        print_json(record)


@group.command("retry-failed")
def retry_failed(
    store: StoreFile,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="REASON", help="Only failures of this reason, as in status.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Let failed jobs wait again; heliodor label --store STORE then does them."""
    from heliodor.errors import InputError, suggestion
    from heliodor.label.store import open_store

    with open_store(store) as opened:
        known = opened.failures()
        if reason is not None and known and reason not in known:
            raise InputError(f"nothing failed for {reason!r}{suggestion(reason, known)}; reasons: {', '.join(known)}")
        count = opened.retry_failed(reason)
    if as_json:
        print_json({"waiting_again": count})
    else:
        print(f"{count} job{'s' * (count != 1)} of {store} wait again: heliodor label --store {store}")


def _read(path: Path) -> list[ase.Atoms]:
    from heliodor.cli.reading import read_structures

    if path.suffix == ".h5" and path.is_file():
        import h5py

        from heliodor.train.dataset import FORMAT, Dataset

        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                ours = file.attrs.get("format") == FORMAT
            if ours:
                data = Dataset.read(path)
                return [data.atoms(k) for k in range(len(data))]
    return read_structures(path)


def _check_output(path: Path, overwrite: bool) -> None:
    from heliodor.dynamics.files.trajectory import refuse_existing
    from heliodor.errors import InputError

    if path.suffix not in (".h5", ".hdf5", ".xyz", ".extxyz"):
        raise InputError(f"cannot tell from the name {path} what to write: end it in .h5 (data set) or .extxyz")
    refuse_existing(path, overwrite)


def _export(
    store: Store, path: Path, frames: list[ase.Atoms] | None, method: str | None, screen: Any
) -> dict[str, Any]:
    from heliodor.label.export import export as to_dataset
    from heliodor.label.export import write_extxyz

    if path.suffix in (".xyz", ".extxyz"):
        notes = write_extxyz(store, path, frames, method)
    else:
        dataset = to_dataset(store, frames, method)
        dataset.write(path)
        notes = dataset.notes
    left = ", ".join(f"{notes[word]} {word}" for word in ("failed", "waiting", "unknown") if notes[word])
    text = f"{path}: {notes['written']} structures" + (f"; left out: {left}" if left else "")
    print_lines([("written", text)], screen)
    for program, versions in notes["versions"].items():
        if len(versions) > 1:
            note(f"the labels come from several versions of {program}: {', '.join(versions)}")
    return {"file": path, **notes}


def _state(store: Store) -> dict[str, Any]:
    counts = store.counts()
    cost, left = _left(store)
    wall, cpu = store.spent()
    return {
        "store": store.path,
        "methods": store.methods(),
        "jobs": {name: getattr(counts, name) for name in ("total", "waiting", "running", "done", "failed")},
        "failures": store.failures(),
        "rate_per_second": store.rate(),
        "cpu_hours_spent": cpu / 3600.0,
        "wall_hours_spent": wall / 3600.0,
        "cpu_hours_left": None if cost is None else left * cost.cores / 3600.0,
    }


def _left(store: Store) -> tuple[Cost | None, float]:
    from heliodor.label.cost import fit_cost

    cost = fit_cost(store.history())
    return cost, 0.0 if cost is None else sum(cost.seconds([atoms]) * number for atoms, number in store.sizes())


def _state_lines(store: Store) -> list[tuple[str, str]]:
    from heliodor.label.amounts import format_duration

    state = _state(store)
    jobs = state["jobs"]
    words = ", ".join(f"{jobs[word]} {word}" for word in ("done", "failed", "running", "waiting") if jobs[word])
    lines = [("store", f"{store.path}: {', '.join(state['methods'])}"), ("jobs", f"{jobs['total']}: {words}")]
    for reason, number in state["failures"].items():
        example = next((row.error for row in store.rows("failed") if row.reason == reason), "")
        lines.append(
            ("failed" if reason == next(iter(state["failures"])) else "", f"{number} {reason}: {example[:160]}")
        )
    lines.append(("spent", f"{state['cpu_hours_spent']:.3g} CPU hours"))
    if jobs["waiting"] + jobs["running"]:
        rate = state["rate_per_second"]
        cost, left = _left(store)
        if rate > 0.0 and cost is not None:
            wait = format_duration((jobs["waiting"] + jobs["running"]) / rate)
            lines.append(("rate", f"{rate:.3g} jobs/s at the end of the last run: {wait} to come at this rate"))
            lines.append(("to come", f"about {left * cost.cores / 3600.0:.3g} CPU hours"))
    return lines
