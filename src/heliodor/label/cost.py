"""What a campaign will cost, from the jobs that were done already or from a few done for the purpose."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import ase
import numpy as np

from heliodor.errors import InputError
from heliodor.label.packing import pack_structure
from heliodor.label.shard import DONE, FIND, Job, Limits, Outcome
from heliodor.label.worker import BrokenWorkerError, Runner

STEEPEST = 4.0
"""Bound of the fitted power: no method here grows faster with the number of atoms."""

ROW = 300.0
"""Bytes of a row of the store beside its arrays, indices and the log of attempts included; measured."""

PER_ATOM = 90.0
"""Bytes of an atom in the store: number, position, force, charge, and SQLite's pages not being full."""


@dataclass(frozen=True)
class Cost:
    """Wall seconds of a job of N atoms: ``scale * N**power``; ``cores`` is CPU time over wall time."""

    scale: float
    power: float
    cores: float = 1.0

    def seconds(self, atoms: Iterable[int]) -> float:
        """Wall time of jobs one after the other, s."""
        sizes = np.fromiter(atoms, dtype=float)
        return float((self.scale * sizes**self.power).sum())


def fit_cost(history: Sequence[tuple[int, float, float]]) -> Cost | None:
    """A power law through (atoms, wall s, CPU s) of jobs; None without any.

    The power is that of a straight line through the logarithms, between 0 and 4, and 1 where all sizes are about the
    same; the scale is such that the law gives the sum of the times: a few slow jobs count as what they cost.
    """
    if not history:
        return None
    atoms, wall, cpu = (np.array(column, dtype=float) for column in zip(*history, strict=True))
    x, y = np.log(atoms), np.log(np.maximum(wall, 1e-6))
    power = 1.0
    if x.std() > 0.1:
        power = float(np.clip(np.cov(x, y)[0, 1] / np.var(x, ddof=1), 0.0, STEEPEST))
    return Cost(float(wall.sum() / (atoms**power).sum()), power, float(cpu.sum() / max(wall.sum(), 1e-9)))


def disk(atoms: Iterable[int]) -> float:
    """Bytes that jobs of so many atoms need in a store."""
    return sum(ROW + PER_ATOM * count for count in atoms)


def try_some(
    frames: Sequence[ase.Atoms],
    method: str,
    *,
    count: int = 8,
    seconds: float = 60.0,
    threads: int = 1,
    limits: Limits | None = None,
    find: str = FIND,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[tuple[int, float, float]], list[Outcome]]:
    """Time a few structures of different sizes, in a worker's child as in a campaign.

    Args:
        count: of structures; the first of all is done twice, as it is slow for reasons of its own.
        seconds: after which no other is begun.
        progress: told how many are done, and of how many.

    Returns:
        (atoms, wall s, CPU s) of those that went well, and how each ended.

    Raises:
        InputError: the method cannot be made.
    """
    order = sorted(range(len(frames)), key=lambda k: (len(frames[k]), k))
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    chosen = [order[k] for k in places]
    runner = Runner(find, limits or Limits(), threads, lambda: False)
    times, outcomes = [], []
    end = time.monotonic() + seconds
    try:
        for done, k in enumerate([chosen[0], *chosen]):
            outcome = runner.run(Job(k, method, pack_structure(frames[k])))
            assert outcome is not None
            if done:
                outcomes.append(outcome)
                last = outcome.attempts[-1]
                if last.outcome == DONE:
                    spent = [sum(getattr(a, what) for a in outcome.attempts) for what in ("wall", "cpu")]
                    times.append((len(frames[k]), spent[0], spent[1]))
                if progress is not None:
                    progress(done, len(chosen))
            if time.monotonic() > end and outcomes:
                break
    except BrokenWorkerError as error:
        raise InputError(str(error)) from None
    finally:
        runner.end()
    return times, outcomes
