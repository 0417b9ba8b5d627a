"""A worker: does the jobs of a shard one after the other, each in a child process with limits.

The worker itself runs no chemistry. Whatever a program does to its process, the worker sees it, writes down how the job
ended and starts another child: a segmentation fault costs one attempt of one job.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from heliodor.label.process import gone, resident
from heliodor.label.shard import (
    CRASHED,
    DONE,
    MEMORY,
    NOT_CONVERGED,
    TIME,
    Attempt,
    Frame,
    Job,
    Limits,
    Outcome,
    Shard,
    Spool,
    Started,
)

LOOK = 0.1
"""Seconds between two looks at the clock, the memory and the master of a running job."""

MAKING = 600.0
"""Seconds within which a method must be made: packages on a slow disk are imported."""

NOISE = 1 << 20
"""Bytes of a program's output after which it is thrown away."""


class BrokenWorkerError(Exception):
    """No job can be done here: the method cannot be made."""


class _StoppedError(Exception):
    """The work is not wanted any more."""


@dataclass(frozen=True)
class Ended:
    """A shard that a worker has left.

    Attributes:
        error: why no more can be done by this campaign at all; empty if nothing is wrong.
        full: whether that is for want of disk space.
        lost: how the worker was lost; empty if it was not.
        frames: what did not go into the spool.
    """

    key: str
    error: str = ""
    full: bool = False
    lost: str = ""
    frames: tuple[Frame, ...] = ()


class Runner:
    """Runs jobs in a child process, which it starts again whenever it is needed.

    Args:
        find: what makes methods, as ``module:function``.
        threads: of each job.
        stop: asked now and then; True: leave everything.
    """

    def __init__(self, find: str, limits: Limits, threads: int, stop: Callable[[], bool]) -> None:
        self.stop = stop
        self._find, self._limits, self._threads = find, limits, threads
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._made: dict[str, tuple[int, tuple[tuple[str, str], ...]]] = {}
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._host = socket.gethostname()

    def run(self, job: Job) -> Outcome | None:
        """Try a job with more and more effort; None: stopped.

        Raises:
            BrokenWorkerError: the method cannot be made.
        """
        attempts: list[Attempt] = []
        effort = crashes = 0
        while True:
            try:
                efforts, versions = self._make(job.method)
                attempt, label, energy = self._attempt(job, effort)
            except _StoppedError:
                self.close()
                return None
            attempts.append(attempt)
            if attempt.outcome == DONE:
                return Outcome(job.id, tuple(attempts), label, energy, versions)
            crashes += attempt.outcome == CRASHED
            again = attempt.outcome == CRASHED and crashes < self._limits.crashes
            harder = attempt.outcome == NOT_CONVERGED and effort + 1 < efforts
            if not again and not harder:
                return Outcome(job.id, tuple(attempts))
            effort += harder

    def close(self) -> None:
        """End the child, whatever it is doing."""
        if self._child is not None:
            # with all that its programs have started
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
            self._child = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._made = {}

    def end(self) -> None:
        """End the child for good."""
        self.close()
        self._output.close()

    def _make(self, name: str) -> tuple[int, tuple[tuple[str, str], ...]]:
        if name not in self._made:
            answer = self._ask((name, 0, None), MAKING, None)
            if isinstance(answer, str):
                raise BrokenWorkerError(f"the method {name} cannot be made in a worker: {self._last_words(answer)}")
            efforts, versions = answer
            if efforts is None:
                raise BrokenWorkerError(f"the method {name} cannot be made in a worker: {versions}")
            self._made[name] = efforts, versions
        return self._made[name]

    def _attempt(self, job: Job, effort: int) -> tuple[Attempt, bytes | None, float | None]:
        at, began = time.time(), time.perf_counter()
        answer = self._ask((job.method, effort, job.structure), self._limits.seconds, self._limits.memory)
        if not isinstance(answer, str):
            outcome, message, label, energy, wall, cpu, memory = answer
            return Attempt(effort, outcome, message, at, wall, cpu, memory, self._host), label, energy
        wall = time.perf_counter() - began
        message, cpu, memory = "", 0.0, 0
        if answer == TIME:
            message = f"stopped at the limit of {self._limits.seconds:g} s"
            # of the child's own clock nothing is left
            cpu = wall
        elif answer == MEMORY:
            memory = self._peak
            message = f"stopped at {memory / 1e9:.2f} GB, over the limit of {(self._limits.memory or 0) / 1e9:.2f} GB"
        else:
            message = self._last_words(answer)
            answer = CRASHED
        return Attempt(effort, answer, message, at, wall, cpu, memory, self._host), None, None

    def _ask(self, request: tuple[Any, ...], seconds: float | None, memory: int | None) -> Any:
        """The child's answer; as a string the limit that it hit, or how it ended."""
        connection = self._start()
        end = None if seconds is None else time.monotonic() + seconds
        self._peak = 0
        try:
            connection.send(request)
            while not connection.poll(LOOK if end is None else min(LOOK, max(end - time.monotonic(), 0.0))):
                if self.stop():
                    raise _StoppedError
                if end is not None and time.monotonic() >= end:
                    self.close()
                    return TIME
                if memory is not None and self._child is not None:
                    self._peak = max(self._peak, resident(self._child.pid))
                    if self._peak > memory:
                        self.close()
                        return MEMORY
            return connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return self._how_it_ended()

    def _start(self) -> Connection:
        if self._connection is not None:
            if os.fstat(self._output.fileno()).st_size > NOISE:
                self._output.truncate(0)
            return self._connection
        ours, theirs = Pipe()
        count = str(self._threads)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)
        self._output.truncate(0)
        self._child = subprocess.Popen(
            [sys.executable, "-m", "heliodor.label.child", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._output,
            env=os.environ | threads,
            start_new_session=True,
        )
        theirs.close()
        self._connection = ours
        # whether it could even start shows when it is asked
        with suppress(BrokenPipeError):
            ours.send((self._find, self._threads, self._limits.memory))
        return ours

    def _how_it_ended(self) -> str:
        child = self._child
        assert child is not None
        with suppress(subprocess.TimeoutExpired):
            child.wait(5.0)
        code = child.poll()
        self.close()
        if code is None:
            return "its process stopped answering"
        if code < 0:
            name = signal.Signals(-code).name
            why = ", perhaps by the system for want of memory" if -code == signal.SIGKILL else ""
            return f"its process was ended by {name}{why}"
        return f"its process ended with exit status {code}"

    def _last_words(self, how: str) -> str:
        end = os.fstat(self._output.fileno()).st_size
        text = os.pread(self._output.fileno(), 2000, max(0, end - 2000)).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"{how}; its last words: {lines[-1][:300]}" if lines else how


_RUNNERS: dict[tuple[str, Limits, int], Runner] = {}
"""Of this process: a child that has its method ready is kept from one shard to the next."""


def run_shard(shard: Shard, stop: Callable[[], bool] | None = None) -> Ended:
    """Do the jobs of a shard; what comes out goes to its spool as it comes.

    Args:
        stop: asked between jobs and while one runs; by default whether the shard's master, if it is on this machine,
            is gone.
    """
    stop = partial(_unwanted, shard) if stop is None else stop
    kind = (shard.find, shard.limits, shard.threads)
    if kind not in _RUNNERS:
        _RUNNERS[kind] = Runner(*kind, stop)
    runner = _RUNNERS[kind]
    runner.stop = stop
    kept: list[Frame] = []
    spool = None
    frame: Frame | None = None
    try:
        spool = None if shard.spool is None else Spool(Path(shard.spool))
        write = kept.append if spool is None else spool.write
        for job in shard.jobs:
            if stop():
                break
            frame = Started(job.id, time.time())
            write(frame)
            frame = runner.run(job)
            if frame is None:
                break
            write(frame)
    except BrokenWorkerError as error:
        return Ended(shard.key, str(error), frames=tuple(kept))
    except OSError as error:
        # the spool takes no more: what could not be written goes back by hand
        left = (frame,) if isinstance(frame, Outcome) else ()
        return Ended(shard.key, f"cannot write {shard.spool}: {error.strerror}", full=True, frames=left)
    finally:
        if spool is not None:
            spool.close()
    return Ended(shard.key, frames=tuple(kept))


def _unwanted(shard: Shard) -> bool:
    # a spool that was taken away says that this worker counts as lost
    return gone(shard.master) or (shard.spool is not None and not os.path.exists(shard.spool))


def main(descriptor: int) -> None:
    """A worker of this machine: shards come through a connection; it ends when that is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    waiting: list[Shard] = []
    closed = False

    def look() -> bool:
        nonlocal closed
        try:
            while not closed and connection.poll():
                waiting.append(connection.recv())
        except (EOFError, ConnectionResetError):
            closed = True
        return closed

    try:
        while not look():
            if not waiting:
                connection.poll(None)
                continue
            ended = run_shard(waiting.pop(0), look)
            if not closed:
                connection.send(ended)
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        for runner in _RUNNERS.values():
            runner.end()


if __name__ == "__main__":
    # under its own name, not as __main__: what it sends must be found by that name
    from heliodor.label import worker

    worker.main(int(sys.argv[1]))
