"""heliodor prepare membrane: lipid bilayers in water."""

from __future__ import annotations

from typing import Annotated

import typer

from heliodor.cli.common import DEFAULT_MODEL, Json, Overwrite
from heliodor.cli.prepare.common import CheckedModel, Output, ProgressBar, Seed, finish

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor prepare membrane POPC\n"
    "  heliodor prepare membrane POPC --lipids 128 --waters 5120\n"
    "  heliodor prepare membrane DOPC --lipids 32 --water-thickness 30\n"
    "\b\nAtoms are named as in CHARMM: tails C21 ... C218 and C31 ... C316. No "
    "ions are added: these lipids are neutral as a whole."
)


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("membrane", epilog=EXAMPLES)(membrane)


def membrane(
    lipid: Annotated[str, typer.Argument(metavar="LIPID", help="POPC, POPE, DLPC, DLPE, DMPC, DOPC or DPPC.")] = "POPC",
    lipids: Annotated[int, typer.Option("--lipids", metavar="N", help="In both leaflets together.")] = 128,
    waters: Annotated[
        int | None, typer.Option("--waters", metavar="N", help="Molecules of water. [default: 30 or 40 a lipid]")
    ] = None,
    per_lipid: Annotated[
        float | None, typer.Option("--water-per-lipid", metavar="N", help="Molecules of water a lipid.")
    ] = None,
    thickness: Annotated[
        float | None, typer.Option("--water-thickness", metavar="Å", help="Of the layer between bilayers.")
    ] = None,
    output: Output = None,
    model: CheckedModel = DEFAULT_MODEL,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """A lipid bilayer in water with exact numbers of lipids and waters, normal along z."""
    from heliodor.prepare.check import model_for, refuse_elements
    from heliodor.prepare.membrane_patch import one_lipid, read_patch
    from heliodor.prepare.membranes import membrane as build
    from heliodor.prepare.output import refuse_outputs

    stem = output or lipid.lower()
    refuse_outputs(stem, overwrite)
    potential = model_for(model)
    if potential is not None:
        refuse_elements(one_lipid(read_patch(lipid)), potential)
    with ProgressBar(not as_json) as progress:
        made = build(
            lipid,
            lipids=lipids,
            waters=waters,
            waters_per_lipid=per_lipid,
            water_thickness=thickness,
            seed=seed,
            progress=progress,
        )
    finish(made, stem, source=f"the patch of {made.details['lipid']} of OpenMM", overwrite=overwrite, as_json=as_json)
