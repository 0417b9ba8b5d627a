"""heliodor prepare protein: a PDB or mmCIF file."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer

from heliodor.cli.common import DEFAULT_MODEL, Json, Overwrite
from heliodor.cli.prepare.common import CheckedModel, Output, ProgressBar, Seed, finish
from heliodor.errors import InputError

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor prepare crambin.pdb\n"
    "  heliodor prepare crambin.pdb --solvate 16 --equilibrate -o crambin-water\n"
    "  heliodor prepare 1abc.cif --chains A --caps both --protonation 'A:HIS 15=HIE'\n"
    "  heliodor prepare complex.pdb --ligand 'LIG=c1ccccc1O'\n"
    "\b\nWhat the file leaves open is decided by a rule that is told, or refused with the ways out (docs/prepare.md)."
)

OTHERS = ("peptide", "molecule", "liquid", "membrane")


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("protein", epilog=EXAMPLES)(protein)


def protein(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="PDB or mmCIF file (.pdb, .ent, .cif, .mmcif; also .gz).", show_default=False
        ),
    ],
    solvate: Annotated[
        float | None,
        typer.Option(
            "--solvate",
            metavar="Å",
            help="Fill a cube with water: its edge is the solute's largest diameter plus twice this (the papers: 16).",
        ),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option("--box", metavar="Å[,Å,Å]", help="Fill a box of these edges with water: '60' or '60,50,70'."),
    ] = None,
    neutralise: Annotated[
        bool, typer.Option("--neutralise/--no-neutralise", help="With water: add Na+ or Cl- until the charge is zero.")
    ] = True,
    salt: Annotated[
        float, typer.Option("--salt", metavar="MOL/L", help="With water: NaCl beyond what neutralises.")
    ] = 0.0,
    ph: Annotated[float, typer.Option("--ph", help="pH that decides on hydrogens.")] = 7.0,
    protonation: Annotated[
        str,
        typer.Option(
            "--protonation",
            metavar="LIST",
            help="States of single residues: 'A:HIS 15=HIE, B:ASP 4=ASH' (HID HIE HIP, ASH, GLH, LYN, CYX).",
            show_default=False,
        ),
    ] = "",
    caps: Annotated[
        str, typer.Option("--caps", metavar="none|both", help="both: ACE and NME on the ends of protein chains.")
    ] = "none",
    chains: Annotated[
        str, typer.Option("--chains", metavar="A,B", help="Only these chains. [default: all]", show_default=False)
    ] = "",
    model_number: Annotated[
        int | None,
        typer.Option("--model-number", metavar="N", help="Of a file with several models. [default: the first]"),
    ] = None,
    waters: Annotated[str, typer.Option("--waters", metavar="keep|drop", help="Waters of the file.")] = "drop",
    keep_ions: Annotated[bool, typer.Option("--keep-ions", help="Keep ions of the file.")] = False,
    keep_ligands: Annotated[
        bool,
        typer.Option(
            "--keep-ligands", help="Keep other residues of the file: neutral ones that have all their hydrogens."
        ),
    ] = False,
    ligand: Annotated[
        list[str] | None,
        typer.Option(
            "--ligand",
            metavar="NAME=SMILES",
            help="Keep residues of this name; SMILES gives bonds, hydrogens and charge. May be repeated.",
            show_default=False,
        ),
    ] = None,
    keep_cell: Annotated[
        bool, typer.Option("--keep-cell", help="Keep the periodic box of a file that holds its solvent already.")
    ] = False,
    replace_nonstandard: Annotated[
        bool,
        typer.Option(
            "--replace-nonstandard", help="Put the standard residue in the place of modified ones (MSE: always)."
        ),
    ] = False,
    build_missing: Annotated[
        int,
        typer.Option("--build-missing-residues", metavar="N", min=0, help="Build missing loops of up to N residues."),
    ] = 0,
    split_at_gaps: Annotated[
        bool, typer.Option("--split-at-gaps", help="Make the pieces of broken chains chains of their own.")
    ] = False,
    force_field: Annotated[
        str,
        typer.Option("--force-field", metavar="NAME", help="For building and relaxing: amber99sb-ildn or ff14sb."),
    ] = "amber99sb-ildn",
    minimise: Annotated[
        bool, typer.Option("--minimise/--no-minimise", help="Relax with the force field, the file's heavy atoms held.")
    ] = True,
    equilibrate: Annotated[
        bool,
        typer.Option(
            "--equilibrate", help="100 ps with the force field: heat, find the volume, release (docs/prepare.md)."
        ),
    ] = False,
    temperature: Annotated[
        float, typer.Option("--temperature", metavar="K", help="Of the equilibration, in K.")
    ] = 300.0,
    pressure: Annotated[float, typer.Option("--pressure", metavar="BAR", help="Of the equilibration, in bar.")] = 1.0,
    seed: Seed = 0,
    model: CheckedModel = DEFAULT_MODEL,
    output: Output = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Prepare a protein or nucleic acid from a PDB or mmCIF file: hydrogens, missing atoms, solvent, relaxation."""
    _refuse_mistyped(file)
    from heliodor.prepare.output import refuse_outputs
    from heliodor.prepare.pdb import Choices, prepare_file
    from heliodor.prepare.relax import Equilibration
    from heliodor.prepare.solvate import Solvent, parse_box

    solvent = None
    if solvate is not None or box is not None:
        solvent = Solvent(solvate, None if box is None else parse_box(box), neutralise, salt)
    elif salt:
        raise InputError("--salt goes with water: give --solvate or --box too")
    choices = Choices(
        model_number=model_number,
        chains=tuple(word.strip() for word in chains.split(",") if word.strip()),
        waters=_one_of("--waters", waters, ("keep", "drop")) == "keep",
        ions=keep_ions,
        ligands=keep_ligands,
        smiles=_smiles(ligand or []),
        cell=keep_cell,
        replace=replace_nonstandard,
        build=build_missing,
        split=split_at_gaps,
        caps=_one_of("--caps", caps, ("none", "both")) == "both",
        ph=ph,
        protonation=protonation,
        force_field=force_field,
        solvent=solvent,
        minimise=minimise,
        equilibration=Equilibration(temperature=temperature, pressure=pressure) if equilibrate else None,
        seed=seed,
    )
    stem = output or f"{stem_of(file)}-prepared"
    refuse_outputs(stem, overwrite, source=file)
    with ProgressBar() as progress:
        prepared = prepare_file(file, choices, model=model, progress=progress)
    finish(prepared, stem, source=str(file), overwrite=overwrite, as_json=as_json)


def stem_of(file: Path) -> str:
    """The name of a file without its endings."""
    name = file.name
    for ending in (".gz", ".xz", ".pdb", ".ent", ".cif", ".mmcif"):
        name = name.removesuffix(ending)
    return name or "structure"


def _refuse_mistyped(file: Path) -> None:
    """A word that is no file may be meant as a sub-command."""
    if not file.exists() and not file.suffix and file.name == str(file):
        close = difflib.get_close_matches(str(file), (*OTHERS, "protein"), n=1)
        guess = f"; did you mean 'heliodor prepare {close[0]}'?" if close else ""
        raise InputError(f"there is no file {file}, nor a way to prepare of that name ({', '.join(OTHERS)}){guess}")


def _one_of(option: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise InputError(f"{option} must be {' or '.join(known)}, not {value!r}")
    return value


def _smiles(words: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, _, smiles = word.partition("=")
        if not name.strip() or not smiles.strip():
            raise InputError(f"--ligand takes NAME=SMILES, such as 'LIG=c1ccccc1O', not {word!r}")
        found[name.strip()] = smiles.strip()
    return found
