"""heliodor scan: torsion drives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heliodor.cli.common import (
    DEFAULT_MODEL,
    INTERRUPTED,
    Charge,
    Device,
    Dtype,
    Frame,
    Json,
    Kernels,
    LongRangeCutoff,
    Model,
    Overwrite,
    Spin,
    StructureFile,
    Threads,
    check,
    describe,
    load_model,
    print_json,
    print_lines,
    set_electrons,
)

if TYPE_CHECKING:
    from heliodor.scan.record import Relaxation

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor scan biphenyl.sdf --bond 3,8\n"
    "  heliodor scan molecule.xyz --dihedral 4,3,8,9 --step 10 --reference dft.csv\n"
    "  heliodor scan dipeptide.xyz --dihedral 4,6,8,14 --dihedral 6,8,14,16 --step 30\n"
    "  heliodor scan molecule.xyz --dihedral 4,3,8,9 --restart\n"
    "\b\nAtoms are counted from 0. Writes the lowest structure of each point (scan.xyz), every relaxation as it "
    "finishes (scan.all.xyz), a table (.csv) and a picture (.png). Ctrl-C ends a scan; --restart goes on."
)


def register(app: typer.Typer) -> None:
    app.command("scan", epilog=EXAMPLES)(scan)


def scan(
    file: StructureFile,
    dihedral: Annotated[
        list[str] | None,
        typer.Option("--dihedral", metavar="A,B,C,D", help="Four atoms bonded one to the next; once or twice."),
    ] = None,
    bond: Annotated[
        list[str] | None,
        typer.Option(
            "--bond", metavar="B,C", help="Instead: the dihedral around this bond, by the heaviest neighbours."
        ),
    ] = None,
    smarts: Annotated[
        list[str] | None,
        typer.Option(
            "--smarts",
            metavar="PATTERN",
            help="Instead: the first match of four atoms, or of those mapped [*:1] to [*:4] (needs heliodor[prepare]).",
        ),
    ] = None,
    step: Annotated[
        list[float] | None,
        typer.Option("--step", metavar="DEG", help="Of the grid; once, or for each dihedral. [default: 15]"),
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="LOW:HIGH", help="In degrees; likewise. [default: -180:180, going round]"),
    ] = None,
    model: Model = DEFAULT_MODEL,
    sweeps: Annotated[
        bool,
        typer.Option(
            "--sweeps",
            help="One dihedral: once along the grid and back. [default: start each point from all its neighbours until "
            "nothing improves]",
        ),
    ] = False,
    convergence: Annotated[
        str,
        typer.Option("--convergence", help="gau (gradient 3e-4, largest 4.5e-4 Eh/bohr) or tight (1e-5, 1.5e-5)."),
    ] = "gau",
    max_steps: Annotated[int, typer.Option("--max-steps", min=1, help="Of one relaxation.")] = 300,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="CSV", help="Profile to compare with: angle in degrees, energy."),
    ] = None,
    reference_unit: Annotated[
        str, typer.Option("--reference-unit", help="Of its energies: kcal/mol, kJ/mol, eV or hartree.")
    ] = "kcal/mol",
    reference_geometries: Annotated[
        Path | None,
        typer.Option("--reference-geometries", metavar="FILE", help="Structures to take RMSDs from, matched by angle."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Lowest structures, extended xyz.")
    ] = Path("scan.xyz"),
    restart: Annotated[bool, typer.Option("--restart", help="Go on with a scan from its .all.xyz file.")] = False,
    overwrite: Overwrite = False,
    frame: Frame = None,
    charge: Charge = None,
    spin: Spin = None,
    device: Device = "auto",
    dtype: Dtype = "float64",
    long_range_cutoff: LongRangeCutoff = "auto",
    threads: Threads = None,
    kernels: Kernels = "auto",
    as_json: Json = False,
) -> None:
    """Relaxed energies over one or two dihedrals of a molecule."""
    from heliodor.cli.reading import read_structures
    from heliodor.cli.scan_input import axes_of, dihedrals_of, read_molecule
    from heliodor.cli.scan_report import report
    from heliodor.dynamics.files.trajectory import refuse_existing
    from heliodor.dynamics.loop import interruptible
    from heliodor.errors import InputError, SimulationError
    from heliodor.scan.draw import draw
    from heliodor.scan.drive import check_rotors, torsion_scan
    from heliodor.scan.geometry import angles_of, bonds_of
    from heliodor.scan.profile import read_profile
    from heliodor.scan.relax import CRITERIA

    if convergence not in CRITERIA:
        raise InputError(f"--convergence must be one of {', '.join(CRITERIA)}, not {convergence!r}")
    if output.suffix not in (".xyz", ".extxyz"):
        raise InputError(f"the structures of a scan are extended xyz: end the name {output} in .xyz")
    record, table, picture = (output.with_suffix(suffix) for suffix in (".all.xyz", ".csv", ".png"))
    written = (output, record, table, picture)
    if restart and not record.is_file():
        raise InputError(f"--restart goes on from {record}, which is not there")
    for path in written:
        if record.exists() and not (restart or overwrite):
            raise InputError(f"{record} exists already: go on with --restart, choose another --output, or --overwrite")
        refuse_existing(path, overwrite or restart)
        for given in (file, reference, reference_geometries):
            if given is not None and path.exists() and given.exists() and path.samefile(given):
                raise InputError(f"{path} is a file handed in: choose another --output")

    atoms = read_molecule(file, frame)
    if atoms.pbc.any():
        raise InputError(f"dihedrals are scanned of molecules only: {file} is periodic")
    atoms.set_constraint()
    set_electrons(atoms, charge, spin)
    rotors = check_rotors(atoms, dihedrals_of(atoms, dihedral or [], bond or [], smarts or []), bonds_of(atoms))
    axes = axes_of(ranges or ["-180:180"], step or [15.0], len(rotors))
    if len(rotors) > 1 and (sweeps or reference is not None):
        raise InputError(f"{'--sweeps' if sweeps else '--reference'} is for one dihedral")
    profile = None if reference is None else read_profile(reference, reference_unit)
    geometries = None if reference_geometries is None else read_structures(reference_geometries)
    for geometry in geometries or []:
        if geometry.get_chemical_symbols() != atoms.get_chemical_symbols():
            raise InputError(f"{reference_geometries}: the atoms are not those of {file}, or in another order")
    potential = load_model(
        model, device=device, dtype=dtype, long_range_cutoff=long_range_cutoff, threads=threads, kernels=kernels
    )
    check(atoms, potential)

    screen = sys.stderr if as_json else sys.stdout
    named = [
        f"{r.name} ({'-'.join(atoms[k].symbol for k in r.atoms)}, now {angle:.1f}°), "
        f"{axis.angles[0]:g}° to {axis.angles[-1]:g}°, {len(axis.angles)} points"
        for r, angle, axis in zip(rotors, angles_of(atoms, rotors), axes, strict=True)
    ]
    way = "along and back" if sweeps else "from all neighbours until nothing improves"
    lines = [*describe(file, atoms, potential), *(("dihedral", words) for words in named)]
    print_lines([*lines, ("scan", f"{way}; geomeTRIC, convergence {convergence}")], screen)

    def each(one: Relaxation, waiting: int) -> None:
        if sys.stderr.isatty():
            where = ", ".join(f"{angle:g}°" for angle in one.angles)
            told = one.failure or f"{one.steps} energies"
            print(f"\r\033[K{where}: {told}; {waiting} waiting", end="", file=sys.stderr, flush=True)

    with interruptible() as stop:
        found = torsion_scan(
            atoms,
            potential,
            [r.atoms for r in rotors],
            axes=axes,
            method="sweeps" if sweeps else "wavefront",
            criteria=convergence,
            max_steps=max_steps,
            record=record,
            restart=restart,
            progress=each,
            stop=stop,
        )
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
        files = {"relaxations": record}
        if (found.lowest >= 0).any():
            found.write_structures(output)
            found.write_table(table)
            draw(found, picture, title=f"{atoms.get_chemical_formula()}, {potential.name}", reference=profile)
            files |= {"structures": output, "table": table, "picture": picture}

    result, told = report(found, profile, geometries)
    if as_json:
        print_json({"model": potential.name, **result, "files": files})
    else:
        print_lines([*told, ("written", ", ".join(map(str, files.values())))], sys.stdout)
    if not found.complete:
        print_lines([("go on", "the same command with --restart")], screen)
        raise typer.Exit(INTERRUPTED)
    if found.missing:
        where = "; ".join(", ".join(f"{angle:g}°" for angle in angles) for angles in found.missing[:5])
        why = found.failures[-1].failure
        raise SimulationError(
            f"{len(found.missing)} of {found.lowest.size} points have no relaxed structure ({where}): {why}; "
            "a finer --step or more --max-steps may help"
        )
