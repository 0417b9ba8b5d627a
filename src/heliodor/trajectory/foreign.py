"""To MDTraj and back: its topologies for what it computes well, its readers for other programs' files."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Int

from heliodor.errors import MissingExtraError
from heliodor.topology import Topology
from heliodor.trajectory.block import Block

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


def to_mdtraj_frames(block: Block, topology: Any, atoms: Int[np.ndarray, "n"] | None = None) -> Any:
    """An ``mdtraj.Trajectory`` of a block's frames, in nanometres; without unit cell, so wrap nothing.

    Args:
        topology: of `to_mdtraj`, of the same atoms as the block, or of those ``atoms`` of it.
    """
    positions = block.positions if atoms is None else block.positions[:, atoms]
    return mdtraj().Trajectory((positions / NANOMETRE).astype(np.float32), topology, time=block.time / 1000.0)
