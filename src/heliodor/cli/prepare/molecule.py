"""heliodor prepare molecule: from SMILES or an MDL file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heliodor.cli.common import DEFAULT_MODEL, Json, Overwrite, print_json, print_lines
from heliodor.cli.prepare.common import CheckedModel, Output, Seed, finish, lines
from heliodor.cli.prepare.peptide import Box, Margin, slug, water_wanted

if TYPE_CHECKING:
    from heliodor.prepare.prepared import Prepared

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor prepare molecule 'CC(=O)Nc1ccc(O)cc1' --name PCM -o paracetamol\n"
    "  heliodor prepare molecule 'CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O' --conformers 5 -o ibuprofen\n"
    "  heliodor prepare molecule ligand.sdf --solvate 12"
)


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("molecule", epilog=EXAMPLES)(molecule)


def molecule(
    what: Annotated[str, typer.Argument(metavar="SMILES|FILE", help="SMILES in quotes, or an .sdf or .mol file.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Residue name, up to four letters and digits.")
    ] = None,
    conformers: Annotated[
        int | None,
        typer.Option(
            "--conformers",
            min=1,
            metavar="N",
            help="Write up to N distinct conformers, lowest MMFF94s energy first, as STEM-1, STEM-2, ...",
        ),
    ] = None,
    solvate: Margin = None,
    box: Box = None,
    output: Output = None,
    model: CheckedModel = DEFAULT_MODEL,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """A small molecule from SMILES: conformers by ETKDGv3 and MMFF94s, the lowest in gas phase is kept."""
    from heliodor.errors import InputError
    from heliodor.prepare.check import refuse_unfit
    from heliodor.prepare.liquids import in_water
    from heliodor.prepare.molecules import molecule as build
    from heliodor.prepare.molecules import read_molecule, residue_name
    from heliodor.prepare.output import refuse_outputs

    residue_name(name)
    chemistry = read_molecule(what)
    default = Path(what).stem + "-prepared" if what.endswith((".sdf", ".mol")) else slug(name or what)
    stem = output or default
    edges = water_wanted(solvate, box)
    wet = solvate is not None or edges is not None
    if wet and conformers is not None:
        raise InputError("--conformers and water do not go together: solvate the conformer you want from its .sdf file")
    for k in range(1, (conformers or 0) + 1):
        refuse_outputs(f"{stem}-{k}", overwrite)
    if conformers is None:
        refuse_outputs(stem, overwrite)
    made = build(chemistry, name=name, conformers=conformers or 1, seed=seed, keep=conformers is None)
    refuse_unfit(made[0], model)
    source = what if what.endswith((".sdf", ".mol")) else f"the SMILES {what}"
    if conformers is None:
        one = in_water(made[0], margin=solvate, box=edges, seed=seed) if wet else made[0]
        finish(one, stem, source=source, overwrite=overwrite, as_json=as_json)
    else:
        _write_all(made, stem, source, overwrite, as_json)


def _write_all(made: list[Prepared], stem: str, source: str, overwrite: bool, as_json: bool) -> None:
    from heliodor.prepare.output import provenance, write_prepared

    files = [write_prepared(one, f"{stem}-{k}", overwrite) for k, one in enumerate(made, start=1)]
    if as_json:
        records = [
            {**provenance(one), "files": {"structure": xyz, "pdb": pdb}}
            for one, (xyz, pdb) in zip(made, files, strict=True)
        ]
        print_json(records)
        return
    energies = [
        ("" if k else "conformers", f"{xyz}: {one.details['relative_energy_kcal_per_mol']:.2f} kcal/mol")
        for k, (one, (xyz, _)) in enumerate(zip(made, files, strict=True))
    ]
    print_lines([("from", source), *lines(made[0]), *energies], sys.stdout)
