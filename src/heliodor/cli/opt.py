"""heliodor opt: structure relaxation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

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
from heliodor.cli.opt_report import report

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor opt molecule.xyz\n"
    "  heliodor opt cation.pdb --charge 1 --fmax 0.005 --output relaxed.xyz\n"
    "  heliodor opt crystal.cif --cell triclinic --pressure 1e4 --output relaxed.cif\n"
    "\b\nWithout --cell the cell of a periodic structure stays as it is. Energies of a model mean something as "
    "differences only."
)


def register(app: typer.Typer) -> None:
    app.command("opt", epilog=EXAMPLES)(opt)


def opt(
    file: StructureFile,
    model: Model = DEFAULT_MODEL,
    fmax: Annotated[
        float, typer.Option("--fmax", metavar="EV/Å", help="Largest force on any atom at the end, in eV/Å.")
    ] = 0.01,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Give up after this many steps.")] = 500,
    method: Annotated[str, typer.Option("--method", help="lbfgs (two to three times fewer steps) or fire.")] = "lbfgs",
    cell: Annotated[
        str | None,
        typer.Option(
            "--cell",
            metavar="COUPLING",
            help="Relax the cell too: isotropic, semi-isotropic (x = y), in-plane (x = y, z fixed), anisotropic, "
            "triclinic (angles too). [default: the cell stays]",
        ),
    ] = None,
    pressure: Annotated[
        float | None,
        typer.Option("--pressure", metavar="BAR", help="Pressure in bar under which the cell relaxes. [default: 0]"),
    ] = None,
    smax: Annotated[
        float,
        typer.Option(
            "--smax", metavar="GPA", help="With --cell: largest stress at the end beside the pressure, in GPa."
        ),
    ] = 0.01,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Keep the atoms that the file marks as fixed where they are.")
    ] = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Relaxed structure; any type that ASE writes.")
    ] = Path("opt.xyz"),
    overwrite: Overwrite = False,
    frame: Frame = None,
    charge: Charge = None,
    spin: Spin = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    long_range_cutoff: LongRangeCutoff = "auto",
    threads: Threads = None,
    kernels: Kernels = "auto",
    as_json: Json = False,
) -> None:
    """Relax a structure, and its cell if asked, to the nearest minimum."""
    import torch

    from heliodor.cli.reading import read_structure
    from heliodor.cli.writing import check_writable, write_structure
    from heliodor.dynamics.loop import interruptible
    from heliodor.dynamics.relax.landscape import landscape
    from heliodor.dynamics.relax.minimize import METHODS, minimize
    from heliodor.dynamics.restraints.frozen import frozen_from
    from heliodor.errors import InputError, SimulationError
    from heliodor.system import System
    from heliodor.units import BAR

    for name, value in (("--fmax", fmax), ("--smax", smax)):
        if not 0.0 < value < float("inf"):
            raise InputError(
                f"{name} must be a positive number of {'eV/Å' if name == '--fmax' else 'GPa'}, not {value:g}"
            )
    if method not in METHODS:
        raise InputError(f"--method must be one of {', '.join(METHODS)}, not {method!r}")
    if pressure is not None and cell is None:
        raise InputError("--pressure acts through the cell: say with --cell how the cell may relax, or leave it out")
    check_writable(output, overwrite)
    atoms = read_structure(file, frame)
    if cell is not None and not atoms.pbc.any():
        raise InputError(f"--cell relaxes a periodic cell and {file} is a molecule without one: leave --cell out")
    set_electrons(atoms, charge, spin)
    fixed = frozen_from(atoms) if frozen else None
    if fixed is not None and not bool(fixed.any()):
        raise InputError(f"--frozen was given and {file} marks no atom as fixed (move_mask in extended xyz)")
    if cell is not None:
        # refuses now what could not be relaxed later
        landscape(System.from_atoms(atoms), coupling=cell, pressure=(pressure or 0.0) * BAR, frozen=fixed)
    potential = load_model(
        model, device=device, dtype=dtype, long_range_cutoff=long_range_cutoff, threads=threads, kernels=kernels
    )
    movable = atoms.copy()
    if frozen:
        # what is honoured needs no note that it is not
        movable.set_constraint()
    check(movable, potential)
    held = "" if fixed is None else f", {int(fixed.sum())} atoms frozen"
    if cell is not None:
        around = f", cell {cell} at {pressure or 0.0:g} bar to {smax:g} GPa"
    else:
        around = ", cell fixed" if atoms.pbc.any() else ""
    title = {"lbfgs": "L-BFGS", "fire": "FIRE"}[method]
    lines = [
        *describe(file, atoms, potential),
        ("relaxation", f"{title} to {fmax:g} eV/Å, at most {steps} steps{around}{held}"),
    ]
    screen = sys.stderr if as_json else sys.stdout
    print_lines(lines, screen)

    with interruptible() as stop:

        def each(step: int, energy: torch.Tensor, largest: torch.Tensor) -> bool:
            if sys.stderr.isatty():
                print(
                    f"\r\033[Kstep {step}  largest force {float(largest[0]):.4f} eV/Å",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
            return stop()

        system = System.from_atoms(atoms, device=potential.device)
        relaxed = minimize(
            system,
            potential,
            method=method,
            fmax=fmax,
            max_steps=steps,
            cell=cell,
            pressure=pressure or 0.0,
            smax=smax,
            frozen=fixed,
            callback=each,
        )
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
        write_structure(
            output,
            atoms,
            relaxed.system.positions.cpu().numpy(),
            energy=float(relaxed.energy[0]),
            forces=relaxed.forces.cpu().numpy(),
            cell=None if cell is None else relaxed.system.cell[0].cpu().numpy(),
        )
        interrupted = stop()

    result, told = report(relaxed, atoms)
    if as_json:
        print_json({**result, "files": {"structure": output}})
    else:
        print_lines([*told, ("written", str(output))], sys.stdout)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if not relaxed.converged[0]:
        stress = "" if cell is None else f", the stress {result['stress_deviation_GPa']:.4g} GPa off"
        asked = f"{fmax:g} was" if cell is None else f"{fmax:g} and {smax:g} were"
        advice = f"{output} holds the best structure so far: start from it, with more --steps"
        raise SimulationError(
            f"not converged after {relaxed.steps} steps: the largest force is {float(relaxed.fmax[0]):.4g} eV/Å"
            f"{stress}, {asked} asked for; {relaxed.reason[0] or advice}"
        )
