"""Taking near-duplicates out of a pool too large for all its distances.

The pool is shuffled and cut into partitions; within each, a structure closer than the threshold to one that stays is
taken out. What is left is shuffled anew, and so on: after a few rounds duplicates that never met are rare. This is how
the structures for GEMS were thinned (Unke et al., Sci. Adv. 10, eadn4397 (2024), supplement S4: 9 Å², four rounds).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from heliodor.errors import InputError
from heliodor.fragments.aligned import Points, Progress, squared_distances

PARTITION = 2500
"""Structures whose distances are compared at once: 25 MB."""


def thin(
    points: Points,
    threshold: float,
    *,
    rounds: int = 4,
    partition: int = PARTITION,
    random: np.random.Generator,
    progress: Progress | None = None,
) -> tuple[Int[np.ndarray, "K"], tuple[int, ...]]:
    """Which of the points stay, ascending, and how many there were after each round.

    Any two of a last partition that stay are at least ``threshold`` apart; with a single partition that is so for all.

    Args:
        threshold: squared distance, Å² for `Shapes`.
        rounds: of shuffling; those after the first are left out where one partition holds all.
        partition: points at most in one.
        random: decides who meets whom, and which of two duplicates stays.

    Raises:
        InputError: a threshold, a number of rounds or a partition that mean nothing.
    """
    if not 0.0 < threshold < np.inf:
        raise InputError(f"near-duplicates need a threshold above zero, not {threshold:g}")
    if rounds < 1 or partition < 2:
        raise InputError("thinning needs at least one round and partitions of two and more structures")
    told = progress or (lambda *_: None)
    stay = np.arange(len(points))
    counts = []
    for turn in range(rounds):
        pool = random.permutation(stay)
        pieces = np.array_split(pool, max(1, -(-len(pool) // partition)))
        kept = []
        seen = 0
        for piece in pieces:
            kept.append(piece[apart(squared_distances(points.take(piece)), threshold)])
            seen += len(piece)
            told(f"thinning, round {turn + 1} of {rounds}", seen, len(pool))
        stay = np.sort(np.concatenate(kept))
        counts.append(len(stay))
        if len(pieces) == 1:
            break
    return stay, tuple(counts)


def apart(squared: Float[np.ndarray, "N N"], threshold: float) -> Int[np.ndarray, "K"]:
    """Indices that stay when each, in order, takes out all later ones closer than the threshold."""
    here = np.ones(len(squared), dtype=bool)
    for k in range(len(squared)):
        if here[k]:
            here[k + 1 :] &= squared[k, k + 1 :] >= threshold
    return np.flatnonzero(here)
