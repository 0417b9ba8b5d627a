"""CapturedRun: launches of many steps, each begun with fresh lists, judged by one reading, taken back if not right.

A launch copies the state aside, fills the lists, and takes its steps; every step looks on the device whether an atom
has left the skin. At the end the host reads a handful of numbers. If a list was too short or went stale, or a number
is not finite, what the launch did is forgotten: the state set aside comes back, there is made room, or fewer steps are
asked for, and the launch is repeated. Noise is a function of the step, so what is repeated is the same motion.

On a GPU the parts of a launch are CUDA graphs, recorded when first needed and played on a stream of their own; the
next launch is under way while the host looks at the state that the last one left, logs and writes it. On a CPU the
same functions are called one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from heliodor.dynamics.captured.launch import Evaluate, Launch
from heliodor.dynamics.captured.lists import Lists
from heliodor.dynamics.captured.memory import no_lists
from heliodor.dynamics.captured.motion import Motion
from heliodor.dynamics.state import MDState
from heliodor.dynamics.targets import Ramp
from heliodor.errors import InputError

FIRST, MOST = 8, 128
"""Steps of the first launch, and of any."""

AIM = 0.7
"""Part of the skin that a launch should use."""


class CapturedRun:
    """Advances one structure by launches; what is not in the `MDState` is only how long they are."""

    def __init__(
        self,
        state: MDState,
        motion: Motion,
        evaluate: Evaluate,
        lists: Lists,
        *,
        first: int = FIRST,
        most: int = MOST,
        ahead: bool | None = None,
        fuse: bool | None = None,
    ) -> None:
        """Set up for states like this one; nothing is computed yet.

        Args:
            first, most: steps of the first launch after a checkpoint's, and the most of any.
            ahead: begin the next launch before the state of the last is looked at; on GPUs by default.
            fuse: take steps by kernels of Triton where there are some; on GPUs by default.

        Raises:
            InputError: several structures, rigid bonds.
        """
        if state.system.n_structures != 1 or state.rigid is not None or state.piston is not None:
            raise InputError("captured steps move one structure without rigid bonds or the mtk barostat")
        self._timestep, self._fixed = motion.timestep, motion.barostat is None
        motion = replace(motion, ramp=Ramp(motion.ramp.knots.cpu(), motion.ramp.steps))
        device = state.system.device
        on_gpu = device.type == "cuda"
        self._launch = Launch(motion, evaluate, lists, device, on_gpu if fuse is None else fuse)
        self._ahead = on_gpu if ahead is None else ahead
        self.length, self._most = first, most
        self._last: MDState | None = None
        self._pending: int | None = None
        self.launches = self.repeated = 0

    def to_dict(self) -> dict[str, Any]:
        """What a restart needs beside the state, for JSON."""
        return {"length": self.length}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on with launches of the length that `to_dict` told."""
        self.length = min(max(int(saved.get("length", self.length)), 1), self._most)

    def advance(self, state: MDState, until: Callable[[int], int]) -> MDState:
        """The state some steps later; at most at the step that ``until`` says comes next after a step.

        Raises:
            SimulationError: positions that are not finite, a barostat out of bounds.
            InputError: an atom that has moved over more than 511 cells.
        """
        with self._launch.on_stream(state.system.device), torch.no_grad():
            if state is not self._last:
                self._launch.take(state)
                self._pending = None
            n = self._pending or self._begin(state.step, until)
            self._pending = None
            told = self._launch.read()
            while not told.good:
                self.repeated += 1
                self._launch.take_back(state.step)
                if told.far:
                    raise InputError("an atom has moved over more than 511 cells: wrap the positions and start anew")
                if not told.fits:
                    self._launch.make_room(state, told.wanted)
                elif n == 1:
                    return self._done(state, self._launch.careful(state), 1, until)
                else:
                    self.length = n = max(1, n // 2)
                self._start(n)
                told = self._launch.read()
            self._adapt(n, told.used)
            return self._done(state, self._launch.present(), n, until)

    def _done(self, before: MDState, after: MDState, n: int, until: Callable[[int], int]) -> MDState:
        time = before.time
        for _ in range(n):
            time += self._timestep
        system = after.system
        if self._fixed:
            system = system.replace(cell=before.system.cell)
        new = replace(
            after,
            system=system,
            neighbors=no_lists(system, before.neighbors.skin),
            prediction=self._launch.prediction(system),
            step=before.step + n,
            time=time,
        )
        self._last = new
        self._launch.hand_out(new)
        if self._ahead and until(new.step) > new.step:
            self._pending = self._begin(new.step, until)
        return new

    def _begin(self, step: int, until: Callable[[int], int]) -> int:
        left = max(1, until(step) - step)
        # as few launches as their length allows, equally long
        n = -(-left // -(-left // self.length))
        self._start(n)
        return n

    def _start(self, n: int) -> None:
        self.launches += 1
        self._launch.start(n)

    def _adapt(self, n: int, used: float) -> None:
        """Launches that use their share of the skin; shorter ones at once, longer ones by and by."""
        fit = self._most if used <= 0.0 else int(n * AIM / used)
        self.length = min(max(1, fit), 2 * max(self.length, 1), self._most)
