"""Paths of molecules' centres of mass along a trajectory, without jumps, thinned to bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.topology import Topology
from heliodor.trajectory.block import Block
from heliodor.trajectory.images import Follower, Tree, made_whole, tree_of
from heliodor.trajectory.parallel import Progress, over_blocks
from heliodor.trajectory.trajectory import Trajectory

FRAMES = 5000
"""Kept at most; every so many between."""

MOLECULES = 2000
"""Followed at most, evenly spaced in the file."""


@dataclass(frozen=True, eq=False)
class Paths:
    """Centres of mass of M molecules at T evenly spaced times.

    Attributes:
        interval: fs between them.
        centres: Å.
        molecules: indices of them.
        masses: amu.
        cell: Å, of each time; None without periodicity.
        drift_removed: whether the motion of the whole system's centre of mass was subtracted.
    """

    interval: float
    centres: Float[np.ndarray, "T M 3"]
    molecules: Int[np.ndarray, "M"]
    masses: Float[np.ndarray, "M"]
    cell: Float[np.ndarray, "T 3 3"] | None
    drift_removed: bool = True


def follow(
    trajectory: Trajectory,
    molecules: Int[np.ndarray, "m"] | None = None,
    *,
    drift_removed: bool = True,
    progress: Progress | None = None,
    processes: int = 1,
) -> Paths:
    """Paths of some molecules' centres of mass.

    Heliodor writes positions without jumps and they are taken as they are. In files of other programs, molecules are
    made whole and each path continued by the nearest image; no molecule may go further than half a cell in a frame.

    Args:
        molecules: None for all; more than `MOLECULES` are thinned evenly.
        drift_removed: subtract the motion of the whole system's centre of mass; not done where the file holds a part
            of the atoms, whose own centre moves by their diffusion.

    Raises:
        InputError: a single frame, uneven times, frames that cannot be read.
    """
    topology = trajectory.topology
    chosen = np.arange(int(topology.molecules.max()) + 1) if molecules is None else molecules
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), MOLECULES)).astype(np.int64)]
    drift_removed = drift_removed and not trajectory.partial
    continuous = trajectory.continuous
    stride = -(-trajectory.even // FRAMES)
    tree = None if continuous or not trajectory.pbc.any() else tree_of(topology)
    centres, cell = [], []
    follower = Follower()
    seen = 0
    masses = np.bincount(topology.molecules, weights=trajectory.masses)
    for place, box in over_blocks(
        trajectory,
        _centres,
        topology.molecules,
        trajectory.masses,
        tree,
        stop=trajectory.even,
        # what must be followed across the faces is followed from frame to frame
        stride=stride if tree is None else 1,
        progress=progress,
        processes=processes,
    ):
        if tree is not None:
            first = -seen % stride
            seen += len(place)
            place = follower.follow(place, box)[first::stride]
            box = None if box is None else box[first::stride]
        if drift_removed:
            place = place - (masses @ place / masses.sum())[:, None]
        centres.append(place[:, chosen])
        if box is not None:
            cell.append(box)
    return Paths(
        interval=trajectory.interval * stride,
        centres=np.concatenate(centres),
        molecules=chosen,
        masses=masses[chosen],
        cell=np.concatenate(cell) if cell else None,
        drift_removed=drift_removed,
    )


def _centres(
    block: Block, molecules: np.ndarray, masses: np.ndarray, tree: Tree | None
) -> tuple[np.ndarray, np.ndarray | None]:
    positions = block.positions if tree is None else made_whole(block.positions, block.cell, tree)
    return centres_of_mass(positions, molecules, masses), block.cell


def centres_of_mass(
    positions: Float[np.ndarray, "K N 3"], molecules: Int[np.ndarray, "N"], masses: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "K M 3"]:
    """Å, of each molecule; its atoms must be in one piece."""
    return per_molecule(masses[:, None] * positions, molecules) / np.bincount(molecules, weights=masses)[:, None]


def per_molecule(values: Float[np.ndarray, "K N c"], molecules: Int[np.ndarray, "N"]) -> Float[np.ndarray, "K M c"]:
    """Sums over the atoms of each molecule."""
    order = np.argsort(molecules, kind="stable")
    starts = np.flatnonzero(np.diff(molecules[order], prepend=-1))
    sums: np.ndarray = np.add.reduceat(values[:, order], starts, axis=1)
    return sums


def all_of(topology: Topology, atoms: Int[np.ndarray, "n"]) -> Int[np.ndarray, "m"]:
    """Molecules that any of some atoms belong to."""
    return np.unique(topology.molecules[atoms])
