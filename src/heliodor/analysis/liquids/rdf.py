"""Radial distribution functions of pairs of atoms in periodic systems."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.liquids.conditions import cells, thickness
from heliodor.errors import InputError
from heliodor.topology import Topology
from heliodor.trajectory.block import Block
from heliodor.trajectory.images import inverse
from heliodor.trajectory.parallel import Progress, over_blocks
from heliodor.trajectory.selection import is_water, select
from heliodor.trajectory.trajectory import Trajectory

USUAL = 10.0
"""Å; reach where the cell allows it."""

FRAMES, FEWEST, ATOMS = 1000, 100, 2_000_000
"""Frames used at most by default, evenly spaced, for neighbours in time tell little new; of large systems as many as
hold so many atoms together, but not fewer than a hundred."""

BLOCKS = 10
"""Pieces of the run that errors are taken from."""

MOST_PAIRS = 6
"""Of elements, by default, in liquids other than water."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two sets of atoms that may overlap.

    Attributes:
        name: "O-O".
        first, second: ascending indices.
    """

    name: str
    first: Int[np.ndarray, "n"]
    second: Int[np.ndarray, "m"]


@dataclass(frozen=True, eq=False)
class Radial:
    """One radial distribution function on R shells.

    Attributes:
        name: of the pair.
        r: Å, middle of each shell.
        g: counts over those of the same number of pairs spread evenly through the cell: exactly 1 for an ideal gas.
        error: standard error from blocks of the run; not a number with fewer than two frames.
        outer: Å, outer radius of each shell.
        coordination: neighbours of the second set around one atom of the first within `outer`.
        intermolecular: whether pairs within a molecule are left out.
        frames: how many were used.
    """

    name: str
    r: Float[np.ndarray, "R"]
    g: Float[np.ndarray, "R"]
    error: Float[np.ndarray, "R"]
    outer: Float[np.ndarray, "R"]
    coordination: Float[np.ndarray, "R"]
    intermolecular: bool
    frames: int


def usual_pairs(topology: Topology) -> tuple[Pair, ...]:
    """O-O, O-H and H-H of water where there is much of it, else pairs of the commonest elements but hydrogen.

    Pairs of which there are none between molecules, as of a lone ion, are left out.
    """
    water = is_water(topology)
    chosen = water if water.mean() > 0.5 else np.ones(len(topology), dtype=bool)
    symbols = topology.symbols
    if water.mean() > 0.5:
        names = [("O", "O"), ("O", "H"), ("H", "H")]
    else:
        heavy = chosen & (topology.numbers > 1)
        elements, counts = np.unique(symbols[heavy if heavy.any() else chosen], return_counts=True)
        common = sorted(elements[np.argsort(-counts)][:3].tolist())
        names = [(a, b) for k, a in enumerate(common) for b in common[k:]][:MOST_PAIRS]
    pairs = (
        Pair(f"{a}-{b}", np.flatnonzero(chosen & (symbols == a)), np.flatnonzero(chosen & (symbols == b)))
        for a, b in names
    )
    return tuple(pair for pair in pairs if _pairs_between(pair, topology.molecules, len(topology)))


def read_pairs(topology: Topology, text: str) -> tuple[Pair, ...]:
    """Pairs in words: elements ``"O-O; O-H"``, or selections with a colon between, ``"water and O : resname LIG"``.

    Raises:
        InputError: a pair that is none, or selects nothing.
    """
    pairs = []
    for word in (part.strip() for part in text.split(";") if part.strip()):
        elements = re.fullmatch(r"([A-Z][a-z]?)\s*-\s*([A-Z][a-z]?)", word)
        sides = list(elements.groups()) if elements else [side.strip() for side in word.split(":")]
        if len(sides) != 2:
            raise InputError(f"cannot read {word!r} as a pair: write O-H, or two selections with a colon between")
        name = f"{sides[0]}-{sides[1]}" if elements else f"{sides[0]} : {sides[1]}"
        pairs.append(Pair(name, select(topology, sides[0]), select(topology, sides[1])))
    if not pairs:
        raise InputError("no pairs are given: write for example 'O-O; O-H'")
    return tuple(pairs)


def radial_distributions(
    trajectory: Trajectory,
    pairs: tuple[Pair, ...] | None = None,
    *,
    reach: float | None = None,
    width: float = 0.05,
    intermolecular: bool = True,
    frames: int | None = None,
    progress: Progress | None = None,
    processes: int = 1,
) -> tuple[Radial, ...]:
    """g(r) of pairs of atoms, one `Radial` each.

    Each frame counts with its own volume. What is counted is divided by what the same pairs, without those that are
    left out, would give spread evenly.

    Args:
        pairs: None for `usual_pairs`.
        reach: Å; None for the smaller of 10 Å and half the smallest thickness of the cell.
        width: Å, of a shell.
        intermolecular: leave out pairs within a molecule; pairs of a system that is one molecule are then none.
        frames: used at most, evenly spaced; None: 1000, and fewer in systems of more than 2000 atoms.

    Raises:
        InputError: not periodic in all directions, a reach beyond half the cell, pairs without any that count.
    """
    topology = trajectory.topology
    if not trajectory.periodic:
        raise InputError(f"{trajectory.path} is not periodic in all directions: a radial distribution needs a density")
    half = 0.5 * float(thickness(cells(trajectory)).min())
    if reach is None:
        reach = min(USUAL, half)
    if not 0.0 < reach <= half * (1.0 + 1e-9):
        raise InputError(f"the reach must be between 0 and half the smallest thickness of the cell, {half:.4g} Å")
    if not 0.0 < width <= 0.5 * reach:
        raise InputError(f"the width of a shell must be positive and less than half of the reach ({reach:.4g} Å)")
    frames = int(np.clip(ATOMS // len(topology), FEWEST, FRAMES)) if frames is None else frames
    if frames < 1:
        raise InputError("at least one frame must be used")
    pairs = usual_pairs(topology) if pairs is None else pairs
    if not pairs:
        raise InputError(f"{trajectory.path} has no pairs of atoms of different molecules to count")
    shells = int(reach / width * (1.0 + 1e-12))
    edges = width * np.arange(shells + 1)
    molecules = topology.molecules if intermolecular else np.arange(len(topology))
    numbers = np.array([_pairs_between(pair, molecules, len(topology)) for pair in pairs])
    for pair, number in zip(pairs, numbers.tolist(), strict=True):
        if number == 0:
            raise InputError(f"{pair.name} has no pairs to count" + (" between molecules" if intermolecular else ""))

    atoms = np.unique(np.concatenate([side for pair in pairs for side in (pair.first, pair.second)]))
    inside = np.stack([[np.isin(atoms, pair.first), np.isin(atoms, pair.second)] for pair in pairs])
    # atoms that are in the same sets are of one class, so that neighbours are counted once for all pairs
    patterns, classes = np.unique(inside.reshape(-1, len(atoms)), axis=1, return_inverse=True)
    first, second = patterns.reshape(len(pairs), 2, -1).astype(np.float64).transpose(1, 0, 2)
    # a neighbour pair of the half list is two ordered ones
    weights = first[:, :, None] * second[:, None] + second[:, :, None] * first[:, None]
    stride = -(-len(trajectory) // frames)
    total = len(range(0, len(trajectory), stride))
    blocks = min(BLOCKS, total)
    found = np.zeros((2, blocks, len(pairs), shells))
    used = np.bincount(np.arange(total) * blocks // total, minlength=blocks)
    done = 0
    for counted in over_blocks(
        trajectory,
        _counted,
        classes.ravel(),
        weights,
        molecules[atoms],
        edges,
        stride=stride,
        atoms=atoms,
        memory=2**21,
        progress=progress,
        processes=processes,
    ):
        at = np.arange(done, done + counted.shape[1]) * blocks // total
        np.add.at(found[0], at, counted[0])
        np.add.at(found[1], at, counted[1])
        done += counted.shape[1]

    shell = 4.0 / 3.0 * math.pi * np.diff(edges**3)
    each = found[0] / (used[:, None, None] * numbers[:, None] * shell)
    neighbours = found[1].sum(0) / total / np.array([len(pair.first) for pair in pairs])[:, None]
    mean = found[0].sum(0) / (total * numbers[:, None] * shell)
    error = each.std(0, ddof=1) / math.sqrt(blocks) if blocks > 1 else np.full(mean.shape, np.nan)
    return tuple(
        Radial(
            name=pair.name,
            r=edges[:-1] + 0.5 * width,
            g=mean[k],
            error=error[k],
            outer=edges[1:],
            coordination=np.cumsum(neighbours[k]),
            intermolecular=intermolecular,
            frames=total,
        )
        for k, pair in enumerate(pairs)
    )


def _pairs_between(pair: Pair, molecules: np.ndarray, n: int) -> int:
    """Ordered pairs of a first and a second atom that are not of one molecule (and hence not one atom)."""
    first = np.bincount(molecules[pair.first], minlength=n)
    second = np.bincount(molecules[pair.second], minlength=n)
    return int(first.sum() * second.sum() - first @ second)


def _counted(
    block: Block, classes: np.ndarray, weights: np.ndarray, molecules: np.ndarray, edges: np.ndarray
) -> np.ndarray:
    """[2, K, pairs, shells] of ordered pairs: times the volume of their frame, and as they are.

    ``weights`` [pairs, C, C] are how often a neighbour pair of two of the C classes of atoms counts for each pair.
    """
    from vesin import NeighborList

    assert block.cell is not None
    shells, width, kinds = len(edges) - 1, edges[1], weights.shape[1]
    counts = np.zeros((len(block), len(weights), shells))
    within = (block.positions @ inverse(block.cell)) % 1.0 @ block.cell
    neighbours = NeighborList(cutoff=float(edges[-1]), full_list=False)
    for k, (points, cell) in enumerate(zip(within, block.cell, strict=True)):
        i, j, d = neighbours.compute(points=points, box=cell, periodic=True, quantities="ijd")
        i, j = i.astype(np.int64), j.astype(np.int64)
        apart = molecules[i] != molecules[j]
        i, j, shell = i[apart], j[apart], np.minimum((d[apart] / width).astype(np.int64), shells - 1)
        met = np.bincount((classes[i] * kinds + classes[j]) * shells + shell, minlength=kinds * kinds * shells)
        counts[k] = np.tensordot(weights, met.reshape(kinds, kinds, shells), axes=2)
    volume = np.abs(np.linalg.det(block.cell))
    return np.stack([counts * volume[:, None, None], counts])


@dataclass(frozen=True)
class Peak:
    """The first peak of a radial distribution function and the minimum after it.

    Attributes:
        position, height: of the peak; Å and a pure number.
        minimum: Å, where the function is lowest before it rises again; not a number where it does not.
    """

    position: float
    height: float
    minimum: float


def first_peak(
    r: Float[np.ndarray, "R"], g: Float[np.ndarray, "R"], clear: float = 0.5, around: float = 0.3
) -> Peak | None:
    """The first place where g is above ``clear`` and nowhere larger within ``around`` Å; None where there is none.

    The position is that of a parabola through the highest three points.
    """
    step = r[1] - r[0]
    reach = max(1, round(around / step))
    peak = _extremum(g, reach, lambda k: bool(g[k] > clear), 0)
    if peak is None:
        return None
    a, b, c = g[peak - 1], g[peak], g[peak + 1]
    curvature = a - 2.0 * b + c
    shift = 0.5 * (a - c) / curvature if curvature < 0.0 else 0.0
    lowest = _extremum(-g, reach, lambda k: True, peak + 1)
    height = b - 0.25 * (a - c) * shift
    return Peak(float(r[peak] + shift * step), float(height), math.nan if lowest is None else float(r[lowest]))


def _extremum(g: np.ndarray, reach: int, counts: Callable[[int], bool], start: int) -> int | None:
    for k in range(max(start, 1), len(g) - reach):
        if counts(k) and g[k] == g[max(0, k - reach) : k + reach + 1].max():
            return k
    return None
