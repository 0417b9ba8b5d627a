"""Batches made in the background while the training step runs on those made before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
S = TypeVar("S")

DEPTH = 4
"""Things that may wait: more would only take memory."""


class Ahead(Generic[T]):
    """What `make` makes of one thing after another, in their order, by a thread that works ahead.

    Args:
        make: must not draw random numbers, nor change what the rest of the program uses.
        depth: how many may wait to be taken; 0: made when they are asked for, without a thread.
    """

    def __init__(self, things: Iterator[S], make: Callable[[S], T], depth: int = DEPTH) -> None:
        self._things, self._make = things, make
        self._ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(max(depth, 1))
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        if depth:
            self._thread = threading.Thread(target=self._work, name="heliodor batches", daemon=True)
            self._thread.start()

    def take(self) -> T:
        """The next one; an error of its making is raised here.

        Raises:
            StopIteration: there is none left.
        """
        if self._thread is None:
            return self._make(next(self._things))
        made, error = self._ready.get()
        if error is not None:
            raise error
        return made  # type: ignore[return-value]

    def close(self) -> None:
        """End the thread; what waits is dropped."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                item: tuple[T | None, BaseException | None] = (self._make(next(self._things)), None)
            except BaseException as error:
                item = (None, error)
            while not self._stopped.is_set():
                try:
                    self._ready.put(item, timeout=0.05)
                    break
                except queue.Full:
                    continue
            if item[1] is not None:
                return
