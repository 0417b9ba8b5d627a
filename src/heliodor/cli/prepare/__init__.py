"""heliodor prepare: from a PDB file, a sequence, SMILES or a recipe to a structure that can be simulated."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
