"""heliodor opt: structure relaxation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from heliodor.cli.common import (
    DEFAULT_MODEL,
    Charge,
    Device,
    Dtype,
    Frame,
    Json,
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

INTERRUPTED = 130
EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor opt molecule.xyz\n"
    "  heliodor opt cation.pdb --charge 1 --fmax 0.005 --output relaxed.xyz\n"
    "\b\nThe cell of a periodic structure stays as it is. Energies of a model mean something as differences only."
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
    as_json: Json = False,
) -> None:
    """Relax a structure to the nearest minimum (FIRE)."""
    import torch

    from heliodor.cli.reading import read_structure
    from heliodor.cli.writing import check_writable, write_structure
    from heliodor.dynamics.loop import interruptible
    from heliodor.dynamics.minimize import minimize
    from heliodor.errors import InputError, SimulationError
    from heliodor.system import System
    from heliodor.units import KCAL_PER_MOL

    if not 0.0 < fmax < float("inf"):
        raise InputError(f"--fmax must be a positive number of eV/Å, not {fmax:g}")
    check_writable(output, overwrite)
    atoms = read_structure(file, frame)
    set_electrons(atoms, charge, spin)
    potential = load_model(model, device=device, dtype=dtype, long_range_cutoff=long_range_cutoff, threads=threads)
    check(atoms, potential)
    lines = [
        *describe(file, atoms, potential),
        ("relaxation", f"FIRE to {fmax:g} eV/Å, at most {steps} steps{', cell fixed' if atoms.pbc.any() else ''}"),
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
        relaxed = minimize(system, potential, fmax=fmax, max_steps=steps, callback=each)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
        before, after = float(relaxed.energies[0, 0]), float(relaxed.energy[0])
        largest, converged = float(relaxed.fmax[0]), bool(relaxed.converged[0])
        write_structure(
            output, atoms, relaxed.system.positions.cpu().numpy(), energy=after, forces=relaxed.forces.cpu().numpy()
        )
        interrupted = stop()

    result = {
        "converged": converged,
        "steps": relaxed.steps,
        "fmax_eV_per_A": largest,
        "relative_energy_before_eV": before,
        "relative_energy_after_eV": after,
        "energy_change_eV": after - before,
        "files": {"structure": output},
    }
    if as_json:
        print_json(result)
    else:
        change = after - before
        print_lines(
            [
                ("energy", f"{before:.6f} eV before, {after:.6f} eV after (model's own zero)"),
                ("change", f"{change:+.6f} eV = {change / KCAL_PER_MOL:+.3f} kcal/mol"),
                (
                    "force",
                    f"largest {largest:.4g} eV/Å after {relaxed.steps} steps, {'' if converged else 'not '}converged",
                ),
                ("written", str(output)),
            ],
            sys.stdout,
        )
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if not converged:
        raise SimulationError(
            f"not converged after {relaxed.steps} steps: the largest force is {largest:.4g} eV/Å, {fmax:g} was asked "
            f"for; {output} holds the best structure so far: start from it, with more --steps"
        )
