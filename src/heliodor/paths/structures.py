"""Beads and centroids as files that ``heliodor analyze``, ASE and other programs read."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError
from heliodor.paths.result import PathResult
from heliodor.paths.summary import SKIP

MOST = 1000
"""Structures of beads that are written, evenly spaced over frames and beads."""


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
        frames.append(_placed(result.atoms, beads[frame, bead], cells[frame]))
    ase.io.write(path, frames, format="extxyz")
    return path


def write_centroids(result: PathResult, path: str | Path) -> Path:
    """Centroids of all frames, with times, as an extended xyz file.

    Raises:
        InputError: no centroids stored.
    """
    if result.centroids is None:
        raise InputError(f"{result.folder} holds no centroids: run with centroid=True (--centroid)")
    path = Path(path)
    frames = []
    for k, (time, positions) in enumerate(zip(result.time.tolist(), result.centroids, strict=True)):
        atoms = _placed(result.atoms, positions, None if result.cells is None else result.cells[k])
        atoms.info["time_fs"] = time
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")
    return path


def kept_beads(result: PathResult, skip: float) -> tuple[Float[np.ndarray, "S P N 3"], Float[np.ndarray, "S 3 3"]]:
    """Without the first part."""
    beads, cells = result.beads(), result.bead_cells()
    start = int(skip * len(beads))
    if len(beads) - start < 1:
        raise InputError(f"{result.folder} holds no positions of beads (bead_stride, or too short a run)")
    return beads[start:], cells[start:]


def _placed(start: ase.Atoms, positions: Float[np.ndarray, "N 3"], cell: Float[np.ndarray, "3 3"] | None) -> ase.Atoms:
    atoms = start.copy()
    atoms.positions = positions
    if cell is not None and atoms.pbc.any():
        # i-PI has long vectors where the structure has none
        atoms.set_cell(np.where(np.any(np.array(atoms.cell), axis=1)[:, None], cell, 0.0))
    return atoms
