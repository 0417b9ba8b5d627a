"""Distances over all beads: bonds, and pairs in periodic systems."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from heliodor.analysis.liquids.rdf import Radial, radial_distributions, read_pairs, usual_pairs
from heliodor.paths.result import PathResult
from heliodor.paths.structures import kept_beads, write_beads
from heliodor.paths.summary import SKIP
from heliodor.topology import bonds_by_distance
from heliodor.trajectory.open import open_trajectory
from heliodor.trajectory.parallel import Progress


def bond_lengths(result: PathResult, skip: float = SKIP) -> dict[str, Float[np.ndarray, "K"]]:
    """Lengths (Å) of all bonds of the first structure, in all beads of all frames, by elements: "H-O".

    Raises:
        InputError: no beads stored.
    """
    beads, cells = kept_beads(result, skip)
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
            apart = apart - np.einsum("k,skl->sl", shift, cells)[:, None]
        name = "-".join(sorted((symbols[i], symbols[j])))
        found.setdefault(name, []).append(np.linalg.norm(apart, axis=-1).ravel())
    return {name: np.concatenate(found[name]) for name in sorted(found)}


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
