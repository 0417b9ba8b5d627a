"""heliodor prepare peptide: from a sequence."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from heliodor.cli.common import DEFAULT_MODEL, Json, Overwrite
from heliodor.cli.prepare.common import CheckedModel, Output, Seed, finish

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor prepare peptide AceAla15Nme --fold alpha\n"
    "  heliodor prepare peptide AceAla15Lys+H+ --fold extended\n"
    "  heliodor prepare peptide GEWTYDDATKTFTVTE --fold beta --ph 5 --solvate 10\n"
    "  heliodor prepare peptide ACE-ALA-HIP-ALA-NME --phi -75 --psi 145\n"
    "\b\nA sequence is written in one letter a residue (AAAK), in three joined by dashes (ACE-ALA-LYS-NME; ASH GLH LYN "
    "HID HIE HIP\nfix a protonation state), or as in the literature (AceAla15Nme). Residues are counted from 1, caps "
    "included."
)

NEUTRAL = "take neutral residues and ends, by --ph, names such as LYN or ASH, and --termini neutral"

Margin = Annotated[
    float | None,
    typer.Option("--solvate", metavar="Å", help="Put it into a cubic box of water with this margin; no ions."),
]
Box = Annotated[
    str | None, typer.Option("--box", metavar="Å", help="Put it into a box of water with these edges: 40 or 40,40,60.")
]


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("peptide", epilog=EXAMPLES)(peptide)


def peptide(
    sequence: Annotated[str, typer.Argument(metavar="SEQUENCE", help="AAAK, ACE-ALA-LYS-NME, AceAla15Nme, ...")],
    caps: Annotated[
        str | None, typer.Option("--caps", metavar="CAPS", help="Beside those in the sequence: ACE,NME, ACE, NME, NH2.")
    ] = None,
    fold: Annotated[
        str, typer.Option("--fold", help="extended (flat), alpha, 310, pi, beta, ppii (polyproline II).")
    ] = "extended",
    phi: Annotated[float | None, typer.Option("--phi", metavar="DEG", help="Backbone angle instead of a fold.")] = None,
    psi: Annotated[float | None, typer.Option("--psi", metavar="DEG", help="Backbone angle instead of a fold.")] = None,
    ph: Annotated[float, typer.Option("--ph", help="Decides on the protons of side chains and ends.")] = 7.0,
    termini: Annotated[
        str, typer.Option("--termini", help="Free ends: auto (by pH), charged (NH3+, COO-), neutral (NH2, COOH).")
    ] = "auto",
    solvate: Margin = None,
    box: Box = None,
    output: Output = None,
    model: CheckedModel = DEFAULT_MODEL,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """A peptide from its sequence: any fold, caps and protonation, with hydrogens and relaxed side chains."""
    from heliodor.prepare.check import model_for, refuse_charges, refuse_elements
    from heliodor.prepare.liquids import in_water
    from heliodor.prepare.output import refuse_outputs
    from heliodor.prepare.peptides import charges_of
    from heliodor.prepare.peptides import peptide as build
    from heliodor.prepare.protonation import protonation
    from heliodor.prepare.sequence import parse_sequence

    wanted = parse_sequence(sequence, caps)
    stem = output or slug(sequence)
    edges = water_wanted(solvate, box)
    refuse_outputs(stem, overwrite)
    potential = model_for(model)
    if potential is not None:
        refuse_charges(*charges_of(wanted, protonation(wanted, ph, termini)), potential, (NEUTRAL,))
    made = build(wanted, fold=fold, phi=phi, psi=psi, ph=ph, termini=termini, seed=seed)
    if potential is not None:
        refuse_elements(made.topology, potential)
    if solvate is not None or edges is not None:
        made = in_water(made, margin=solvate, box=edges, seed=seed)
    finish(made, stem, source=f"the sequence {sequence}", overwrite=overwrite, as_json=as_json)


def water_wanted(solvate: float | None, box: str | None) -> tuple[float, float, float] | None:
    """The edges of --box, if it is given.

    Raises:
        InputError: no edges, or --solvate too; a margin below zero.
    """
    from heliodor.prepare.solvate import Solvent, parse_box

    edges = None if box is None else parse_box(box)
    if solvate is not None or edges is not None:
        Solvent(margin=solvate, box=edges)
    return edges


def slug(text: str) -> str:
    """A name for files out of any words."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40].lower() or "prepared"
