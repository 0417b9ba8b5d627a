"""Structures to compare with, from files."""

from __future__ import annotations

import warnings
from pathlib import Path

import ase
import ase.io
import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError
from heliodor.topology import Topology, topology_of
from heliodor.trajectory.images import made_whole, tree_of
from heliodor.trajectory.perceive import recognised


def read_reference(file: str | Path) -> tuple[Topology, Float[np.ndarray, "N 3"]]:
    """Names and positions (Å) of the first structure of a file; peptides without names are recognised.

    Raises:
        InputError: it cannot be read.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(f"there is no file {path} to compare with")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = ase.io.read(path, index=0)
    except Exception as error:
        raise InputError(f"{path} cannot be read as a structure: {' '.join(str(error).split())[:200]}") from None
    assert isinstance(atoms, ase.Atoms)
    topology = topology_of(atoms)
    if not topology.named:
        topology = recognised(topology) or topology
    positions = atoms.positions.astype(np.float64)
    if atoms.pbc.any():
        positions = made_whole(positions[None], atoms.cell.array[None].astype(np.float64), tree_of(topology))[0]
    return topology, positions
