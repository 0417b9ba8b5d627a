"""Worker processes on this machine, without any other program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import Protocol, runtime_checkable

from heliodor.label.shard import Shard
from heliodor.label.worker import Ended

AHEAD = 2
"""Shards a worker has in hand: it need not wait for the next."""


@runtime_checkable
class Pool(Protocol):
    """Where shards are done.

    Attributes:
        workers: that work at the same time, at most.
        span: s of work that a shard should hold.
        tick: s between two commits.
        spools: whether workers can write files beside the store.
        patience: s after which workers that hold shards but run no job count as stuck; None: that cannot be.
    """

    workers: int
    span: float
    tick: float
    spools: bool
    patience: float | None

    def submit(self, shard: Shard) -> None:
        """Have a shard done."""
        ...

    def wait(self, seconds: float) -> list[Ended]:
        """Shards that ended, if any do within some seconds; those whose worker was lost too."""
        ...

    def holding(self) -> bool:
        """Whether workers that are there have shards to do."""
        ...

    def restart(self) -> None:
        """Forget all shards and begin with new workers."""
        ...

    def close(self) -> None:
        """End all workers, now."""
        ...


class LocalPool:
    """Processes of this machine; one that dies is replaced.

    They notice when this process is gone, however it ended, and end too.
    """

    spools = True
    tick = 0.2
    patience: float | None = None

    def __init__(self, workers: int, span: float = 1.0) -> None:
        self.workers = workers
        self.span = span
        self._members: list[_Member] = []

    def submit(self, shard: Shard) -> None:
        if len(self._members) < self.workers:
            self._members.append(_Member())
        member = min(self._members, key=lambda one: len(one.shards))
        member.shards.append(shard.key)
        # a worker that is just dying is found out by wait
        with suppress(BrokenPipeError, ConnectionResetError):
            member.connection.send(shard)

    def wait(self, seconds: float) -> list[Ended]:
        ended: list[Ended] = []
        connections = {member.connection: member for member in self._members}
        for ready in wait(list(connections), seconds) if connections else ():
            assert isinstance(ready, Connection)
            member = connections[ready]
            try:
                while ready.poll():
                    one: Ended = ready.recv()
                    member.shards.remove(one.key)
                    ended.append(one)
            except (EOFError, ConnectionResetError):
                how = member.end()
                self._members.remove(member)
                ended += [Ended(key, lost=how) for key in member.shards]
        return ended

    def holding(self) -> bool:
        return any(member.shards for member in self._members)

    def restart(self) -> None:
        self.close()

    def close(self) -> None:
        for member in self._members:
            # it ends its job and itself when it sees this
            member.connection.close()
        for member in self._members:
            member.end()
        self._members = []

    @property
    def processes(self) -> list[int]:
        """Process numbers of the workers."""
        return [member.process.pid for member in self._members]


class _Member:
    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "heliodor.label.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            # Ctrl-C is for the master, who ends the others in order
            start_new_session=True,
        )
        theirs.close()
        self.shards: deque[str] = deque()

    def end(self) -> str:
        """Wait for the end, or bring it about, and say how it was."""
        with suppress(OSError):
            self.connection.close()
        try:
            code = self.process.wait(2.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        return f"the worker was ended by signal {-code}" if code < 0 else f"the worker ended with exit status {code}"
