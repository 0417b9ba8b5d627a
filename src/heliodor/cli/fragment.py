"""heliodor fragment: pieces of large molecules, small enough for quantum chemistry."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heliodor.cli.bar import frame_bar
from heliodor.cli.common import Json, Overwrite, note, print_json, print_lines
from heliodor.errors import InputError

if TYPE_CHECKING:
    import ase

    from heliodor.fragments.bottom_up import Amon
    from heliodor.fragments.graph import ChemicalGraph

SMILES = "smiles:"
"""In front of SMILES that could be a sequence."""

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor fragment AceAla3Nme --bottom-up --max-heavy 6\n"
    "  heliodor fragment proteins --bottom-up --max-heavy 5 -o amons.smi\n"
    "  heliodor fragment 'CC(=O)Nc1ccccc1' --bottom-up --conformers 3 -o pieces.xyz\n"
    "  heliodor fragment crambin-water.xyz --top-down --radius 8 --count 50 -o spheres.xyz\n"
    "  heliodor fragment run.h5 --top-down --stride 10 --count 4\n"
    "\b\nInto a file .smi go the graphs of bottom-up fragments, into .xyz geometries (extended xyz, with charge and "
    "group), into .h5 a data\nset for 'heliodor label'. Distortions of bottom-up fragments are made by 'heliodor gems'."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("fragment", epilog=EXAMPLES)(fragment)


def fragment(
    molecule: Annotated[
        str,
        typer.Argument(
            metavar="MOLECULE",
            help="A structure with all hydrogens (xyz, pdb ...), a trajectory (top-down), a sequence, SMILES, or "
            "'proteins' for all that proteins can be cut into (the last three bottom-up; smiles:CCC where it could be "
            "a sequence).",
        ),
    ],
    up: Annotated[bool, typer.Option("--bottom-up", help="All connected pieces of the bonded graph.")] = False,
    down: Annotated[bool, typer.Option("--top-down", help="Spheres cut out of structures.")] = False,
    max_heavy: Annotated[
        int, typer.Option("--max-heavy", min=1, help="Bottom-up: atoms other than hydrogen, at most.")
    ] = 8,
    conformers: Annotated[
        int, typer.Option("--conformers", min=1, help="Bottom-up: geometries of each graph, at most.")
    ] = 1,
    radius: Annotated[float, typer.Option("--radius", metavar="Å", help="Top-down: of the spheres.")] = 8.0,
    centres: Annotated[
        str, typer.Option("--centres", metavar="ATOMS", help="Top-down: such as 'resname TRP' or 0-99.")
    ] = "solute and heavy",
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="Top-down: so many centres of each structure, at random.")
    ] = None,
    stride: Annotated[int, typer.Option("--stride", min=1, help="Top-down: every so manieth structure.")] = 1,
    max_charge: Annotated[int, typer.Option("--max-charge", min=0, help="Top-down: largest charge, e.")] = 2,
    water: Annotated[bool, typer.Option("--water/--no-water", help="Top-down: keep water molecules.")] = True,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help=".smi, .xyz or .h5. [default: a summary only]")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Cut a molecule into pieces: bottom-up from its bonds, or top-down out of structures of it."""
    if up == down:
        raise InputError("say how: either --bottom-up or --top-down")
    if output is not None:
        from heliodor.dynamics.files.trajectory import refuse_existing

        refuse_existing(output, overwrite)
        kinds = (".smi", ".xyz", ".extxyz", ".h5") if up else (".xyz", ".extxyz", ".h5")
        if output.suffix.lower() not in kinds:
            raise InputError(f"--output ends in {', '.join(kinds)}, not {output.name!r}")
    if up:
        _bottom_up(molecule, max_heavy, conformers, seed, output, as_json)
    else:
        _top_down(molecule, radius, centres, count, stride, max_charge, water, seed, output, as_json)


def _bottom_up(molecule: str, max_heavy: int, conformers: int, seed: int, output: Path | None, as_json: bool) -> None:
    from heliodor.fragments.bottom_up import bottom_up, molecules
    from heliodor.fragments.embed import embed
    from heliodor.fragments.proteins import protein_amons

    with frame_bar("cutting", "steps") as tell:
        if molecule == "proteins":
            amons: tuple[Amon, ...] = protein_amons(max_heavy, progress=tell)
        else:
            amons = bottom_up(_graph(molecule), max_heavy, every_kekule=True, progress=tell)
    different = molecules(amons)
    written, failed = 0, 0
    if output is not None and output.suffix.lower() == ".smi":
        from heliodor.dynamics.files.storage import write_durably

        lines = [f"{a.smiles}\t{a.n_heavy}\t{a.charge}\t{a.count}\n" for a in amons]
        write_durably(output, "".join(lines).encode())
        written = len(lines)
    elif output is not None:
        frames: list[ase.Atoms] = []
        with frame_bar("embedding", "graphs") as tell:
            for k, amon in enumerate(different):
                try:
                    frames += embed(amon, conformers, seed)
                except InputError as error:
                    failed += 1
                    note(f"left out: {error}")
                tell(k + 1, len(different))
        written = len(frames)
        _write(frames, output)
    sizes, charges = Counter(a.n_heavy for a in amons), Counter(a.charge for a in amons)
    if as_json:
        print_json(
            {
                "graphs": len(amons),
                "molecules": len(different),
                "by_heavy_atoms": dict(sorted(sizes.items())),
                "by_charge": dict(sorted(charges.items())),
                "written": written,
                "failed": failed,
                "output": output,
            }
        )
        return
    told = [
        (
            "graphs",
            f"{len(amons)} of up to {max_heavy} heavy atoms, drawings of {len(different)} molecules",
        ),
        ("by size", ", ".join(f"{n}: {sizes[n]}" for n in sorted(sizes))),
        ("by charge", ", ".join(f"{q:+d}: {charges[q]}" if q else f"0: {charges[q]}" for q in sorted(charges))),
    ]
    if output is not None:
        what = "graphs: SMILES, heavy atoms, charge, count" if output.suffix.lower() == ".smi" else "structures"
        told.append(("written", f"{output}: {written} {what}"))
    print_lines(told, sys.stdout)


def _top_down(
    molecule: str,
    radius: float,
    centres: str,
    count: int | None,
    stride: int,
    max_charge: int,
    water: bool,
    seed: int,
    output: Path | None,
    as_json: bool,
) -> None:
    from heliodor.cli.reading import read_structures
    from heliodor.fragments.embed import seed_of
    from heliodor.fragments.graph_of import graph_of
    from heliodor.fragments.snapshots import frames_of
    from heliodor.fragments.top_down import top_down
    from heliodor.trajectory.open import open_trajectory

    path = Path(molecule)
    if not path.is_file():
        raise InputError(f"there is no file {molecule}: spheres are cut out of structures")
    if path.suffix.lower() in (".pdb", ".cif", ".ent"):
        structures = read_structures(path)[::stride]
    else:
        open_trajectory(path)
        structures = list(frames_of(path, stride=stride))
    made: list[ase.Atoms] = []
    refused: list[str] = []
    caps = 0
    graph = graph_of(structures[0])
    with frame_bar("cutting", "structures") as tell:
        for k, atoms in enumerate(structures):
            found = top_down(
                atoms,
                graph,
                centres,
                radius,
                count=count,
                seed=seed_of(seed, k),
                water=water,
                largest_charge=max_charge,
                group=str(atoms.info.get("group", f"{path.stem} {k * stride}")),
                refused=refused,
            )
            made += [piece.atoms for piece in found]
            caps += sum(int(piece.caps.sum()) for piece in found)
            tell(k + 1, len(structures))
    if not made:
        raise InputError(f"not one fragment could be cut: {refused[0] if refused else 'no centres were chosen'}")
    if output is not None:
        _write(made, output)
    sizes = [len(atoms) for atoms in made]
    charges = Counter(int(atoms.info["charge"]) for atoms in made)
    if as_json:
        print_json(
            {
                "fragments": len(made),
                "refused": len(refused),
                "atoms": {"mean": sum(sizes) / len(sizes), "least": min(sizes), "most": max(sizes)},
                "by_charge": dict(sorted(charges.items())),
                "output": output,
            }
        )
        return
    told = [
        ("fragments", f"{len(made)} of {len(structures)} structures, radius {radius:g} Å, {len(refused)} refused"),
        ("atoms", f"{sum(sizes) / len(sizes):.0f} on average ({min(sizes)} to {max(sizes)})"),
        ("caps", f"{caps / len(made):.1f} on average"),
        ("by charge", ", ".join(f"{q:+d}: {charges[q]}" if q else f"0: {charges[q]}" for q in sorted(charges))),
    ]
    told += [("refused", reason) for reason in dict.fromkeys(refused[:3])]
    if output is not None:
        told.append(("written", str(output)))
    print_lines(told, sys.stdout)


def _graph(molecule: str) -> ChemicalGraph:
    """Of a file, a sequence or SMILES, in this order."""
    from heliodor.cli.reading import read_structure
    from heliodor.fragments.graph_of import graph_of
    from heliodor.fragments.rdkit_graph import graph_from_smiles
    from heliodor.prepare.peptides import peptide
    from heliodor.prepare.sequence import parse_sequence

    path = Path(molecule)
    if path.is_file():
        return graph_of(read_structure(path))
    if molecule.startswith(SMILES):
        return graph_from_smiles(molecule.removeprefix(SMILES))
    drawn, why = None, ""
    with suppress(InputError):
        drawn = graph_from_smiles(molecule)
    try:
        parse_sequence(molecule)
    except InputError as error:
        why = str(error)
    if drawn is not None and not why:
        raise InputError(
            f"{molecule!r} is a sequence and SMILES: write {SMILES}{molecule}, or the residues by three letters joined "
            "by dashes"
        )
    if drawn is not None:
        return drawn
    if why:
        raise InputError(
            f"{molecule!r} is no file, no SMILES, and no sequence ({why}): name a structure file, or write a sequence "
            "such as AceAla3Nme"
        )
    made = peptide(molecule)
    return graph_of(made.atoms, made.topology)


def _write(frames: list[ase.Atoms], output: Path) -> None:
    if output.suffix.lower() == ".h5":
        from heliodor.train.dataset import Dataset

        Dataset.from_atoms(frames).write(output)
        return
    import ase.io

    part = output.with_name(f".{output.name}.part")
    try:
        ase.io.write(part, frames, format="extxyz")
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
