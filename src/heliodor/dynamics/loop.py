"""The loop: step, check, log, save; stops on a signal after a whole step and leaves the last frame in the file."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from torch import nn

from heliodor.dynamics.checks import check_state, check_step
from heliodor.dynamics.log import Log
from heliodor.dynamics.progress import Report
from heliodor.dynamics.state import MDState
from heliodor.dynamics.trajectory import Writer
from heliodor.errors import SimulationError


@dataclass(frozen=True)
class Schedule:
    """How far and how often.

    Attributes:
        steps: to take.
        timestep: fs.
        save_every, log_every: steps.
        temperature: K; what checks for runaway heating compare with.
    """

    steps: int
    timestep: float
    save_every: int
    log_every: int
    temperature: float


def run_loop(
    state: MDState,
    advance: Callable[[MDState], MDState],
    schedule: Schedule,
    *,
    writer: Writer | None,
    log: Log,
    report: Callable[[Report], None],
    stop: Callable[[], bool],
) -> tuple[MDState, float]:
    """Take the steps; logs and saves the state handed in, every so many steps, and the last one.

    Returns:
        The last state and the wall time, s.

    Raises:
        SimulationError: from `heliodor.dynamics.checks`, after the last meaningful frame has been written.
    """
    begin = time.perf_counter()
    first, saved, logged = state.step, -1, -1
    # on a GPU every look at the numbers waits for the device: there they are looked at when logged
    each_step = state.system.device.type == "cpu"

    def save(state: MDState) -> None:
        nonlocal saved
        if writer is not None and saved != state.step:
            writer.write(state)
        saved = state.step

    def record(state: MDState) -> None:
        nonlocal logged
        if logged != state.step:
            log.write(state)
            logged = state.step
            done = state.step - first
            elapsed = time.perf_counter() - begin
            hot, drift = (float(log.last[name].mean()) for name in ("temperature_K", "drift_meV_per_atom_ps"))
            report(Report(done, schedule.steps, done * schedule.timestep, elapsed, hot, drift))

    previous = state
    try:
        check_state(state, schedule.temperature, schedule.timestep)
        save(state)
        record(state)
        while state.step - first < schedule.steps and not stop():
            previous = state
            state = advance(state)
            done = state.step - first
            if done % schedule.log_every == 0:
                check_state(state, schedule.temperature, schedule.timestep)
                record(state)
            elif each_step:
                check_step(state, schedule.temperature, schedule.timestep)
            if done % schedule.save_every == 0:
                save(state)
    except SimulationError:
        finite = bool(state.forces.isfinite().all()) and bool(state.system.positions.isfinite().all())
        save(state if finite else previous)
        raise
    save(state)
    record(state)
    return state, time.perf_counter() - begin


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
