"""heliodor helix: what each residue adds to the stability of a helix."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliodor.cli.common import (
    DEFAULT_MODEL,
    INTERRUPTED,
    Charge,
    Device,
    Dtype,
    Json,
    Kernels,
    LongRangeCutoff,
    Model,
    Overwrite,
    Threads,
    check,
    load_model,
    note,
    print_json,
    print_lines,
)

if TYPE_CHECKING:
    from heliodor.analysis.helix import HelixPair, Stabilisation

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor helix --model so3lr --sequence 'AceAla{n}Lys+H+' --lengths 3-15\n"
    "  heliodor helix --model so3lr --folder peptides --sequence 'AceAla{n}LysH'\n"
    "\b\nWrites a table (.csv), a picture (.png) and the relaxed structures (.xyz). In a folder, files are called like "
    "AceAla10LysH_alpha.xyz and AceAla10LysH_extended.xyz."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("helix", epilog=EXAMPLES)(helix)


def helix(
    model: Model = DEFAULT_MODEL,
    sequence: Annotated[
        str | None,
        typer.Option(
            "--sequence",
            metavar="TEXT",
            help="Peptide with {n} for the number of repeated residues. [default: AceAla{n}Lys+H+, or the series found "
            "in the folder]",
            show_default=False,
        ),
    ] = None,
    lengths: Annotated[
        str, typer.Option("--lengths", metavar="N-M", help="Chain lengths to build: 3-8, or 3,5,8.")
    ] = "3-8",
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="Take the structures from files instead of building them."),
    ] = None,
    relax: Annotated[
        bool, typer.Option("--relax/--no-relax", help="Relax with the model first, or take structures as they are.")
    ] = True,
    fmax: Annotated[float, typer.Option("--fmax", metavar="EV/Å", help="Largest force at the end, in eV/Å.")] = 0.01,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of one relaxation, at most.")] = 2000,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="NAME", help="Names of the files, without their ends.")
    ] = Path("helix"),
    overwrite: Overwrite = False,
    charge: Charge = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    long_range_cutoff: LongRangeCutoff = "auto",
    threads: Threads = None,
    kernels: Kernels = "auto",
    as_json: Json = False,
) -> None:
    """Double differences of the energy of helices against chain length.

    ΔE(n) = E(α helix) - E(fully extended) and ΔΔE(n) = ΔE(n) - ΔE(n-1): what one more residue gains in a helix.
    """
    from heliodor.analysis.helix import draw, stabilisation
    from heliodor.dynamics.files.trajectory import refuse_existing
    from heliodor.dynamics.loop import interruptible
    from heliodor.errors import InputError

    if not 0.0 < fmax < float("inf"):
        raise InputError(f"--fmax must be a positive number of eV/Å, not {fmax:g}")
    table, picture, structures = (output.with_name(output.name + end) for end in (".csv", ".png", ".xyz"))
    for path in (table, picture, structures):
        refuse_existing(path, overwrite)
    title, pairs = _pairs(sequence, lengths, folder)
    for pair in pairs:
        for atoms in (pair.alpha, pair.extended):
            if charge is not None:
                atoms.info["charge"] = charge
    potential = load_model(
        model, device=device, dtype=dtype, long_range_cutoff=long_range_cutoff, threads=threads, kernels=kernels
    )
    for pair in pairs:
        check(pair.alpha, potential)
        check(pair.extended, potential)
    screen = sys.stderr if as_json else sys.stdout
    way = f"L-BFGS to {fmax:g} eV/Å, at most {steps} steps each" if relax else "none"
    print_lines(
        [
            ("peptides", f"{title}, n = {', '.join(str(pair.n) for pair in pairs)}"),
            ("model", f"{potential.name}; {str(potential.dtype).removeprefix('torch.')} on {potential.device}"),
            ("relaxation", way),
        ],
        screen,
    )

    with interruptible() as stop:

        def each(n: int, form: str, step: int, largest: float) -> bool:
            if sys.stderr.isatty():
                print(
                    f"\r\033[Kn = {n}, {form}: step {step}, largest force {largest:.4f} eV/Å",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
            return stop()

        found = stabilisation(pairs, potential, relax=relax, fmax=fmax, max_steps=steps, told=each)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
        interrupted = stop()
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    _write(found, table, structures)
    draw(found, picture, f"{title}, {potential.name}")
    files = {"table": table, "picture": picture, "structures": structures}
    if as_json:
        columns = {key: values.tolist() for key, values in found.table().items()}
        print_json({"model": potential.name, "sequence": title, **columns, "files": files})
    else:
        print_lines([*_report(found), ("written", ", ".join(map(str, files.values())))], sys.stdout)
    _remarks(found)


def _pairs(sequence: str | None, lengths: str, folder: Path | None) -> tuple[str, tuple[HelixPair, ...]]:
    from heliodor.analysis.helix import HelixPair, read_pairs
    from heliodor.errors import InputError

    if sequence is not None and "{n}" not in sequence:
        raise InputError(
            f"--sequence must have {{n}} where the number of residues goes, as AceAla{{n}}Lys+H+: {sequence!r}"
        )
    if folder is not None:
        return read_pairs(folder, sequence)
    from heliodor.prepare.peptides import peptide

    title = sequence or "AceAla{n}Lys+H+"
    made = []
    for n in _numbers(lengths):
        forms = {}
        for fold in ("alpha", "extended"):
            built = peptide(title.replace("{n}", str(n)), fold=fold)
            atoms = built.atoms.copy()
            atoms.info["charge"] = float(built.charge)
            forms[fold] = atoms
        made.append(HelixPair(n, forms["alpha"], forms["extended"]))
    return title, tuple(made)


def _numbers(text: str) -> list[int]:
    from heliodor.errors import InputError

    found: set[int] = set()
    try:
        for word in text.split(","):
            first, _, last = word.partition("-")
            found |= set(range(int(first), int(last or first) + 1))
    except ValueError:
        found = set()
    if len(found) < 2 or min(found) < 1 or max(found) > 100:
        raise InputError(
            f"--lengths must be two chain lengths and more between 1 and 100, as 3-8 or 3,5,8, not {text!r}"
        )
    return sorted(found)


def _write(found: Stabilisation, table: Path, structures: Path) -> None:
    import csv

    import ase.io

    columns = found.table()
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow(["" if value != value else value for value in row])
    frames = []
    for k, pair in enumerate(found.structures):
        for form, atoms, energy in (
            ("alpha", pair.alpha, found.alpha[k]),
            ("extended", pair.extended, found.extended[k]),
        ):
            frame = atoms.copy()
            frame.info |= {"n": pair.n, "form": form, "energy_eV": float(energy)}
            frames.append(frame)
    ase.io.write(structures, frames, format="extxyz")


def _report(found: Stabilisation) -> list[tuple[str, str]]:
    table = found.table()
    lines = [("", "   n   ΔE (kcal/mol)   ΔΔE per residue   helical H-bonds before, after")]
    for k, n in enumerate(found.n):
        double: Any = table["double_difference_kcal_mol_per_residue"][k]
        shown = f"{double:17.2f}" if double == double else " " * 17
        bonds = f"{found.bonds_before[k]}, {found.bonds_after[k]}"
        bonds += "" if found.converged[k] else "   not converged"
        lines.append(("", f"{n:4d} {table['difference_kcal_mol'][k]:15.2f} {shown}   {bonds}"))
    return lines


def _remarks(found: Stabilisation) -> None:
    """What the reader of the numbers has to know."""
    import numpy as np

    if (np.diff(found.n) > 1).any():
        note("lengths do not follow each other: ΔΔE is the mean per residue between two lengths, not of one residue")
    lost = found.n[~found.kept]
    if len(lost):
        which = ", ".join(map(str, lost))
        note(f"n = {which}: the helix lost more than half of its hydrogen bonds, or the extended chain found some")
    late = found.n[~found.converged]
    if len(late):
        note(f"n = {', '.join(map(str, late))}: not converged; raise --steps")
