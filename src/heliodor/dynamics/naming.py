"""Naming atoms in messages."""

from __future__ import annotations

from ase.data import chemical_symbols

from heliodor.errors import SimulationError
from heliodor.system import System


def atom_name(system: System, atom: int) -> str:
    """Symbol and index within its structure: ``"O 12"``, or ``"O 12 of structure 3"`` in a batch."""
    return f"{chemical_symbols[int(system.numbers[atom])]} {system.label(atom)}"


def check_finite(system: System) -> None:
    """Raise SimulationError, naming the first atom whose position is not a finite number."""
    bad = (~system.positions.isfinite()).any(-1).nonzero()
    if len(bad):
        raise SimulationError(f"the position of {atom_name(system, int(bad[0]))} is not finite: the dynamics blew up")
