"""TensorBoard's event files, for those who watch runs there."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heliodor.errors import MissingExtraError

GROUPS = ("training", "validation")
"""First words of columns that become folders of TensorBoard."""


class Events:
    """Appends the rows of a run's log to a folder of event files; a resumed run goes on where it was.

    Raises:
        MissingExtraError: the package tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        need_tensorboard()
        self.folder = folder
        self._writer: Any = None
        self._rows = 0

    def write(self, rows: Sequence[dict[str, float]]) -> None:
        """Add the rows that are new since the last call."""
        if self._writer is None:
            with warnings.catch_warnings():
                # tensorboard's own imports
                warnings.simplefilter("ignore")
                from torch.utils.tensorboard import SummaryWriter

                # written afresh from the first row on: what an earlier process wrote of these steps is not shown
                self._writer = SummaryWriter(str(self.folder), purge_step=0)
        for row in rows[self._rows :]:
            step = int(row["step"])
            for name, value in row.items():
                if name != "step" and math.isfinite(value):
                    self._writer.add_scalar(_tag(name), value, step)
        self._rows = len(rows)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def need_tensorboard() -> None:
    """Say so at once where TensorBoard is asked for and not there.

    Raises:
        MissingExtraError: the package tensorboard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise MissingExtraError("tensorboard", "train")


def _tag(name: str) -> str:
    for group in GROUPS:
        if name.startswith(f"{group}_"):
            return f"{group}/{name.removeprefix(f'{group}_')}"
    return f"run/{name}"
