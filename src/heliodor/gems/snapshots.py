"""Conformations of the whole molecule, and the pieces cut out of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import ase
import ase.io
import numpy as np

from heliodor.errors import InputError
from heliodor.fragments.embed import seed_of
from heliodor.fragments.graph_of import graph_of
from heliodor.fragments.snapshots import frames_of, snapshots
from heliodor.fragments.top_down import top_down
from heliodor.gems.config import Config
from heliodor.train.dataset import Dataset, join

Tell = Callable[[str, int, int], None]

HELD_OUT = 0.25
"""Share of each run, at its end, that nothing is learned from."""

TRAINED = "snapshot"
KEPT = "held-out snapshot"


def take_snapshots(folder: Path, systems: Sequence[ase.Atoms], config: Config, tell: Tell) -> Dataset:
    """Run classical dynamics from each starting structure, or read a trajectory.

    Returns:
        Kind `TRAINED`, or `KEPT` for the last quarter of each run.
    """
    choices = config.snapshots
    runs: list[tuple[str, list[ase.Atoms]]] = []
    if choices.trajectory is not None:
        tell(f"reading {choices.trajectory}", 0, 0)
        frames = list(frames_of(choices.trajectory, systems[0]))
        if not np.array_equal(frames[0].numbers, systems[0].numbers):
            raise InputError(f"{choices.trajectory} holds other atoms than the molecule, or in another order")
        runs.append((Path(choices.trajectory).stem, frames))
    else:
        place = folder / "snapshots"
        place.mkdir(exist_ok=True)
        for k, system in enumerate(systems):
            path = snapshots(
                system,
                place / f"start-{k}.xyz",
                temperatures=choices.temperatures,
                time=choices.time,
                every=choices.every,
                name=f"start {k}",
                seed=seed_of("snapshots", config.seed, k),
                progress=lambda what, part: tell(what, round(1000 * part), 1000),
            )
            frames = _read(path)
            for kelvin in sorted({float(frame.info["temperature_K"]) for frame in frames}):
                mine = [frame for frame in frames if float(frame.info["temperature_K"]) == kelvin]
                runs.append((f"start {k}, {kelvin:g} K", mine))
    parts = []
    for name, frames in runs:
        learned, kept = divided(len(frames))
        for k, frame in enumerate(frames):
            if learned <= k < len(frames) - kept:
                continue
            # names would be kept by extended xyz files, and are those of the molecule
            plain = ase.Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
            plain.info = {"charge": systems[0].info.get("charge", 0), "spin": systems[0].info.get("spin", 0)}
            plain.info |= {"kind": TRAINED if k < learned else KEPT, "group": f"{name}, {k}"}
            parts.append(plain)
    return Dataset.from_atoms(parts)


def divided(frames: int) -> tuple[int, int]:
    """Of a run of so many snapshots: how many are learned from, and how many at its end are held out.

    The one between them is neither, where there are enough: it is much like the last one that is learned from.
    """
    kept = max(1, round(HELD_OUT * frames))
    return frames - kept, max(1, kept - 1)


def cut(system: ase.Atoms, shots: Dataset, config: Config, tell: Tell) -> tuple[Dataset | None, dict[str, int]]:
    """Cut pieces out of all snapshots.

    Returns:
        Pieces of kind "top-down", or "held-out" from snapshots kept; None if none are wanted; and counts.

    Raises:
        InputError: not a single piece could be cut, with the reason.
    """
    choices = config.top_down
    if not choices.structures:
        return None, {}
    graph = graph_of(system)
    made: list[ase.Atoms] = []
    refused: list[str] = []
    for k in range(len(shots)):
        tell("cutting spheres", k, len(shots))
        frame = system.copy()
        frame.positions, frame.cell = shots.positions[shots.span(k)], shots.cell[k]
        frame.info["group"] = str(shots.group[k])
        found = top_down(
            frame,
            graph,
            radius=choices.radius,
            count=choices.centres,
            seed=seed_of("centres", config.seed, k),
            largest_charge=choices.max_charge,
            refused=refused,
        )
        for piece in found:
            piece.atoms.info["kind"] = "top-down" if shots.kind[k] == TRAINED else "held-out"
            made.append(piece.atoms)
    if not made:
        raise InputError(f"no top-down fragment could be cut: {refused[0] if refused else 'there are no centres'}")
    return Dataset.from_atoms(made), {"refused": len(refused)}


def whole(shots: Dataset, config: Config) -> Dataset | None:
    """Snapshots of the whole molecule that it will be held against: evenly from those kept, in gas phase only."""
    choices = config.validate
    kept = np.flatnonzero(shots.kind == KEPT)
    if not choices.whole or not len(kept) or shots.counts[0] > choices.whole_atoms or shots.pbc.any():
        return None
    picked = kept[np.unique(np.linspace(0, len(kept) - 1, min(choices.whole, len(kept))).round().astype(int))]
    found = shots.take(picked)
    return replace(found, kind=np.full(len(found), "whole"))


def joined(parts: Sequence[Dataset | None]) -> Dataset:
    """Those there are, one after the other."""
    return join([part for part in parts if part is not None])


def _read(path: Path) -> list[ase.Atoms]:
    frames = ase.io.read(path, index=":", format="extxyz")
    assert isinstance(frames, list)
    return frames
