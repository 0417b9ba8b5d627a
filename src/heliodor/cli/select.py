"""heliodor select: few structures that stand for many."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliodor.cli.common import Json, Overwrite, Threads, note, print_json, print_lines

if TYPE_CHECKING:
    from heliodor.cli.select_input import Pool
    from heliodor.fragments.select import Selected

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor select run1.h5 run2.h5 --preset s4 --output chosen.extxyz\n"
    "  heliodor select run.dcd --topology peptide.pdb --preset s4 --preference=-400 --thin 2\n"
    "  heliodor select fragments.extxyz --preset groups\n"
    "  heliodor select fragments.extxyz --preset mixed --count 500 --model heliodor-s\n"
    "\b\nPresets: s3 (all atoms, preference -5000 Å²) and s4 (heavy atoms, every 2nd frame, near-duplicates under 9 Å² "
    "taken out, preference -1500 Å², 1000 farthest points) for conformations of one molecule; groups (conformers of "
    "each of many molecules) and mixed (molecules compared by descriptors). Writes the representatives (.extxyz), a "
    "table of all structures (.csv) and a picture of how well they are covered (.png)."
)

EVERY = 10.0
"""Seconds between lines of progress where stderr is no terminal."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("select", epilog=EXAMPLES)(select)


def select(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Trajectories of one molecule, or files of structures.", show_default=False
        ),
    ],
    preset: Annotated[str, typer.Option("--preset", metavar="NAME", help="s3, s4, groups or mixed.")] = "s4",
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Representatives; table and picture beside.")
    ] = Path("selected.extxyz"),
    topology: Annotated[
        Path | None, typer.Option("--topology", metavar="FILE", help="Structure that was simulated, for DCD, XTC ...")
    ] = None,
    atoms: Annotated[
        str,
        typer.Option(
            "--atoms", metavar="WORDS", help="Which are selected and written, such as 'protein'. [default: the solute]"
        ),
    ] = "",
    compare: Annotated[
        str | None, typer.Option("--compare", help="Atoms that are superposed: heavy or all. [default: the preset's]")
    ] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", min=1, help="Every how manieth structure. [default: the preset's]")
    ] = None,
    thin: Annotated[
        str | None,
        typer.Option(
            "--thin",
            metavar="Å²",
            help="Squared distance of near-duplicates (per atom in groups), or none. [default: the preset's]",
        ),
    ] = None,
    preference: Annotated[
        str | None,
        typer.Option(
            "--preference",
            metavar="Å²",
            help="Below zero (per atom in groups), or median: the lower, the fewer clusters. [default: the preset's]",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", metavar="N", min=1, help="N farthest points (of each group) in the place of clusters."),
    ] = None,
    farthest: Annotated[
        int | None,
        typer.Option("--farthest", metavar="N", min=0, help="Farthest points added. [default: the preset's]"),
    ] = None,
    damping: Annotated[
        float | None, typer.Option("--damping", help="Of affinity propagation, 0.5 to below 1. [default: 0.9]")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME|FILE", help="Whose descriptors mixed compares. [default: none]"),
    ] = None,
    distances: Annotated[
        Path | None,
        typer.Option(
            "--distances", metavar="FILE.npy", help="Keep all distances there; a call that was stopped goes on with it."
        ),
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option("--scratch", metavar="FOLDER", help="For matrices where memory is short; emptied at the end."),
    ] = None,
    scan: Annotated[
        bool, typer.Option("--scan", help="Draw the number of clusters against the preference, of 1000 structures.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of shuffling and of the noise that breaks ties.")] = 0,
    threads: Threads = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Select representative structures."""
    import torch

    from heliodor.cli.select_input import read_conformations, read_set
    from heliodor.cli.select_output import check_outputs, write_selection
    from heliodor.errors import InputError
    from heliodor.fragments.coverage import plot_coverage
    from heliodor.fragments.select import criteria, select_conformations, select_structures

    how = criteria(
        preset,
        **_given(
            atoms=compare,
            stride=stride,
            thin=_number(thin, "--thin", "none"),
            preference=_number(preference, "--preference", "median"),
            count=count,
            farthest=farthest,
            damping=damping,
        ),
    )
    if model is not None and how.kind != "mixed":
        raise InputError("--model belongs to the preset mixed: the others compare positions")
    if scan and how.kind != "conformations":
        raise InputError("--scan belongs to conformations of one molecule (s3, s4)")
    if how.kind != "conformations" and (topology or atoms):
        raise InputError(f"--topology and --atoms belong to trajectories, not to the preset {preset}")
    if scratch is not None and not scratch.is_dir():
        raise InputError(f"there is no folder {scratch} for scratch files")
    if distances is not None and (distances.suffix != ".npy" or how.kind == "groups"):
        raise InputError("--distances names a NumPy file (.npy), and not for the preset groups, whose are few")
    table, picture = check_outputs(output, overwrite)
    if threads is not None:
        torch.set_num_threads(threads)
    screen = sys.stderr if as_json else sys.stdout
    with progress_lines() as told:
        pool = (
            read_conformations(files, topology, atoms, told)
            if how.kind == "conformations"
            else read_set(files, how.kind, told)
        )
        for text in pool.notes:
            note(text)
        print_lines([("structures", pool.words)], screen)
        if how.kind == "conformations":
            assert pool.positions is not None
            found = select_conformations(
                pool.positions,
                pool.first.numbers,
                how,
                masses=pool.masses,
                seed=seed,
                distances=distances,
                scratch=scratch,
                progress=told,
            )
        else:
            potential = None
            if model is not None:
                from heliodor.cli.common import load_model

                potential = load_model(model, device="auto", dtype="float32")
            found = select_structures(
                pool.structures,
                how,
                potential=potential,
                seed=seed,
                distances=distances,
                scratch=scratch,
                progress=told,
            )
        curve = _scan(pool, found, how, seed, told) if scan else None
    unit = "descriptor distance" if how.kind == "mixed" else "RMSD (Å)"
    write_selection(pool, found, output, table)
    plot_coverage(found, picture, title=f"{pool.words}; {preset}", scan=curve, unit=unit)
    if as_json:
        print_json(_record(found, preset, seed) | {"files": [output, table, picture]})
        return
    print_lines(_report(found, how.kind == "mixed"), screen)
    print_lines([("written", f"{output}, {table}, {picture}")], screen)


def _scan(pool: Pool, found: Selected, how: Any, seed: int, told: Any) -> tuple[list[float], list[int]]:
    import numpy as np

    from heliodor.fragments.aligned import shapes
    from heliodor.fragments.coverage import preference_scan
    from heliodor.fragments.select import compared_atoms

    assert pool.positions is not None
    compared = compared_atoms(pool.first.numbers, how)
    points = shapes(pool.positions[found.looked][:, compared])
    # around what a heavy atom's preference is in s4, 19 Å²
    preferences = (-float(len(compared)) * np.geomspace(0.2, 200.0, 7)).tolist()
    return preferences, preference_scan(points, preferences, seed=seed, progress=told).tolist()


def _report(found: Selected, mixed: bool) -> list[tuple[str, str]]:
    distance = found.distance
    unit = "" if mixed else " Å"
    steps = ", ".join(f"{value} {name}" for name, value in found.counts.items())
    lines = [
        ("steps", steps),
        ("clusters", f"{int((found.origin != 'farthest').sum())}, of {_range(found)} structures"),
        ("farthest", f"{int((found.origin == 'farthest').sum())} points"),
        (
            "coverage",
            f"each structure is {distance.mean():.3f}{unit} from its representative on average, "
            f"{distance.max():.3f}{unit} at most",
        ),
    ]
    return lines if found.converged else [*lines, ("warning", "affinity propagation did not converge")]


def _range(found: Selected) -> str:
    sizes = found.size[found.origin != "farthest"]
    return f"{sizes.min()} to {sizes.max()}" if len(sizes) else "no"


def _record(found: Selected, preset: str, seed: int) -> dict[str, Any]:
    return {
        "preset": preset,
        "seed": seed,
        "counts": found.counts,
        "converged": found.converged,
        "representatives": found.index.tolist(),
        "origin": found.origin.tolist(),
        "cluster_size": found.size.tolist(),
        "distance_mean": float(found.distance.mean()),
        "distance_max": float(found.distance.max()),
    }


def _given(**options: Any) -> dict[str, Any]:
    """Those that were given; "none" and "median" are None in `Criteria`."""
    return {
        name: None if isinstance(value, str) and name != "atoms" else value
        for name, value in options.items()
        if value is not None
    }


def _number(text: str | None, option: str, word: str) -> float | str | None:
    from heliodor.errors import InputError

    if text is None or text.strip().lower() == word:
        return None if text is None else word
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option} must be a number of Å² or {word}, not {text!r}") from None


@contextmanager
def progress_lines() -> Iterator[Callable[[str, int, int], None]]:
    """A function to call with what is done, how far it is, and of how much: one line on stderr."""
    terminal = sys.stderr.isatty()
    told = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told < (0.1 if terminal else EVERY):
            return
        told = now
        line = f"{what}: {done} of {total}"
        print(f"\r\033[K{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
