"""heliodor vib: vibrational modes and thermochemistry."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    note,
    print_json,
    print_lines,
    set_electrons,
)
from heliodor.cli.vib_report import imaginary_words, other_words, print_table, summary, thermo_lines, write_files

if TYPE_CHECKING:
    import ase
    import numpy as np

    from heliodor.hessian import Curvature
    from heliodor.potential import Potential

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor vib water.xyz --model so3lr --symmetry-number 2\n"
    "  heliodor vib molecule.xyz --no-relax --temperature 350 --output hot\n"
    "  heliodor vib surface.xyz --atoms '40-47'\n"
    "\b\nThe Hessian is exact, without finite differences; frequencies are harmonic and not scaled. Writes a table "
    "(.csv),\na spectrum (.png) and the relaxed structure moving along each mode (.xyz, for any viewer)."
)

STEPS = 2000
"""Of the relaxation."""

SUFFIXES = {"table": ".csv", "picture": ".png", "animation": ".xyz"}


def register(app: typer.Typer) -> None:
    app.command("vib", epilog=EXAMPLES)(vib)


def vib(
    file: StructureFile,
    model: Model = DEFAULT_MODEL,
    relax: Annotated[
        bool, typer.Option("--relax/--no-relax", help="Relax first where the largest force is above --fmax.")
    ] = True,
    fmax: Annotated[
        float, typer.Option("--fmax", metavar="EV/Å", help="Largest force that counts as none, in eV/Å.")
    ] = 1e-4,
    moving: Annotated[
        str,
        typer.Option(
            "--atoms",
            metavar="SELECTION",
            help="Atoms that vibrate; all others are frozen: heavy, elements (C N O), indices from zero (0-99,120), "
            "not ... in front for all others.",
        ),
    ] = "all",
    temperature: Annotated[
        float, typer.Option("--temperature", "-T", metavar="K", help="Temperature of the thermochemistry in K.")
    ] = 298.15,
    pressure: Annotated[
        float, typer.Option("--pressure", metavar="BAR", help="Pressure of the thermochemistry in bar.")
    ] = 1.0,
    symmetry_number: Annotated[
        int,
        typer.Option(
            "--symmetry-number", min=1, help="Rotations that bring the molecule onto itself: water 2, methane 12."
        ),
    ] = 1,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PREFIX", help="Files are called PREFIX.csv, .png and .xyz.")
    ] = Path("vib"),
    overwrite: Overwrite = False,
    frame: Frame = None,
    charge: Charge = None,
    spin: Spin = None,
    device: Device = "auto",
    dtype: Dtype = "float64",
    long_range_cutoff: LongRangeCutoff = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Vibrational modes, infrared spectrum and thermochemistry of a structure."""
    from heliodor.analysis.thermochemistry import thermochemistry
    from heliodor.analysis.vibrations import vibrations
    from heliodor.cli.reading import read_structure
    from heliodor.dynamics.files.selection import select_atoms
    from heliodor.dynamics.files.trajectory import refuse_existing
    from heliodor.errors import InputError
    from heliodor.system import System

    for name, value, unit in (
        ("--fmax", fmax, "eV/Å"),
        ("--temperature", temperature, "K"),
        ("--pressure", pressure, "bar"),
    ):
        if not 0.0 < value < float("inf"):
            raise InputError(f"{name} must be a positive number of {unit}, not {value:g}")
    files = _files(output)
    for path in files.values():
        refuse_existing(path, overwrite)
        if path.absolute() == file.absolute():
            raise InputError(f"{path} is the structure itself: choose another --output")
    atoms = read_structure(file, frame)
    set_electrons(atoms, charge, spin)
    chosen = select_atoms(moving, System.from_atoms(atoms))
    subset = None if chosen is None else chosen.numpy()
    if len(atoms) == 1:
        raise InputError(f"{file} holds a single atom, which has no vibrations")
    potential = load_model(
        model,
        device=device,
        dtype=dtype,
        long_range_cutoff=long_range_cutoff,
        threads=threads,
        kernels="reference",  # Hessians are second derivatives
    )
    check(atoms, potential)
    screen = sys.stderr if as_json else sys.stdout
    held = "" if subset is None else f"; {len(subset)} atoms vibrate, {len(atoms) - len(subset)} are frozen"
    print_lines(
        [*describe(file, atoms, potential), ("vibrations", f"harmonic, exact Hessian in {dtype}{held}")], screen
    )

    atoms, said, relaxed = _at_rest(atoms, potential, subset, fmax, relax)
    print_lines([("relaxation", said)], screen)
    found = _curvature(atoms, potential, subset)
    modes = vibrations(found.hessian, atoms, subset=subset, dipole_derivatives=found.dipole_derivatives)
    thermo = thermochemistry(modes, temperature=temperature, pressure=pressure, symmetry_number=symmetry_number)
    write_files(modes, files, f"{file.name}: {potential.name}")
    if as_json:
        print_json(
            {
                "model": potential.name,
                **relaxed,
                "relative_energy_eV": found.energy,
                **summary(modes, thermo),
                "symmetry_number": symmetry_number if thermo.model == "ideal gas" else None,
                "files": files,
            }
        )
    else:
        print_table(modes)
        written = ", ".join(str(path) for path in files.values())
        print_lines([*thermo_lines(thermo, symmetry_number), ("written", written)], screen)
    for words in (imaginary_words(modes, files["animation"]), *other_words(modes, thermo)):
        if words:
            note(words)


def _files(prefix: Path) -> dict[str, Path]:
    # "--output water.png" means water
    bare = prefix.with_suffix("") if prefix.suffix in SUFFIXES.values() else prefix
    return {what: bare.with_name(bare.name + suffix) for what, suffix in SUFFIXES.items()}


def _at_rest(
    atoms: ase.Atoms, potential: Potential, subset: np.ndarray | None, fmax: float, relax: bool
) -> tuple[ase.Atoms, str, dict[str, Any]]:
    """The structure to analyse, what was done to it in words, and as JSON."""
    import numpy as np
    import torch

    from heliodor.dynamics.relax.minimize import minimize
    from heliodor.errors import SimulationError
    from heliodor.system import System

    frozen = None
    if subset is not None:
        frozen = torch.ones(len(atoms), dtype=torch.bool)
        frozen[torch.as_tensor(subset)] = False

    def each(step: int, energy: torch.Tensor, largest: torch.Tensor) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[Kstep {step}  largest force {float(largest[0]):.5f} eV/Å", end="", file=sys.stderr)

    system = System.from_atoms(atoms, device=potential.device)
    steps = STEPS if relax else 0
    found = minimize(system, potential, fmax=fmax, max_steps=steps, frozen=frozen, callback=each)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    largest = float(found.fmax[0])
    result: dict[str, Any] = {"relaxation_steps": found.steps, "fmax_eV_per_A": largest}
    if not relax:
        rest = bool(found.converged[0])
        if not rest:
            note(
                f"the largest force is {largest:.4g} eV/Å and was left so (--no-relax): away from a stationary point "
                "frequencies depend on the coordinates and mean little"
            )
        return atoms, f"none, the largest force is {largest:.2g} eV/Å{'' if rest else ' (not at rest)'}", result
    if not found.converged[0]:
        advice = found.reason[0] or "relax it with 'heliodor opt' first"
        raise SimulationError(
            f"the relaxation came to {largest:.4g} eV/Å in {found.steps} steps and not to {fmax:g}: {advice}; a larger "
            "--fmax or --no-relax goes on from here"
        )
    if found.steps == 0:
        return atoms, f"not needed, the largest force is {largest:.2g} eV/Å", result
    moved = atoms.copy()
    moved.positions = found.system.positions.cpu().numpy()
    farthest = float(np.linalg.norm(moved.positions - atoms.positions, axis=1).max())
    change = float(found.energy[0] - found.energies[0, 0])
    result |= {"relaxation_energy_eV": change, "relaxation_moved_A": farthest}
    cell = ", cell fixed" if atoms.pbc.any() else ""
    said = (
        f"{found.steps} steps to {largest:.2g} eV/Å (asked for: {fmax:g}), {change:+.5f} eV, atoms moved by up to "
        f"{farthest:.3f} Å{cell}"
    )
    return moved, said, result


def _curvature(atoms: ase.Atoms, potential: Potential, subset: np.ndarray | None) -> Curvature:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from heliodor.hessian import curvature

    columns = (TextColumn("rows of the Hessian"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("rows", total=None)
        return curvature(
            potential, atoms, subset=subset, progress=lambda done, all_: bar.update(task, completed=done, total=all_)
        )
