"""The loop: step, check, log, save, keep checkpoints; ends in order, leaving files that a restart goes on with.

Everything happens at absolute step numbers, so that a run in several parts does what it would do in one.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, runtime_checkable

from torch import nn

from heliodor.dynamics.files.log import Log
from heliodor.dynamics.files.storage import StorageError, cannot_write
from heliodor.dynamics.files.trajectory import Writer
from heliodor.dynamics.progress import Report
from heliodor.dynamics.state import MDState
from heliodor.dynamics.watch.checks import check_state, check_step
from heliodor.errors import SimulationError

STAGES = ("steps", "checks", "writing", "logging", "checkpoints")


@dataclass(frozen=True)
class Schedule:
    """How far and how often.

    Attributes:
        last_step: number of the step to end with, counted from the very start of the run.
        timestep: fs.
        save_every, log_every: steps; at multiples of these.
        temperature: K; what checks for runaway heating compare with.
        checkpoint_steps: keep a checkpoint at multiples of this; None for none.
        checkpoint_seconds: and whenever the last is this old; None for never.
    """

    last_step: int
    timestep: float
    save_every: int
    log_every: int
    temperature: float
    checkpoint_steps: int | None = None
    checkpoint_seconds: float | None = None

    def next_stop(self, step: int) -> int:
        """The first step after this one at which there is something to write, or the last."""
        every = [self.save_every, self.log_every, *([self.checkpoint_steps] if self.checkpoint_steps else [])]
        return min(self.last_step, *((step // n + 1) * n for n in every))


@runtime_checkable
class Watch(Protocol):
    """What looks at the states of a run."""

    def look(self, state: MDState, thorough: bool) -> bool:
        """Whether the run should end here, in order; raises SimulationError when the dynamics left physics."""
        ...

    def failed(self, state: MDState, error: SimulationError) -> SimulationError:
        """What to raise instead of an error of its own or of a step; ``state`` is the last one there is."""
        ...


@runtime_checkable
class Launches(Protocol):
    """What takes several steps at once: see `heliodor.dynamics.captured.run`."""

    def advance(self, state: MDState, until: Callable[[int], int]) -> MDState:
        """A later state; none is passed over that ``until`` says comes next after a step."""
        ...


@dataclass(frozen=True)
class Ended:
    """How the loop ended.

    Attributes:
        state: the last one.
        seconds: wall time.
        ended: "finished", "interrupted" (a signal), "walltime", or "asked" (by the watch).
        timings: seconds for each of `STAGES`. On a GPU the steps' work is waited for in what comes after them.
    """

    state: MDState
    seconds: float
    ended: str
    timings: dict[str, float]


def run_loop(
    state: MDState,
    advance: Callable[[MDState], MDState],
    schedule: Schedule,
    *,
    writer: Writer | None,
    log: Log,
    report: Callable[[Report], None],
    stop: Callable[[], bool],
    watch: Watch | None = None,
    checkpoint: Callable[[MDState, dict[str, Any]], None] | None = None,
    walltime: float | None = None,
    launches: Launches | None = None,
) -> Ended:
    """Take steps up to the schedule's last; logs and saves at its multiples, the first state (unless writer and log
    have it already) and the last one.

    Checkpoints are kept at the start, as scheduled, and at every end in order; each after a thorough look, with all
    files on the disk. A last frame and line off the rhythm come after the last checkpoint: a restart cuts them off
    and leaves what an uninterrupted run leaves.

    Args:
        stop: asked before each step.
        watch: by default the checks of `heliodor.dynamics.watch.checks`.
        checkpoint: writes a state, and the marks to resume ``"trajectory"`` (None without one) and ``"log"`` from.
        walltime: seconds from now; the loop ends, its last checkpoint written, before they are over.
        launches: takes the steps instead of ``advance``, several at once; questions are asked and states looked at
            between them.

    Raises:
        StorageError: a file cannot be written; all files and the last checkpoint are as they were before.
        SimulationError: from the watch, after the last meaningful frame has been written.
    """
    run = _Run(schedule, writer, log, report, watch or _Checks(schedule), checkpoint, state)
    # on a GPU every look at the numbers waits for the device: there they are looked at when logged
    each_step = state.system.device.type == "cpu" or launches is not None
    previous = state
    ended = ""
    try:
        run.begin(state)
        while not ended:
            if state.step >= schedule.last_step:
                ended = "finished"
            elif stop():
                ended = "interrupted"
            elif walltime is not None and run.clock.elapsed + run.margin > walltime:
                ended = "walltime"
            else:
                previous = state
                state = advance(state) if launches is None else launches.advance(state, schedule.next_stop)
                run.clock.lap("steps")
                thorough = state.step % schedule.log_every == 0
                if thorough or each_step:
                    run.look(state, thorough)
                run.due(state)
                ended = "asked" if run.asked else ""
        run.keep(state)
    except StorageError:
        raise
    except SimulationError as error:
        finite = bool(state.forces.isfinite().all()) and bool(state.system.positions.isfinite().all())
        # the breakdown says more than a disk that filled up as well
        with suppress(StorageError):
            run.save(state if finite else previous)
        told = run.watch.failed(state, error)
        if told is error:
            raise
        raise told from error
    run.save(state)
    run.record(state)
    return Ended(state, run.clock.elapsed, ended, dict(run.clock.spent))


@dataclass
class _Clock:
    """Where the wall time goes."""

    # looked up when it starts: tests have clocks of their own
    begin: float = field(default_factory=lambda: time.perf_counter())
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    slowest: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def __post_init__(self) -> None:
        self._last = self.begin

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.begin

    def lap(self, stage: str) -> None:
        """Book the time since the last lap."""
        now = time.perf_counter()
        seconds = now - self._last
        self._last = now
        self.spent[stage] += seconds
        # a hiccup long ago is forgiven
        self.slowest[stage] = max(seconds, 0.99 * self.slowest[stage])


class _Run:
    """What is written of a run, and when."""

    def __init__(
        self,
        schedule: Schedule,
        writer: Writer | None,
        log: Log,
        report: Callable[[Report], None],
        watch: Watch,
        checkpoint: Callable[[MDState, dict[str, Any]], None] | None,
        first: MDState,
    ) -> None:
        self._schedule, self._writer, self._log, self._report = schedule, writer, log, report
        self.watch, self._checkpoint, self._first = watch, checkpoint, first
        self._saved = -1 if writer is None else writer.mark()["step"]
        self._logged: int = log.mark()["step"]
        self._kept = self._looked = -1
        self.asked = False
        self._kept_at = time.perf_counter()
        self.clock = _Clock()

    @property
    def margin(self) -> float:
        """Seconds that one more step and an end in order may take."""
        slowest = self.clock.slowest
        return 2.0 * sum(slowest.values()) + slowest["checks"]

    def begin(self, state: MDState) -> None:
        self.look(state, True)
        if self._saved < 0:
            self.save(state)
        if self._logged < 0:
            self.record(state)
        self.due(state)
        # the first checkpoint shows whether there is room for one, and how long it takes
        self.keep(state)

    def look(self, state: MDState, thorough: bool) -> None:
        # a look before a checkpoint counts as much: what it finds is not found again
        self.asked |= self.watch.look(state, thorough)
        if thorough:
            self._looked = state.step
        self.clock.lap("checks")

    def due(self, state: MDState) -> None:
        """What the schedule has for this step."""
        schedule, step = self._schedule, state.step
        if step % schedule.log_every == 0:
            self.record(state)
        if step % schedule.save_every == 0:
            self.save(state)
        old = schedule.checkpoint_seconds
        if (schedule.checkpoint_steps is not None and step % schedule.checkpoint_steps == 0) or (
            old is not None and time.perf_counter() - self._kept_at >= old
        ):
            self.keep(state)

    def save(self, state: MDState) -> None:
        if self._writer is not None and self._saved != state.step:
            self._writer.write(state)
            self._saved = state.step
            self.clock.lap("writing")

    def record(self, state: MDState) -> None:
        if self._logged == state.step:
            return
        self._log.write(state)
        self._logged = state.step
        hot, drift = (float(self._log.last[name].mean()) for name in ("temperature_K", "drift_meV_per_atom_ps"))
        first = self._first
        self._report(
            Report(
                state.step,
                self._schedule.last_step,
                state.time,
                self.clock.elapsed,
                hot,
                drift,
                first_step=first.step,
                first_time=first.time,
            )
        )
        self.clock.lap("logging")

    def keep(self, state: MDState) -> None:
        """A checkpoint, once per step: files first, then the marks in them, then the state."""
        if self._checkpoint is None or self._kept == state.step:
            return
        if self._looked != state.step:
            # a broken state must not replace a good one
            self.look(state, True)
        marks = {"trajectory": None if self._writer is None else self._writer.mark(), "log": self._log.mark()}
        try:
            self._checkpoint(state, marks)
        except OSError as error:
            raise cannot_write(Path(str(error.filename or "the checkpoint")), error) from error
        self._kept, self._kept_at = state.step, time.perf_counter()
        self.clock.lap("checkpoints")


class _Checks:
    """The checks of single states as a `Watch`."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def look(self, state: MDState, thorough: bool) -> bool:
        (check_state if thorough else check_step)(state, self._schedule.temperature, self._schedule.timestep)
        return False

    def failed(self, state: MDState, error: SimulationError) -> SimulationError:
        return error


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """A question that turns true on Ctrl-C or SIGTERM, so that a step, a frame and a file can be finished.

    A second Ctrl-C interrupts at once. Signals reach the main thread only; elsewhere the answer stays False.
    """
    asked = False
    before = {}

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def frozen(potential: nn.Module) -> Iterator[None]:
    """Parameters without gradients inside, as they were outside: saves the graph through them."""
    wanted = [parameter for parameter in potential.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
