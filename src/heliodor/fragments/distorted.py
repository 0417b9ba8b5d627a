"""Distorted: structures drawn around a starting geometry, without those that no method should be asked about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import ase
import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError
from heliodor.topology import bonds_by_distance

CLASH = 0.6
"""Å; closer than this, no two nuclei are in anything that dynamics should meet (H₂ has 0.74)."""


@dataclass(frozen=True, eq=False)
class Distorted:
    """What a way of sampling gave.

    Attributes:
        frames: with the ``info`` of the structures they come from, and how they were made in "sampling".
        clashes: structures left out because two atoms were closer than `CLASH`.
        reconnected: structures whose bonds, by distances, are not those of the start: among the frames, or left out
            where that was asked for.
        failed: structures or trajectories that ended because there was no energy, or one that blew up.
        notes: in words.
    """

    frames: tuple[ase.Atoms, ...]
    clashes: int = 0
    reconnected: int = 0
    failed: int = 0
    notes: tuple[str, ...] = ()


def joined(parts: Iterable[Distorted]) -> Distorted:
    """Several as one, notes once each."""
    everything = list(parts)
    return Distorted(
        frames=tuple(frame for part in everything for frame in part.frames),
        clashes=sum(part.clashes for part in everything),
        reconnected=sum(part.reconnected for part in everything),
        failed=sum(part.failed for part in everything),
        notes=tuple(dict.fromkeys(note for part in everything for note in part.notes)),
    )


def closest(positions: Float[np.ndarray, "N 3"]) -> float:
    """The smallest distance between two atoms, Å; infinite for one atom."""
    if len(positions) < 2:
        return float("inf")
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    return float(apart[np.triu_indices(len(positions), 1)].min())


class Sieve:
    """Takes or leaves structures near a starting geometry, and counts why."""

    def __init__(self, start: ase.Atoms, reject_reconnected: bool) -> None:
        if start.pbc.any():
            raise InputError("fragments are sampled as molecules: the structure is periodic")
        if not np.isfinite(start.positions).all() or closest(start.positions) < CLASH:
            raise InputError(f"the starting geometry has two atoms closer than {CLASH} Å, or positions that are none")
        self._start = start
        self._bonds = bonds_by_distance(start)
        self._reject = reject_reconnected
        self.frames: list[ase.Atoms] = []
        self.clashes = self.reconnected = 0

    def offer(self, positions: Float[np.ndarray, "N 3"], how: str) -> bool:
        """Whether a structure was taken."""
        if not np.isfinite(positions).all() or closest(positions) < CLASH:
            self.clashes += 1
            return False
        info = {**self._start.info, "sampling": how}
        frame = ase.Atoms(numbers=self._start.numbers, positions=positions, info=info)
        if not np.array_equal(bonds_by_distance(frame), self._bonds):
            self.reconnected += 1
            if self._reject:
                return False
        self.frames.append(frame)
        return True

    def result(self, failed: int = 0, notes: tuple[str, ...] = ()) -> Distorted:
        """What was taken, in order."""
        return Distorted(tuple(self.frames), self.clashes, self.reconnected, failed, notes)
