"""The progress line: how far, how fast, how hot, how well conserved."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from heliodor.units import format_time

REFRESH = 0.25
"""Seconds between updates of the line."""


@dataclass(frozen=True)
class Report:
    """Where a run stands.

    Attributes:
        step, steps: done and in all, earlier parts of the run included.
        time: fs simulated.
        seconds: wall time spent in this part.
        temperature: K, mean over the structures.
        drift: of the conserved quantity, meV/atom/ps.
        first_step, first_time: where this part of the run began.
    """

    step: int
    steps: int
    time: float
    seconds: float
    temperature: float
    drift: float
    first_step: int = 0
    first_time: float = 0.0

    @property
    def ns_per_day(self) -> float:
        return 86400.0 * (self.time - self.first_time) * 1e-6 / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float:
        done = self.step - self.first_step
        return self.seconds * (self.steps - self.step) / done if done else float("nan")

    def line(self) -> str:
        """For people."""
        left = "" if self.step in (self.first_step, self.steps) else f"  {_clock(self.seconds_left)} left"
        return (
            f"{100.0 * self.step / max(1, self.steps):3.0f} %  {format_time(self.time)}  {self.ns_per_day:.3g} ns/day"
            f"{left}  {self.temperature:.0f} K  drift {self.drift:+.2g} meV/atom/ps"
        )


class ProgressLine:
    """Shows reports on stderr: a line that renews itself on a terminal, one line per tenth of the run in a file."""

    def __init__(self, shown: bool = True) -> None:
        self._live: Live | None = None
        self._shown = shown
        self._next = 0.0
        self._tenths = 0
        console = Console(stderr=True)
        if shown and console.is_terminal:
            # no thread: the line is renewed from the loop
            self._live = Live(console=console, auto_refresh=False)

    def show(self, report: Report) -> None:
        if not self._shown:
            return
        if self._live is not None:
            now = time.perf_counter()
            if now >= self._next or report.step == report.steps:
                self._next = now + REFRESH
                self._live.update(Text(report.line(), no_wrap=True, overflow="ellipsis"), refresh=True)
        elif 10 * report.step // max(1, report.steps) > self._tenths:
            self._tenths = 10 * report.step // max(1, report.steps)
            print(report.line(), file=sys.stderr, flush=True)

    def __enter__(self) -> ProgressLine:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
