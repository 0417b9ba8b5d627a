"""One function over all frames of a trajectory, block by block, on several processes if wanted."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int

from heliodor.trajectory.block import Block
from heliodor.trajectory.open import open_trajectory
from heliodor.trajectory.trajectory import BLOCK_BYTES, Trajectory, frames_per_block

Progress = Callable[[int, int], object]
"""Called with the number of frames done and of all frames."""

AHEAD = 2
"""Blocks per process that are handed out before the first result is taken: bounds the memory of what waits."""

T = TypeVar("T")


def over_blocks(
    trajectory: Trajectory,
    function: Callable[..., T],
    *arguments: Any,
    start: int = 0,
    stop: int | None = None,
    stride: int = 1,
    atoms: Int[np.ndarray, "n"] | None = None,
    wanted: Collection[str] = (),
    memory: int = BLOCK_BYTES,
    progress: Progress | None = None,
    processes: int = 1,
) -> Iterator[T]:
    """``function(block, *arguments)`` of each block of frames, in order; blocks do not know each other.

    Args:
        function: defined at the top of a module, where other processes find it.
        start, stop, stride, atoms, wanted, memory: as `Trajectory.blocks`.
        progress: called after each block.
        processes: that share the work; each opens the file itself.

    Raises:
        InputError: frames that cannot be read.
    """
    frames = np.arange(len(trajectory))[start:stop:stride]
    n = trajectory.n_atoms if atoms is None else len(atoms)
    size = frames_per_block(n, memory)
    if processes > 1:
        size = min(size, max(1, -(-len(frames) // (2 * processes))))
    pieces = [frames[first : first + size] for first in range(0, len(frames), size)]
    done = 0

    def told(piece: np.ndarray) -> None:
        nonlocal done
        done += len(piece)
        if progress is not None:
            progress(done, len(frames))

    if processes <= 1 or len(pieces) < 2:
        for piece in pieces:
            yield function(trajectory.read(piece, atoms=atoms, wanted=wanted), *arguments)
            told(piece)
        return
    # threads of torch or OpenMP do not survive a fork
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(processes, len(pieces)), mp_context=context, initializer=_begin, initargs=(dict(trajectory.given),)
    ) as pool:
        waiting: deque[tuple[np.ndarray, Future[T]]] = deque()
        rest = iter(pieces)
        try:
            for piece in rest:
                waiting.append((piece, pool.submit(_work, function, piece, atoms, tuple(wanted), arguments)))
                if len(waiting) < AHEAD * processes:
                    continue
                piece, future = waiting.popleft()
                yield future.result()
                told(piece)
            while waiting:
                piece, future = waiting.popleft()
                yield future.result()
                told(piece)
        finally:
            for _, future in waiting:
                future.cancel()


_opened: list[Trajectory] = []


def _begin(given: dict[str, Any]) -> None:
    _opened.append(open_trajectory(**given))


def _work(
    function: Callable[..., T],
    frames: np.ndarray,
    atoms: np.ndarray | None,
    wanted: tuple[str, ...],
    arguments: tuple[Any, ...],
) -> T:
    block: Block = _opened[-1].read(frames, atoms=atoms, wanted=wanted)
    return function(block, *arguments)
