"""Which of the pieces are labelled: as different as the budget allows, in a fixed order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from heliodor.fragments.select import criteria, group_of, select_structures
from heliodor.train.dataset import Dataset


def choose(
    pieces: Dataset, budget: int, preset: str, seed: int, tell: Callable[[str, int, int], None]
) -> Int[np.ndarray, "K"]:
    """Indices of at most ``budget`` structures, ascending.

    Args:
        preset: "groups": so many of each group, by aligned distances; "mixed": of all together.
    """
    if len(pieces) <= budget:
        return np.arange(len(pieces))
    frames = [pieces.atoms(k) for k in range(len(pieces))]
    if preset == "mixed":
        found = select_structures(frames, criteria("mixed", count=budget), seed=seed, progress=tell)
        return np.sort(found.index)
    # a fragment and its hydrates are one group, but of different atoms: they are not compared
    keys = np.array(["\n".join(group_of(frame)) for frame in frames])
    names, first, sizes = np.unique(keys, return_index=True, return_counts=True)
    most = shares(sizes, budget)
    if most < 1:
        # more groups than places: the smallest molecules first, which are the most general
        order = np.lexsort((names, pieces.counts[first]))
        return np.sort(first[order[:budget]])
    found = select_structures(frames, criteria("groups", atoms="all", thin=None, count=most), seed=seed, progress=tell)
    return np.sort(found.index)


def shares(sizes: Int[np.ndarray, "G"], budget: int) -> int:
    """The largest number of each group with which all groups together stay within the budget."""
    low, high = 0, int(sizes.max())
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.minimum(sizes, middle).sum()) <= budget:
            low = middle
        else:
            high = middle - 1
    return low
