"""To MDTraj and back: its topologies for what it computes well, its readers for other programs' files."""

from __future__ import annotations

from typing import Any

from ase.data import chemical_symbols

from heliodor.errors import MissingExtraError
from heliodor.topology import Topology

NANOMETRE = 10.0
"""Å."""


def mdtraj() -> Any:
    """The package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import mdtraj
    except ImportError:
        raise MissingExtraError("mdtraj", "analysis") from None
    return mdtraj


def to_mdtraj(topology: Topology) -> Any:
    """An ``mdtraj.Topology`` with the same atoms in the same order, residues, chains and bonds."""
    md = mdtraj()
    made = md.Topology()
    atoms: list[Any] = []
    chain, chain_name = None, None
    residues: dict[int, Any] = {}
    for k in range(len(topology)):
        if chain is None or topology.chains[k] != chain_name:
            chain_name = topology.chains[k]
            chain = made.add_chain(str(chain_name))
        index = int(topology.residues[k])
        if index not in residues:
            number = int(topology.residue_numbers[k])
            residues[index] = made.add_residue(str(topology.residue_names[k]), chain, resSeq=number)
        element = md.element.get_by_symbol(chemical_symbols[int(topology.numbers[k])])
        atoms.append(made.add_atom(str(topology.names[k]), element, residues[index]))
    for i, j in topology.bonds.tolist():
        made.add_bond(atoms[i], atoms[j])
    return made
