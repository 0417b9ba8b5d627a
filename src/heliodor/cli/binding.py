"""heliodor binding: two rigid molecules pulled apart."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliodor.cli.common import (
    DEFAULT_MODEL,
    Device,
    Dtype,
    Frame,
    Json,
    Kernels,
    LongRangeCutoff,
    Model,
    Overwrite,
    Threads,
    check,
    describe,
    load_model,
    note,
    print_json,
    print_lines,
)

if TYPE_CHECKING:
    from heliodor.analysis.binding import BindingCurve

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor binding complex.xyz --model so3lr\n"
    "  heliodor binding complex.pdb --fragments 'resname LIG' --fragment-charges=-1,1 --model so3lr\n"
    "  heliodor binding wildtype.xyz variant.xyz --fragments 0-119 --fragments 0-121 --model so3lr\n"
    "\b\nThe second fragment is moved, both stay rigid. Writes a table (.csv) and a picture (.png). Energies are those "
    "of the complex minus the fragments infinitely far apart; of several complexes the differences to the first are "
    "printed."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("binding", epilog=EXAMPLES)(binding)


def binding(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Complexes: xyz, extxyz, pdb, ...", show_default=False),
    ],
    fragments: Annotated[
        list[str] | None,
        typer.Option(
            "--fragments",
            metavar="ATOMS",
            help="Atoms of the first fragment, such as 0-11, 'resname LIG' or 'molecule 0,2'; the rest is the second. "
            "Once, or once for each file. [default: the two molecules]",
        ),
    ] = None,
    fragment_charges: Annotated[
        list[str] | None,
        typer.Option(
            "--fragment-charges",
            metavar="Q1,Q2",
            help="Of both, e. Once, or once for each file. [default: from the file, else 0,0]",
        ),
    ] = None,
    model: Model = DEFAULT_MODEL,
    span: Annotated[
        str, typer.Option("--range", metavar="LOW:HIGH", help="Displacements in Å; 0 is the given geometry.")
    ] = "-0.5:10",
    step: Annotated[
        float | None,
        typer.Option("--step", metavar="Å", help="[default: 0.1 up to 2 Å, 0.25 up to 4 Å, 0.5 beyond]"),
    ] = None,
    axis: Annotated[
        str | None,
        typer.Option(
            "--axis", metavar="X,Y,Z", help="Direction of the second fragment. [default: along the centres of mass]"
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option("--protocol", help="fragments (each keeps its charge) or relaxed (charge flows in the complex)."),
    ] = "fragments",
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Table; the picture beside it.")
    ] = Path("binding.csv"),
    overwrite: Overwrite = False,
    frame: Frame = None,
    device: Device = "auto",
    dtype: Dtype = "float64",
    long_range_cutoff: LongRangeCutoff = "none",
    threads: Threads = None,
    kernels: Kernels = "auto",
    as_json: Json = False,
) -> None:
    """Interaction energy of two rigid molecules against their distance."""
    from heliodor.analysis.binding import binding_curve, draw_binding, two_fragments
    from heliodor.analysis.binding.curve import displacements
    from heliodor.analysis.binding.draw import write_binding
    from heliodor.analysis.binding.fragments import fragment_charges as charges_of
    from heliodor.cli.reading import read_structure
    from heliodor.dynamics.files.trajectory import refuse_existing
    from heliodor.errors import InputError

    if output.suffix != ".csv":
        raise InputError(f"the table is CSV: end the name {output} in .csv")
    picture = output.with_suffix(".png")
    for path in (output, picture):
        refuse_existing(path, overwrite)
    low, high = _numbers(span.replace(":", ","), 2, "--range must be LOW:HIGH in Å")
    grid = displacements(low, high, step)
    direction = None if axis is None else _numbers(axis, 3, "--axis must be three numbers X,Y,Z")
    words = _each(fragments, len(files), "--fragments")
    given = _each(fragment_charges, len(files), "--fragment-charges")
    complexes = []
    for file, first, text in zip(files, words, given, strict=True):
        atoms = read_structure(file, frame)
        wanted = None if text is None else _numbers(text, 2, "--fragment-charges must be Q1,Q2 in e")
        if wanted is not None:
            # what is asked for wins over the file
            atoms.info["charge"] = float(sum(wanted))
        try:
            index = two_fragments(atoms, first or "")
            charges = charges_of(atoms, index, wanted)
        except InputError as error:
            raise InputError(f"{file}: {error}") from None
        atoms.info["charge"] = float(charges.sum())
        complexes.append((file, atoms, index, charges))
    potential = load_model(
        model, device=device, dtype=dtype, long_range_cutoff=long_range_cutoff, threads=threads, kernels=kernels
    )
    screen = sys.stderr if as_json else sys.stdout
    for file, atoms, index, charges in complexes:
        check(atoms, potential)
        print_lines(describe(file, atoms, potential), screen)
        sizes = [
            f"{atoms[index == k].get_chemical_formula('hill')} ({charges[k]:+g} e)".replace("+0", "0") for k in (0, 1)
        ]
        print_lines(
            [("fragments", " and ".join(sizes)), ("grid", f"{len(grid)} points, {low:g} to {high:g} Å")], screen
        )

    def told(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{done} of {total}", end="" if done < total else "\r\033[K", file=sys.stderr, flush=True)

    names = _names(files)
    curves = [
        binding_curve(
            potential,
            atoms,
            index,
            charges,
            grid=grid,
            axis=direction,
            protocol=protocol,
            name=name,
            progress=told,
        )
        for name, (_, atoms, index, charges) in zip(names, complexes, strict=True)
    ]
    write_binding(curves, output)
    draw_binding(curves, picture, f"{potential.name}, {protocol}")
    for curve in curves:
        if curve.at_edge:
            note(f"{curve.name}: the lowest point is at the end of the range: no minimum inside {span} Å")
    if as_json:
        print_json({"model": potential.name, "complexes": [_record(c) for c in curves], "files": [output, picture]})
        return
    print_lines(_report(curves), sys.stdout)
    print_lines([("written", f"{output}, {picture}")], sys.stdout)


def _report(curves: list[BindingCurve]) -> list[tuple[str, str]]:
    lines = []
    for curve in curves:
        lines.append(("complex", curve.name))
        lines.append(("as given", _energy(curve.as_given)))
        where = "end of the range" if curve.at_edge else f"minimum at {curve.minimum:+.3f} Å"
        lines.append(("lowest", f"{_energy(curve.depth)}, {where}"))
        k = int(curve.energy.argmin())
        split = ", ".join(f"{name} {_kcal(values[k]):.2f}" for name, values in curve.terms.items())
        if len(curve.terms) > 1:
            lines.append(("terms", f"{split} kcal/mol at {curve.displacement[k]:+.2f} Å"))
        lines.append(("far end", f"{_energy(float(curve.energy[-1]))} at {curve.displacement[-1]:+.2f} Å"))
    return lines + [
        ("ΔΔE", f"{_energy(curve.depth - curves[0].depth)}, lowest points, {curve.name} minus {curves[0].name}")
        for curve in curves[1:]
    ]


def _record(curve: BindingCurve) -> dict[str, Any]:
    return {
        "name": curve.name,
        "fragment_charges_e": curve.charges.tolist(),
        "protocol": curve.protocol,
        "axis": curve.axis.tolist(),
        "as_given_eV": curve.as_given,
        "lowest_eV": curve.depth,
        "lowest_kcal_per_mol": _kcal(curve.depth),
        "lowest_at_A": curve.minimum,
        "minimum_inside": not curve.at_edge,
        "displacement_A": curve.displacement.tolist(),
        "interaction_eV": curve.energy.tolist(),
    }


def _kcal(energy: float) -> float:
    from heliodor.units import KCAL_PER_MOL

    return float(energy) / KCAL_PER_MOL


def _energy(energy: float) -> str:
    return f"{_kcal(energy):.3f} kcal/mol ({energy:.5f} eV)"


def _numbers(text: str, count: int, message: str) -> list[float]:
    from heliodor.errors import InputError

    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count:
        raise InputError(f"{message}, not {text!r}")
    return found


def _each(given: list[str] | None, count: int, option: str) -> list[str | None]:
    from heliodor.errors import InputError

    if not given:
        return [None] * count
    if len(given) not in (1, count):
        raise InputError(f"{option} must be given once or once for each of the {count} files, not {len(given)} times")
    return [*given] * count if len(given) == 1 else [*given]


def _names(files: list[Path]) -> list[str]:
    stems = [file.stem for file in files]
    return stems if len(set(stems)) == len(stems) else [str(file) for file in files]
