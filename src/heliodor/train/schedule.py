"""The learning rate over a run, and how far the run has come."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from heliodor.train.settings import TrainSettings


@dataclass
class Pace:
    """How far a run has come, between 0 and 1, as a function of its steps alone between two looks at the clock.

    A run of so many epochs knows its last step. One of so many minutes measures its speed and corrects the estimate
    of its last step at each look; a resumed run takes the estimate over.

    Attributes:
        last: step at which the run is expected to end.
        most: step at which it ends at the latest, however fast it is.
    """

    last: float = math.inf
    base: float = 0.0
    base_step: int = 0
    most: float = math.inf

    def progress(self, step: int) -> float:
        """Fraction of the run that is over."""
        if not math.isfinite(self.last):
            return 0.0
        left = max(self.last - self.base_step, 1.0)
        return min(1.0, self.base + (1.0 - self.base) * (step - self.base_step) / left)

    def look(self, step: int, elapsed: float, seconds_per_step: float, limit: float) -> None:
        """Correct the estimate, from now on."""
        self.base, self.base_step = self.progress(step), step
        self.last = min(step + max((limit - elapsed) / max(seconds_per_step, 1e-9), 0.0), self.most)


@dataclass
class Plateau:
    """Factor on the learning rate that falls where validation no longer improves."""

    factor: float = 1.0
    best: float = math.inf
    waited: int = 0

    def note(self, score: float, settings: TrainSettings) -> None:
        if score < self.best:
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited > settings.plateau_patience:
            self.factor *= settings.plateau_factor
            self.waited = 0


@dataclass
class Rate:
    """The learning rate of each step: warm-up, then the schedule; constant in stage two, as MACE's trainer has it."""

    settings: TrainSettings
    pace: Pace = field(default_factory=Pace)
    plateau: Plateau = field(default_factory=Plateau)

    def at(self, step: int) -> float:
        s = self.settings
        warm = min(1.0, (step + 1) / max(s.warmup_steps, 1))
        progress = self.pace.progress(step)
        if s.in_stage_two(progress):
            return s.learning_rate * warm * s.stage_two_rate
        if s.stage_two:
            # the schedule comes to its end where stage two takes over
            progress /= s.stage_two
        if s.schedule == "cosine":
            fall = s.final_rate + (1.0 - s.final_rate) * 0.5 * (1.0 + math.cos(math.pi * progress))
        elif s.schedule == "exponential":
            fall = s.final_rate**progress
        elif s.schedule == "plateau":
            fall = max(self.plateau.factor, s.final_rate)
        else:
            fall = 1.0
        return s.learning_rate * warm * fall

    @property
    def exhausted(self) -> bool:
        """Whether the plateau schedule has come to its end."""
        s = self.settings
        # stage two is still to come
        return s.schedule == "plateau" and not s.stage_two and self.plateau.factor < s.final_rate
