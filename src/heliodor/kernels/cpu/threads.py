"""Threads for compiled loops that hold no Python lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch

BLOCKS = 4
"""Pieces of work for each thread: one that is held up leaves the rest to the others."""

LEAST = 200
"""Edges below which handing work to another thread costs more than it saves."""


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="heliodor")


if hasattr(os, "register_at_fork"):
    # a child process has the pool, but not its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def blocks(start: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of atoms with about as many edges each, from the edges' first places [N+1]."""
    threads = torch.get_num_threads()
    count = min(threads * BLOCKS, int(start[-1]) // LEAST) if threads > 1 else 1
    if count < 2:
        return [(0, len(start) - 1)]
    bounds = np.searchsorted(start, np.linspace(0, start[-1], count + 1)[1:-1])
    edges = [0, *np.unique(bounds).tolist(), len(start) - 1]
    return [(first, last) for first, last in pairwise(edges) if last > first]


def shares(start: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """Ranges of atoms for each thread, at most so many, with about as many edges each: (thread, first, last)."""
    n, edges = len(start) - 1, int(start[-1])
    count = max(1, min(torch.get_num_threads(), most, edges // LEAST, n))
    # atoms cost something too, and may have no edges at all
    weight = start + np.arange(n + 1) * (edges // max(n, 1) // 4 + 1)
    bounds = np.searchsorted(weight, np.linspace(0, weight[-1], count + 1)[1:-1]).tolist()
    edges_of = sorted({0, n, *bounds})
    return [(k, first, last) for k, (first, last) in enumerate(pairwise(edges_of))]


def run(function: Callable[..., Any], ranges: Sequence[tuple[int, ...]], *arguments: Any) -> None:
    """Call ``function(*range, *arguments)`` for every range, on torch's number of threads."""
    if len(ranges) == 1:
        function(*ranges[0], *arguments)
        return
    pool = _pool(torch.get_num_threads())
    waiting = [pool.submit(function, *part, *arguments) for part in ranges]
    for each in waiting:
        each.result()
