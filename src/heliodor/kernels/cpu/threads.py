"""Threads for compiled loops that hold no Python lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
import torch

from heliodor.kernels.cpu.barrier import fail, gate, wait

BLOCKS = 4
"""Pieces of work for each thread: one that is held up leaves the rest to the others."""

LEAST = 200
"""Edges below which handing work to another thread costs more than it saves."""


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="heliodor")


def _after_fork() -> None:
    global _one_group
    _pool.cache_clear()
    _one_group = Lock()


if hasattr(os, "register_at_fork"):
    # a child process has the pool, but not its threads
    os.register_at_fork(after_in_child=_after_fork)


def blocks(start: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of atoms with about as many edges each, from the edges' first places [N+1]."""
    threads = torch.get_num_threads()
    count = min(threads * BLOCKS, int(start[-1]) // LEAST) if threads > 1 else 1
    if count < 2:
        return [(0, len(start) - 1)]
    bounds = np.searchsorted(start, np.linspace(0, start[-1], count + 1)[1:-1])
    edges = [0, *np.unique(bounds).tolist(), len(start) - 1]
    return [(first, last) for first, last in pairwise(edges) if last > first]


def shares(start: np.ndarray, most: int, least: int = LEAST) -> np.ndarray:
    """Bounds [T+1] of ranges of atoms for each thread, with about as many edges each.

    Args:
        start: [N+1] first edge of each atom.
        most: threads at most.
        least: edges for each thread at least; with 1 there are exactly ``most`` ranges, some of which may be empty.
    """
    n, edges = len(start) - 1, int(start[-1])
    count = most if least == 1 else max(1, min(torch.get_num_threads(), most, edges // least, n))
    # atoms cost something too, and may have no edges at all
    weight = start + np.arange(n + 1) * (edges // max(n, 1) // 4 + 1)
    inner = np.searchsorted(weight, np.linspace(0, weight[-1], count + 1)[1:-1])
    return np.concatenate([[0], np.minimum(inner, n), [n]]).astype(np.int64)


# threads that wait for one another must all have started: one such group at a time
_one_group = Lock()


class Stopped(Exception):
    """Another thread of the group has failed."""


class Group:
    """One of several threads that do the same work together, each its share.

    Attributes:
        thread, threads: which, of how many.
    """

    def __init__(self, thread: int, threads: int, at: np.ndarray) -> None:
        self.thread, self.threads, self._at = thread, threads, at

    def meet(self) -> None:
        """Go on when all threads of the group have come here."""
        if not wait(self._at, self.threads):
            raise Stopped


def together(function: Callable[[Group], None], threads: int) -> None:
    """Call a function for every thread of a group at once; its compiled parts run side by side, and may meet.

    Raises:
        Whatever it raises first, in any thread; the others stop where they next meet.
    """
    at = gate()
    if threads == 1:
        function(Group(0, 1, at))
        return

    def part(thread: int) -> BaseException | None:
        try:
            function(Group(thread, threads, at))
        except BaseException as error:
            fail(at)
            return error
        return None

    with _one_group:
        pool = _pool(torch.get_num_threads())
        waiting = [pool.submit(part, thread) for thread in range(1, threads)]
        failed = [part(0), *(each.result() for each in waiting)]
    errors = [error for error in failed if error is not None]
    for error in errors:
        if not isinstance(error, Stopped):
            raise error
    if errors:
        raise errors[0]


def run(function: Callable[..., Any], ranges: Sequence[tuple[int, ...]], *arguments: Any) -> None:
    """Call ``function(*range, *arguments)`` for every range, on torch's number of threads."""
    if len(ranges) == 1:
        function(*ranges[0], *arguments)
        return
    pool = _pool(torch.get_num_threads())
    waiting = [pool.submit(function, *part, *arguments) for part in ranges]
    for each in waiting:
        each.result()
