"""Dipole moments of molecules, and of the whole, from the atomic charges of each frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.liquids.conditions import PARTIAL, Kind, kinds_of
from heliodor.analysis.liquids.histogram import Histogram
from heliodor.analysis.liquids.paths import centres_of_mass, per_molecule
from heliodor.errors import InputError
from heliodor.topology import Topology
from heliodor.trajectory.block import Block
from heliodor.trajectory.images import Tree, made_whole, minimum_image, tree_of
from heliodor.trajectory.parallel import Progress, over_blocks
from heliodor.trajectory.trajectory import Trajectory
from heliodor.units import DEBYE

WIDTH = 0.02
"""D, of a bin of the distribution."""

ENDLESS = 1e-3
"""Å; a bond that is longer than its nearest image by more closes a ring through the cell."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Dipoles of one kind of molecule in T frames.

    Attributes:
        kind: which molecules.
        mean: D, average over molecules of each frame.
        dipole: D, middles of the bins of the distribution.
        probability: 1/D.
        spread: D, standard deviation over molecules and frames.
        charge: e, root mean square of the molecules' net charges.
    """

    kind: Kind
    mean: Float[np.ndarray, "T"]
    dipole: Float[np.ndarray, "B"]
    probability: Float[np.ndarray, "B"]
    spread: float
    charge: float


@dataclass(frozen=True, eq=False)
class Dipoles:
    """Of the T frames of a trajectory whose charges are numbers.

    Attributes:
        index: of these frames.
        skipped: how many others there are.
        time: fs.
        total: e·Å; of molecules in vacuum Σ q (r - centre of mass); of a periodic system the sum of its molecules'.
        kinds: molecules' dipoles, each about the molecule's centre of mass.
    """

    index: Int[np.ndarray, "T"]
    skipped: int
    time: Float[np.ndarray, "T"]
    total: Float[np.ndarray, "T 3"]
    kinds: tuple[Moments, ...]


def molecular_dipoles(
    trajectory: Trajectory,
    *,
    stop: int | None = None,
    progress: Progress | None = None,
    processes: int = 1,
) -> Dipoles:
    """Dipoles μ = Σ q_i (r_i - R) of each molecule about its centre of mass R, with the charges of each frame.

    The origin matters only where a molecule is charged. About the centre of mass, the sum over molecules does not
    depend on the images that were written; left out is charge that flows from molecule to molecule, and ions' motion.

    Args:
        stop: frames before this one; None for all.

    Raises:
        InputError: no charges, none that are numbers (frames without are skipped), a part of the atoms,
            bonds that run endlessly through a periodic cell, frames that cannot be read.
    """
    if trajectory.partial:
        raise InputError(f"{trajectory.path}: {PARTIAL}, and dipoles need whole molecules")
    topology = trajectory.topology
    tree = tree_of(topology) if trajectory.pbc.any() else None
    if tree is not None:
        _check_ends(trajectory, tree)
    kinds = kinds_of(topology)
    histograms = [Histogram(WIDTH) for _ in kinds]
    means: list[list[np.ndarray]] = [[] for _ in kinds]
    sums = np.zeros((len(kinds), 3))
    totals, indices = [], []
    for index, dipole, net, total in over_blocks(
        trajectory,
        _dipoles,
        topology,
        trajectory.masses,
        tree,
        stop=stop,
        wanted=("charges",),
        progress=progress,
        processes=processes,
    ):
        totals.append(total)
        indices.append(index)
        size = np.linalg.norm(dipole, axis=2) / DEBYE
        for k, kind in enumerate(kinds):
            mine = size[:, kind.molecules]
            histograms[k].add(mine)
            means[k].append(mine.mean(1))
            sums[k] += mine.size, np.square(mine).sum(), np.square(net[:, kind.molecules]).sum()
    index = np.concatenate(indices)
    if not len(index):
        raise InputError(f"{trajectory.path} holds charges that are no numbers in all frames")
    moments = []
    for kind, histogram, mean, (count, squares, charges) in zip(kinds, histograms, means, sums, strict=True):
        series = np.concatenate(mean)
        spread = float(np.sqrt(max(squares / count - series.mean() ** 2, 0.0)))
        moments.append(
            Moments(kind, series, histogram.centres, histogram.density, spread, float(np.sqrt(charges / count)))
        )
    time = trajectory.time[:stop]
    return Dipoles(index, len(time) - len(index), time[index], np.concatenate(totals), tuple(moments))


def _dipoles(
    block: Block, topology: Topology, masses: np.ndarray, tree: Tree | None
) -> tuple[Int[np.ndarray, "K"], Float[np.ndarray, "K M 3"], Float[np.ndarray, "K M"], Float[np.ndarray, "K 3"]]:
    assert block.charges is not None
    good = np.isfinite(block.charges).all(1)
    if not good.all():
        # as the first frame of a run that was continued
        cell = None if block.cell is None else block.cell[good]
        block = Block(block.index[good], block.time[good], block.positions[good], cell, charges=block.charges[good])
    assert block.charges is not None
    molecules: Int[np.ndarray, "N"] = topology.molecules
    if not len(block):
        count = int(molecules.max()) + 1
        return block.index, np.zeros((0, count, 3)), np.zeros((0, count)), np.zeros((0, 3))
    positions = block.positions if tree is None else made_whole(block.positions, block.cell, tree)
    centres = centres_of_mass(positions, molecules, masses)
    charges = block.charges[:, :, None]
    dipole = per_molecule(charges * (positions - centres[:, molecules]), molecules)
    net = per_molecule(charges, molecules)[:, :, 0]
    total = dipole.sum(1)
    if tree is None:
        middle = masses @ positions / masses.sum()
        total = (charges * (positions - middle[:, None])).sum(1)
    return block.index, dipole, net, total


def _check_ends(trajectory: Trajectory, tree: Tree) -> None:
    block = trajectory.read(np.array([0]))
    i, j = trajectory.topology.bonds.T
    whole = made_whole(block.positions, block.cell, tree)
    bonds = whole[:, j] - whole[:, i]
    longer = np.linalg.norm(bonds, axis=2) - np.linalg.norm(minimum_image(bonds, block.cell), axis=2)
    if len(i) and longer.max() > ENDLESS:
        raise InputError(
            f"{trajectory.path}: bonds run through the cell without end, and such a network has no dipole of its own"
        )
