"""Distances over all beads: bonds, and pairs in periodic systems."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np
from jaxtyping import Float

from heliodor.analysis.liquids.rdf import Radial, radial_distributions, read_pairs, usual_pairs
from heliodor.errors import InputError
from heliodor.paths.result import PathResult
from heliodor.paths.summary import SKIP
from heliodor.topology import bonds_by_distance
from heliodor.trajectory.open import open_trajectory
from heliodor.trajectory.parallel import Progress

MOST = 1000
"""Structures written for other programs, evenly spaced over frames and beads."""


def bond_lengths(result: PathResult, skip: float = SKIP) -> dict[str, Float[np.ndarray, "K"]]:
    """Lengths (Å) of all bonds of the first structure, in all beads of all frames, by elements: "H-O".

    Raises:
        InputError: no beads stored.
    """
    beads = kept_beads(result, skip)[0]
    pairs = bonds_by_distance(result.atoms)
    symbols = np.array(result.atoms.get_chemical_symbols())
    found: dict[str, list[np.ndarray]] = {}
    cell = np.array(result.atoms.cell.complete())
    periodic = np.array(result.atoms.pbc)
    for i, j in pairs.tolist():
        apart = beads[:, :, j] - beads[:, :, i]
        if periodic.any():
            # positions are not put back into the cell, so that the shift of the first structure holds for all
            start = result.atoms.positions[j] - result.atoms.positions[i]
            shift = np.rint(start @ np.linalg.inv(cell)) * periodic
            apart = apart - np.einsum("k,skl->sl", shift, kept_beads(result, skip)[1])[:, None]
        name = "-".join(sorted((symbols[i], symbols[j])))
        found.setdefault(name, []).append(np.linalg.norm(apart, axis=-1).ravel())
    return {name: np.concatenate(found[name]) for name in sorted(found)}


def write_beads(result: PathResult, path: str | Path, skip: float = SKIP, most: int = MOST) -> Path:
    """Beads as frames of an extended xyz file, which ``heliodor analyze`` and other programs read.

    Frames of it are structures of one ensemble, not moments in time.

    Raises:
        InputError: no beads stored.
    """
    beads, cells = kept_beads(result, skip)
    path = Path(path)
    total = beads.shape[0] * beads.shape[1]
    frames = []
    for k in np.unique(np.linspace(0, total - 1, min(most, total)).astype(int)).tolist():
        frame, bead = divmod(k, beads.shape[1])
        atoms = result.atoms.copy()
        atoms.positions = beads[frame, bead]
        if atoms.pbc.any():
            atoms.set_cell(np.where(np.any(np.array(atoms.cell), axis=1)[:, None], cells[frame], 0.0))
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")
    return path


def bead_radial(
    result: PathResult,
    path: str | Path,
    pairs: str | None = None,
    skip: float = SKIP,
    progress: Progress | None = None,
) -> tuple[Radial, ...]:
    """Radial distribution functions over all beads, pairs within molecules included, from a file as of `write_beads`.

    Args:
        path: of that file, which is written.
        pairs: "O-O; O-H"; the usual ones if not given.

    Raises:
        InputError: no beads stored, not periodic, pairs that are none.
    """
    trajectory = open_trajectory(write_beads(result, path, skip))
    topology = trajectory.topology
    chosen = usual_pairs(topology) if pairs is None else read_pairs(topology, pairs)
    return radial_distributions(trajectory, chosen, intermolecular=False, progress=progress)


def kept_beads(result: PathResult, skip: float) -> tuple[Float[np.ndarray, "S P N 3"], Float[np.ndarray, "S 3 3"]]:
    """Without the first part."""
    beads, cells = result.beads(), result.bead_cells()
    start = int(skip * len(beads))
    if len(beads) - start < 1:
        raise InputError(f"{result.folder} holds no positions of beads (bead_stride, or too short a run)")
    return beads[start:], cells[start:]
