"""heliodor prepare liquid: boxes of pure and mixed liquids."""

from __future__ import annotations

from typing import Annotated

import typer

from heliodor.cli.common import DEFAULT_MODEL, Json, Overwrite
from heliodor.cli.prepare.common import CheckedModel, Output, Seed, finish

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor prepare liquid water:64\n"
    "  heliodor prepare liquid water:64 ethanol:10 --density 0.95\n"
    "  heliodor prepare liquid water:0.8 methanol:0.2 --molecules 200\n"
    "  heliodor prepare liquid 'CC(=O)Nc1ccc(O)cc1:4' water:100 --box 16\n"
    "\b\nComponents are names (water, methanol, ethanol, acetonitrile, DMSO, benzene, hexane, ...) or SMILES, with "
    "their\nnumber of molecules, or their part where --molecules or --atoms says how many there are in all. "
    "Without --density and --box\nthe density is that of the pure liquids at 298 K (CRC Handbook), as if volumes added."
)


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("liquid", epilog=EXAMPLES)(liquid)


def liquid(
    components: Annotated[list[str], typer.Argument(metavar="COMPONENT:NUMBER...", help="As water:64 or CCO:10.")],
    density: Annotated[float | None, typer.Option("--density", metavar="G/CM3", help="In g/cm³.")] = None,
    box: Annotated[
        str | None, typer.Option("--box", metavar="Å", help="Edges instead of a density: 20 or 20,20,40.")
    ] = None,
    molecules: Annotated[
        int | None, typer.Option("--molecules", min=1, metavar="N", help="Molecules in all; numbers are then parts.")
    ] = None,
    atoms: Annotated[
        int | None, typer.Option("--atoms", min=1, metavar="N", help="About so many atoms in all, likewise.")
    ] = None,
    output: Output = None,
    model: CheckedModel = DEFAULT_MODEL,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """A box of a pure or mixed liquid at a density, packed at random by PACKMOL."""
    from heliodor.errors import InputError
    from heliodor.prepare.check import refuse_unfit
    from heliodor.prepare.liquids import liquid as build
    from heliodor.prepare.liquids import parse_component
    from heliodor.prepare.output import refuse_outputs
    from heliodor.prepare.solvate import parse_box

    parts = [parse_component(word) for word in components]
    uncounted = [word for word in components if not word.rpartition(":")[2].replace(".", "", 1).isdigit()]
    if uncounted and molecules is None and atoms is None:
        raise InputError(f"say how many: {uncounted[0]}:64, or how many in all with --molecules or --atoms")
    edges = None if box is None else parse_box(box)
    stem = output or "liquid"
    refuse_outputs(stem, overwrite)
    made = build(parts, density=density, box=edges, molecules=molecules, atoms=atoms, seed=seed)
    refuse_unfit(made, model)
    finish(made, stem, source=" ".join(components), overwrite=overwrite, as_json=as_json)
