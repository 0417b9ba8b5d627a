"""heliodor crystal: lattice energies of molecular crystals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heliodor.cli.common import (
    DEFAULT_MODEL,
    INTERRUPTED,
    Device,
    Dtype,
    Frame,
    Json,
    Kernels,
    LongRangeCutoff,
    Model,
    Overwrite,
    StructureFile,
    Threads,
    check,
    describe,
    load_model,
    note,
    print_json,
    print_lines,
)
from heliodor.errors import InputError

if TYPE_CHECKING:
    from heliodor.crystal import LatticeEnergy

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor crystal urea.cif\n"
    "  heliodor crystal urea.cif --model so3lr --relax positions --output relaxed.cif\n"
    "  heliodor crystal cocrystal.cif --molecule acid.xyz --molecule base.xyz --temperature 298.15\n"
    "\b\nThe lattice energy is E(crystal)/Z - E(molecules alone), negative where the crystal is bound. Molecules alone "
    "are computed at the crystal's long-range cutoff."
)


def register(app: typer.Typer) -> None:
    app.command("crystal", epilog=EXAMPLES)(crystal)


def crystal(
    file: StructureFile,
    model: Model = DEFAULT_MODEL,
    relax: Annotated[
        str, typer.Option("--relax", help="What is relaxed: cell (with positions), positions, none.")
    ] = "cell",
    fmax: Annotated[
        float, typer.Option("--fmax", metavar="EV/Å", help="Largest force on any atom at the end, in eV/Å.")
    ] = 0.01,
    smax: Annotated[
        float, typer.Option("--smax", metavar="GPA", help="Largest stress at the end beside the pressure, in GPa.")
    ] = 0.01,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Give up a relaxation after this many steps.")] = 1000,
    pressure: Annotated[
        float, typer.Option("--pressure", metavar="BAR", help="Pressure in bar on the crystal; with --relax cell.")
    ] = 0.0,
    molecule: Annotated[
        list[Path] | None,
        typer.Option(
            "--molecule",
            metavar="FILE",
            help="The molecule alone, one for each kind. [default: from the crystal, the lowest of its conformers]",
            show_default=False,
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature", "-T", metavar="K", help="Estimate the sublimation enthalpy at this temperature: -E - 2RT."
        ),
    ] = None,
    bond_factor: Annotated[
        float,
        typer.Option("--bond-factor", help="Atoms closer than this times the sum of covalent radii are bonded."),
    ] = 1.2,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Relaxed crystal; any type that ASE writes. [default: crystal.xyz, if anything is relaxed]",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    frame: Frame = None,
    device: Device = "auto",
    dtype: Dtype = "float64",
    long_range_cutoff: LongRangeCutoff = "auto",
    threads: Threads = None,
    kernels: Kernels = "auto",
    as_json: Json = False,
) -> None:
    """Lattice energy of a molecular crystal, and an estimate of its sublimation enthalpy."""
    from heliodor.cli.crystal_report import check_cif, introduce, report
    from heliodor.cli.reading import read_structure
    from heliodor.cli.writing import check_writable
    from heliodor.crystal import find_molecules, lattice_energy
    from heliodor.crystal.lattice import RELAX
    from heliodor.dynamics.loop import interruptible
    from heliodor.errors import SimulationError

    if relax not in RELAX:
        raise InputError(f"--relax must be one of {', '.join(RELAX)}, not {relax!r}")
    for name, value, unit in (("--fmax", fmax, "eV/Å"), ("--smax", smax, "GPa"), ("--temperature", temperature, "K")):
        if value is not None and not 0.0 < value < float("inf"):
            raise InputError(f"{name} must be a positive number of {unit}, not {value:g}")
    if not abs(pressure) < float("inf"):
        raise InputError(f"--pressure must be a finite number of bar, not {pressure:g}")
    if pressure != 0.0 and relax != "cell":
        raise InputError("--pressure acts through the cell: use --relax cell, or leave it out")
    if relax == "none" and output is not None:
        raise InputError("--relax none leaves nothing to write: leave --output out")
    target = None if relax == "none" else output or Path("crystal.xyz")
    if target is not None:
        check_writable(target, overwrite)
    atoms = read_structure(file, frame)
    check_cif(file, frame or 0)
    given = [read_structure(path) for path in molecule or []]
    found = find_molecules(atoms, bond_factor)
    potential = load_model(
        model, device=device, dtype=dtype, long_range_cutoff=long_range_cutoff, threads=threads, kernels=kernels
    )
    check(atoms, potential)
    screen = sys.stderr if as_json else sys.stdout
    print_lines([*describe(file, atoms, potential), *introduce(found, relax, fmax, smax, pressure)], screen)

    with interruptible() as stop:

        def each(what: str, step: int, energy: float, largest: float) -> bool:
            if sys.stderr.isatty():
                told = f"\r\033[K{what}: step {step}  largest force {largest:.4f} eV/Å"
                print(told, end="", file=sys.stderr, flush=True)
            return stop()

        result = lattice_energy(
            potential,
            atoms,
            relax=relax,
            fmax=fmax,
            smax=smax,
            max_steps=steps,
            pressure=pressure,
            molecules=given,
            bond_factor=bond_factor,
            progress=each,
        )
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
        if target is not None:
            _write(target, result)
        interrupted = stop()
    if interrupted:
        kept = f": {target} holds the best structure so far" if target is not None else ""
        note(f"interrupted before the lattice energy was known{kept}")
        raise typer.Exit(INTERRUPTED)
    for line in result.notes:
        note(line)
    values, lines = report(result, temperature)
    if as_json:
        print_json({"model": potential.name, **values, "files": {"crystal": target} if target is not None else {}})
    else:
        print_lines([*lines, *([("written", str(target))] if target is not None else [])], sys.stdout)
    if not result.converged:
        raise SimulationError(
            f"not converged to {fmax:g} eV/Å after {result.steps} steps of the crystal; "
            f"{result.reason or 'give more --steps, starting from ' + str(target)}"
        )


def _write(path: Path, result: LatticeEnergy) -> None:
    from heliodor.cli.writing import write_structure

    final = result.final
    write_structure(path, final, final.positions, energy=result.crystal_energy, forces=final.get_forces())
