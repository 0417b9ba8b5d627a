"""What the commands share: options, notes, how a structure and a model are described."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from heliodor.errors import InputError

if TYPE_CHECKING:
    import ase

    from heliodor.potential import Potential

DEFAULT_MODEL = "heliodor-s"

INTERRUPTED = 130
"""What shells expect of a program ended by Ctrl-C."""

StructureFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="Structure: xyz, extxyz, pdb, cif, gro, POSCAR, .h5 of a run, ...", show_default=False
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="Model name ('heliodor models list') or model file; several, separated by commas or as a pattern in "
        "quotes ('runs/*.model'), make a committee: its mean, and how far its models are apart.",
    ),
]
Frame = Annotated[
    int | None,
    typer.Option("--frame", metavar="N", help="Which structure of a file with several: 0 first, -1 last. [default: 0]"),
]
Charge = Annotated[
    float | None,
    typer.Option("--charge", metavar="E", help="Total charge in e. [default: from the file, else 0]"),
]
Spin = Annotated[
    int | None,
    typer.Option("--spin", metavar="N", help="Number of unpaired electrons. [default: from the file, else 0]"),
]
Device = Annotated[str, typer.Option("--device", help="auto (GPU if there is one), cpu, cuda or cuda:N.")]
Dtype = Annotated[
    str, typer.Option("--dtype", help="float32 or float64 for the network; positions are float64 in either case.")
]
LongRangeCutoff = Annotated[
    str,
    typer.Option(
        "--long-range-cutoff",
        metavar="Å",
        help="Cutoff of electrostatics and dispersion in Å, 'none' for all pairs, "
        "'auto': none for molecules, 12 Å in periodic boxes.",
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads. [default: all cores]", show_default=False)
]
Kernels = Annotated[
    str,
    typer.Option(
        "--kernels",
        metavar="NAME",
        help="Implementation of the model: auto (the fastest that is exact to float32), reference (plain PyTorch), "
        "numba (MACE on CPUs; splines good to 1e-10 in float64).",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output; all else on stderr.")]


def one_line(text: str) -> str:
    """Any message as a single line."""
    return " ".join(text.split())


def note(text: str) -> None:
    """Tell the user something that is no error."""
    print(f"heliodor: note: {one_line(text)}", file=sys.stderr, flush=True)


def warnings_as_notes(every: bool = False) -> None:
    """Show heliodor's own warnings as notes, each once; others, which speak to programmers, only if ``every``.

    To be called inside `warnings.catch_warnings`.
    """
    told: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        own = category.__module__.startswith("heliodor")
        if (own or every) and str(message) not in told:
            told.add(str(message))
            note(str(message) if own else f"{category.__name__}: {message}")

    warnings.simplefilter("always")
    warnings.showwarning = show


def load_model(
    model: str,
    *,
    device: str,
    dtype: str,
    long_range_cutoff: str = "auto",
    threads: int | None = None,
    kernels: str = "auto",
) -> Potential:
    """`heliodor.load` with the options of the command line."""
    import torch

    from heliodor.api import load
    from heliodor.kernels import will_compile

    if threads is not None:
        torch.set_num_threads(threads)
    cutoff = read_long_range_cutoff(long_range_cutoff)
    potential = load(model, device=device, dtype=dtype, long_range_cutoff=cutoff, kernels=kernels)
    if sys.stderr.isatty() and will_compile(potential):
        print("compiling the kernel (once on this machine, some twenty seconds) ...", file=sys.stderr)
    return potential


def read_long_range_cutoff(text: str) -> float | str | None:
    """--long-range-cutoff as `heliodor.load` takes it: Å, "auto", or None for all pairs."""
    word = text.strip().lower()
    if word in ("auto", "none"):
        return "auto" if word == "auto" else None
    try:
        return float(word)
    except ValueError:
        raise InputError(f"--long-range-cutoff must be a number of Å, 'none' or 'auto', not {text!r}") from None


def set_electrons(atoms: ase.Atoms, charge: float | None, spin: int | None) -> None:
    """Write --charge and --spin, which win over the file, into ``atoms.info``."""
    if charge is not None:
        atoms.info["charge"] = charge
    if spin is not None:
        for key in ("multiplicity", "spin_multiplicity"):
            atoms.info.pop(key, None)
        atoms.info["spin"] = spin


def check(atoms: ase.Atoms, potential: Potential, *, fixed: bool = False) -> None:
    """Refuse at once, before anything is printed or written, what the model cannot take; note what it says.

    Args:
        fixed: whether the command keeps atoms fixed that are so in the file.

    Raises:
        ModelError, InputError: atoms, charge or distances outside the model; a model without energies.
    """
    from heliodor.potential import check_distances, check_energy, warn_about
    from heliodor.system import System

    check_energy(potential)
    system = System.from_atoms(atoms, device=potential.device)
    potential.check(system)
    check_distances(system, potential.neighbors(system))
    warn_about(potential, system)
    if len(atoms.constraints) and not fixed:
        note("fixed atoms or other constraints in the file are not applied: all atoms move")


def describe(path: Path, atoms: ase.Atoms, potential: Potential) -> list[tuple[str, str]]:
    """The lines that say what is about to be computed, as (title, text)."""
    import torch

    from heliodor.system import System, read_charge, read_spin

    spin = read_spin(atoms)
    electrons = "closed shell" if spin == 0 else f"{spin} unpaired electron{'s' if spin > 1 else ''}"
    lines = [
        (
            "structure",
            f"{path}: {len(atoms)} atoms, {atoms.get_chemical_formula('hill')}, "
            f"charge {format_charge(read_charge(atoms))}, {electrons}",
        ),
        ("cell", describe_cell(atoms)),
    ]
    cutoffs = f"network {potential.cutoff:g} Å"
    if potential.has_long_range:
        limit = float(potential.long_range_limits(System.from_atoms(atoms, device=potential.device))[0])
        cutoffs += ", electrostatics and dispersion " + (f"{limit:g} Å" if limit < float("inf") else "all pairs")
        images = image_note(atoms, min(limit, 1e6) if atoms.pbc.any() else 0.0)
    else:
        images = image_note(atoms, potential.cutoff if atoms.pbc.any() else 0.0)
    count = torch.get_num_threads()
    threads = f", {count} thread{'s' * (count > 1)}" if potential.device.type == "cpu" else ""
    lines += [
        (
            "model",
            f"{potential.name}; {str(potential.dtype).removeprefix('torch.')} on {potential.device}{threads}"
            + ("" if potential.kernels == "reference" else f", kernel {potential.kernels}"),
        ),
        ("licence", str(potential.card.get("licence", "not stated"))),
        ("cutoffs", cutoffs),
    ]
    told = potential.uncertainty
    if told is not None and (potential.kernel is None or hasattr(potential.kernel, "derive")):
        text = f"{100 * told.level:g} % intervals of the force on each atom; doubts itself above ±{told.limit:.3g} eV/Å"
        lines.append(("uncertainty", text))
    return lines + ([("images", images)] if images else [])


def describe_cell(atoms: ase.Atoms) -> str:
    """Lengths, angles and periodicity of a cell in words."""
    if not atoms.pbc.any():
        return "none (gas phase)"
    a, b, c, alpha, beta, gamma = atoms.cell.cellpar()
    along = (
        "" if atoms.pbc.all() else " along " + "".join(x for x, p in zip("abc", atoms.pbc, strict=True) if p) + " only"
    )
    return f"{a:.3f} × {b:.3f} × {c:.3f} Å, {alpha:.1f}° {beta:.1f}° {gamma:.1f}°, periodic{along}"


def image_note(atoms: ase.Atoms, cutoff: float) -> str:
    """Words for a box thinner than twice the cutoff (Å), where an atom meets several images of another."""
    import numpy as np
    from ase.geometry import complete_cell

    if not atoms.pbc.any():
        return ""
    # columns of the inverse are the reciprocal vectors: one over their length is the box's thickness
    thickness = 1.0 / np.linalg.norm(np.linalg.inv(complete_cell(atoms.cell)), axis=0)
    thinnest = float(thickness[atoms.pbc].min())
    if thinnest >= 2.0 * cutoff:
        return ""
    return (
        f"the box is {thinnest:.2f} Å thin, less than twice the cutoff: several periodic images of an atom are in reach"
    )


def format_charge(charge: float) -> str:
    """``0``, ``+1``, ``-0.5``."""
    return f"{charge:+g}" if charge else "0"


def print_lines(lines: list[tuple[str, str]], to: TextIO) -> None:
    """Titles in one column, texts in the next."""
    for title, text in lines:
        print(f"{title:<12} {text}", file=to)
    to.flush()


def print_json(value: dict[str, Any] | list[Any]) -> None:
    """JSON on standard output; numbers that are not finite become null, as JSON knows none."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False))


def plain(value: Any) -> Any:
    """``value`` with what JSON knows only: paths as text, null for numbers that are not finite."""
    if isinstance(value, dict):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and value - value != 0.0:
        return None
    return str(value) if isinstance(value, Path) else value
