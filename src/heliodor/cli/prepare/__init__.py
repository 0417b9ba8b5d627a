"""heliodor prepare: from a PDB file, a sequence, SMILES or a recipe to a structure that can be simulated."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from heliodor.cli.prepare import liquid, membrane, molecule, peptide, protein

DEFAULT = "protein"
"""The sub-command that is meant where none is named."""

HELP = (
    "Make a system that can be simulated: extended xyz, PDB and a record of how it was made.\n\n"
    "heliodor prepare FILE [OPTIONS] is short for heliodor prepare protein FILE [OPTIONS]: hydrogens, missing atoms, "
    "solvent and relaxation for a PDB or mmCIF file."
)
EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor prepare crambin.pdb\n"
    "  heliodor prepare crambin.pdb --solvate 16 --equilibrate -o crambin-water\n"
    "  heliodor prepare protein 1abc.cif --chains A --caps both --protonation 'A:HIS 15=HIE'\n"
    "\b\nheliodor prepare protein --help lists the options for files."
)


class PrepareGroup(TyperGroup):
    """A group that takes a file in the place of a sub-command's name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


group = typer.Typer(cls=PrepareGroup, rich_markup_mode=None, invoke_without_command=True, help=HELP, epilog=EXAMPLES)
for part in (protein, peptide, molecule, liquid, membrane):
    part.register(group)


@group.callback()
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.add_typer(group, name="prepare")
