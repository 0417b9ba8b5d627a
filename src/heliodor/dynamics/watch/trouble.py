"""The last frames of a run, kept at hand and written to a file when something happens."""

from __future__ import annotations

import tempfile
from collections import deque
from dataclasses import replace
from pathlib import Path

import torch

from heliodor.dynamics.files.trajectory import open_writer
from heliodor.dynamics.state import MDState
from heliodor.errors import HeliodorError
from heliodor.neighbors import Neighbors
from heliodor.potential import Prediction

KEPT = 20
"""Frames kept of small systems."""

KEPT_ATOMS = 400_000
"""Atoms in all frames kept, unless that leaves fewer than `KEPT_LEAST`: 80 bytes each, so 32 MB."""

KEPT_LEAST = 3

AFTER = 3
"""Frames written after an event that does not stop the run."""

EPISODES = 20
"""Times per run that frames are written; a boiling reactor would fill the disk."""


class Trouble:
    """Keeps the last frames; writes those around an event, appending to one extended XYZ file per run.

    Attributes:
        path: of the file, None for none.
        stride: steps between frames kept; the newest state is kept as well.
        episodes: times that frames have been written.
        problem: why the file could not be written, None if it could.
    """

    def __init__(self, path: Path | None, n_atoms: int, stride: int, episodes: int = 0) -> None:
        self.path = path
        self.stride = stride
        self.episodes = episodes
        self.problem: str | None = None
        self._frames: deque[MDState] = deque(maxlen=max(KEPT_LEAST, min(KEPT, KEPT_ATOMS // max(1, n_atoms))))
        self._newest: MDState | None = None
        self._written = -1
        self._owed = 0

    @property
    def steps(self) -> list[int]:
        """Of the frames at hand."""
        return [frame.step for frame in self._all()]

    def keep(self, state: MDState) -> None:
        """Take note of a state whose numbers are finite; after an event, write it if its turn has come."""
        if self.path is None:
            return
        self._newest = bare(state)
        if not self._frames or state.step - self._frames[-1].step >= self.stride:
            self._frames.append(self._newest)
            if self._owed > 0:
                self._owed -= 1
                self._write([self._newest])

    def save(self, *, after: bool, always: bool = False) -> Path | None:
        """Write the frames at hand that are not in the file yet; with `after` also the next few.

        Args:
            always: however often frames have been written: for the end of a run.

        Returns:
            The file, None if there is none, it could not be written, or enough has been written.
        """
        if self.path is None or (self.episodes >= EPISODES and not always):
            return None
        self.episodes += 1
        self._owed = AFTER if after else 0
        self._write([frame for frame in self._all() if frame.step > self._written])
        return self.path if self.problem is None else None

    def _all(self) -> list[MDState]:
        frames = list(self._frames)
        if self._newest is not None and self._newest is not frames[-1]:
            frames.append(self._newest)
        return frames

    def _write(self, frames: list[MDState]) -> None:
        if not frames or self.path is None:
            return
        try:
            # the writer begins a new file; what it wrote is appended, whatever earlier part of the run left here
            with tempfile.TemporaryDirectory() as folder:
                with open_writer(Path(folder) / "frames.xyz", velocities=True, forces=True) as writer:
                    for frame in frames:
                        writer.write(frame)
                text = writer.path.read_text(encoding="utf-8")
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
        except (OSError, HeliodorError) as error:
            self.problem = str(error)
            return
        self._written = frames[-1].step


def bare(state: MDState) -> MDState:
    """A state with what a frame needs; lists and what the model said of each atom would be many times as large."""
    said, system, lists = state.prediction, state.system, state.neighbors
    none = torch.zeros(0, dtype=torch.int64, device=system.device)
    nowhere = torch.zeros(0, 3, dtype=torch.int64, device=system.device)
    empty = Neighbors(none, none, nowhere, lists.cutoff, lists.skin, lists.half, system.positions, system.cell)
    return replace(
        state,
        neighbors=empty,
        prediction=None if said is None else Prediction(energy=said.energy, charges=said.charges),
    )
