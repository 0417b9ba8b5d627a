"""Bonds that break and form along a trajectory, by distance.

The limits are those of the watch over a run (`heliodor.dynamics.watch.bonds`): a bond of the topology is broken when
it is longer than 1.6 times the sum of its covalent radii, a new one has formed below 1.2 times that sum, and a pair
between the two keeps what it was. Only pairs of nonmetals count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float, Int

from heliodor.analysis.along import time_axis
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.dynamics.watch.bonds import BROKEN, FORMED
from heliodor.topology import NONMETALS
from heliodor.trajectory.block import Block
from heliodor.trajectory.images import minimum_image
from heliodor.trajectory.parallel import Progress, over_blocks
from heliodor.trajectory.trajectory import Trajectory
from heliodor.units import format_time

MOST_EVENTS = 10_000
"""Events that are kept; more are counted."""


@dataclass(frozen=True)
class BondEvent:
    """One pair of atoms that changed.

    Attributes:
        frame, time: when it was first seen so; fs.
        kind: "broken", "whole again", "formed" or "released" (a formed one that broke).
        i, j: atoms.
        name: of both, as people say it.
        distance: Å; NaN of those that ended, "whole again" and "released".
    """

    frame: int
    time: float
    kind: str
    i: int
    j: int
    name: str
    distance: float


@dataclass(frozen=True, eq=False)
class BondHistory:
    """Bonds along T frames.

    Attributes:
        time: fs.
        broken: bonds of the first frame that are broken.
        formed: bonds that are there and were not in the first frame.
        events: in order; the first `MOST_EVENTS`.
        happened: how many events there were.
        followed: number of bonds.
    """

    time: Float[np.ndarray, "T"]
    broken: Int[np.ndarray, "T"]
    formed: Int[np.ndarray, "T"]
    events: tuple[BondEvent, ...]
    happened: int
    followed: int


@dataclass(frozen=True, eq=False)
class _Bonds:
    """What a block needs to know.

    Attributes:
        numbers, covalent: of all atoms; whether they are nonmetals.
        pairs: bonds of the reference between nonmetals.
        keys: i * N + j of all bonds, ascending.
    """

    numbers: np.ndarray
    covalent: np.ndarray
    pairs: np.ndarray
    keys: np.ndarray
    pbc: np.ndarray


def bond_history(
    trajectory: Trajectory, *, new: bool = True, progress: Progress | None = None, processes: int = 1
) -> BondHistory:
    """Bonds broken and formed, frame by frame, against those of the trajectory's topology; periodic images included.

    A hydrogen still held by its bond of the start is shared, not transferred: it forms none.

    Args:
        new: whether to look for bonds that form, which needs the neighbours of every frame.
    """
    topology = trajectory.topology
    covalent = np.isin(topology.numbers, NONMETALS)
    bonds = topology.bonds
    followed = bonds[covalent[bonds].all(1)] if len(bonds) else bonds
    known = _Bonds(
        topology.numbers, covalent, followed, np.sort(bonds[:, 0] * len(topology) + bonds[:, 1]), trajectory.pbc
    )
    broken, formed = np.zeros(len(trajectory), dtype=np.int64), np.zeros(len(trajectory), dtype=np.int64)
    torn: set[tuple[int, int]] = set()
    made: set[tuple[int, int]] = set()
    events: list[BondEvent] = []
    happened = 0
    for block in over_blocks(trajectory, _of_block, known, new, progress=progress, processes=processes):
        for frame, stretched, near in block:
            for state, rows, down, up in (
                (torn, stretched, "whole again", "broken"),
                (made, near, "released", "formed"),
            ):
                for i, j, distance, kind in _changes(state, rows):
                    happened += 1
                    if len(events) < MOST_EVENTS:
                        words = f"{topology.label(i)} and {topology.label(j)}"
                        what = up if kind else down
                        events.append(BondEvent(frame, float(trajectory.time[frame]), what, i, j, words, distance))
            broken[frame], formed[frame] = len(torn), len(made)
    return BondHistory(trajectory.time, broken, formed, tuple(events), happened, len(followed))


def unfit(trajectory: Trajectory) -> str | None:
    """Why bonds cannot be followed."""
    if len(trajectory.topology.bonds) == 0:
        return "it has no covalent bonds"
    return "it holds a single frame" if len(trajectory) < 2 else None


def show_bonds(
    trajectory: Trajectory, *, progress: Progress | None = None, processes: int = 1, new: bool = True
) -> Shown:
    """Bonds broken and formed since the first frame.

    Args:
        new: whether bonds that form are looked for, too.
    """
    found = bond_history(trajectory, new=new, progress=progress, processes=processes)
    x, axis = time_axis(found.time)
    curves = [Curve("broken", x, found.broken.astype(np.float64))]
    if new:
        curves.append(Curve("formed", x, found.formed.astype(np.float64)))
    first = found.events[0] if found.events else None
    numbers = [
        Number("bonds followed", float(found.followed)),
        Number("broken at the end", float(found.broken[-1])),
        Number("formed at the end", float(found.formed[-1])) if new else None,
        Number("events", float(found.happened), note="" if first is None else f"first: {_sentence(first)}"),
    ]
    notes = [
        f"Pairs of nonmetals. A bond of the first frame is broken above {BROKEN:g} times the sum of its covalent "
        f"radii, a new one has formed below {FORMED:g} times; between the two a pair keeps what it was. A hydrogen "
        "that its first partner still holds forms no bond.",
        f"Bonds of the start: {trajectory.origin}.",
    ]
    if found.happened > len(found.events):
        notes.append(f"The first {len(found.events)} of {found.happened} events are listed.")
    columns = {
        "time_ps": np.array([e.time / 1e3 for e in found.events]),
        "frame": np.array([e.frame for e in found.events], dtype=np.int64),
        "event": np.array([e.kind for e in found.events]),
        "i": np.array([e.i for e in found.events], dtype=np.int64),
        "j": np.array([e.j for e in found.events], dtype=np.int64),
        "atoms": np.array([e.name for e in found.events]),
        "distance_A": np.array([e.distance for e in found.events]),
    }
    counts = {"time_ps": found.time / 1e3, "broken": found.broken, "formed": found.formed}
    top = float(max(found.broken.max(), found.formed.max(), 1)) * 1.05
    return Shown(
        name="bonds",
        title="Bonds broken and formed",
        panels=(Panel("Bonds changed since the start", axis, Axis("bonds", low=0.0, high=top), tuple(curves)),),
        numbers=tuple(number for number in numbers if number is not None),
        notes=tuple(notes),
        tables={"bonds": counts} | ({"bond_events": columns} if found.events else {}),
    )


def _sentence(event: BondEvent) -> str:
    return f"{event.name} {event.kind} at {format_time(event.time)} ({event.distance:.2f} Å)"


Row = tuple[int, int, float, float]
"""Atoms, distance in Å, distance over the sum of covalent radii."""


def _of_block(block: Block, known: _Bonds, new: bool) -> list[tuple[int, list[Row], list[Row]]]:
    """For each frame: bonds above the limit of formation, and other pairs below the limit of breaking."""
    i, j = known.pairs.T
    radii = covalent_radii[known.numbers]
    lengths = np.linalg.norm(minimum_image(block.positions[:, j] - block.positions[:, i], block.cell), axis=2)
    ratio = lengths / (radii[i] + radii[j])
    result = []
    for k, frame in enumerate(block.index.tolist()):
        # the limits are turned round for bonds: above 1.2 they may be broken, above 1.6 they are
        long = np.flatnonzero(ratio[k] >= FORMED)
        stretched = [(int(i[b]), int(j[b]), float(lengths[k, b]), float(ratio[k, b] > BROKEN)) for b in long.tolist()]
        near = (
            _others(block.positions[k], None if block.cell is None else block.cell[k], known, ratio[k]) if new else []
        )
        result.append((frame, stretched, near))
    return result


def _others(positions: np.ndarray, cell: np.ndarray | None, known: _Bonds, ratio: np.ndarray) -> list[Row]:
    from ase.geometry import complete_cell
    from vesin import NeighborList

    radii = covalent_radii[known.numbers]
    largest = float(radii[known.covalent].max()) if known.covalent.any() else 0.0
    i, j, d = NeighborList(cutoff=max(2.0 * BROKEN * largest, 0.1), full_list=False).compute(
        points=positions,
        box=np.zeros((3, 3)) if cell is None else complete_cell(cell),
        periodic=known.pbc,
        quantities="ijd",
    )
    i, j = i.astype(np.int64), j.astype(np.int64)
    kept = (d < BROKEN * (radii[i] + radii[j])) & known.covalent[i] & known.covalent[j] & (i != j)
    i, j, d = np.minimum(i, j)[kept], np.maximum(i, j)[kept], d[kept]
    if len(known.keys):
        keys = i * len(known.numbers) + j
        place = np.minimum(np.searchsorted(known.keys, keys), len(known.keys) - 1)
        fresh = known.keys[place] != keys
        i, j, d = i[fresh], j[fresh], d[fresh]
    held = np.zeros(len(known.numbers), dtype=bool)
    held[known.pairs[ratio <= BROKEN].ravel()] = True
    held &= known.numbers == 1
    close = (d < FORMED * (radii[i] + radii[j])) & ~held[i] & ~held[j]
    return list(zip(i.tolist(), j.tolist(), d.tolist(), close.astype(float).tolist(), strict=True))


def _changes(state: set[tuple[int, int]], rows: list[Row]) -> list[tuple[int, int, float, bool]]:
    """What begins and ends in a frame; the state is brought up to it.

    A pair is in the state once its row says so (last entry 1), and stays in it while it has a row at all.
    """
    changed = []
    here = {(i, j): distance for i, j, distance, _ in rows}
    for pair in sorted(state - here.keys()):
        changed.append((*pair, float("nan"), False))
        state.discard(pair)
    for i, j, distance, beyond in rows:
        if beyond and (i, j) not in state:
            changed.append((i, j, distance, True))
            state.add((i, j))
    return changed
