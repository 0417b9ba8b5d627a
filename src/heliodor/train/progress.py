"""What a run says while it goes on: a line for the user, the log, pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

from heliodor.train.dataset import Dataset
from heliodor.train.errors import Predicted
from heliodor.train.events import Events
from heliodor.train.losses import UNITS
from heliodor.train.run import Run
from heliodor.train.settings import TrainSettings
from heliodor.train.state import write_text

Progress = Callable[[float, str], None]
"""Called with the fraction done and a few words: errors, time left."""


def silent(fraction: float, words: str) -> None:
    """Say nothing."""


class Record:
    """Written after each validation: `log.csv`, now and then `curves.png` and `parity.png`, TensorBoard's events.

    Args:
        folder: of the run.

    Raises:
        MissingExtraError: TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, settings: TrainSettings) -> None:
        self.folder, self.every = folder, settings.plot_every
        self.events = Events(folder / "tensorboard") if settings.tensorboard else None

    def __call__(self, run: Run, predicted: Predicted, validation: Dataset) -> None:
        """After a validation of the run, whose last row it is.

        Args:
            predicted: answers for the structures that were validated on.
            validation: these structures.
        """
        write_log(self.folder / "log.csv", run)
        if self.events is not None:
            self.events.write(run.rows)
        # the first row is of the model as it came
        if self.every and len(run.rows) > 1 and (len(run.rows) - 1) % self.every == 0:
            from heliodor.train.curves import plot_curves, plot_parity

            try:
                plot_curves(run.rows, self.folder / "curves.png")
                plot_parity(predicted, validation, self.folder / "parity.png")
            except OSError:
                # a picture is no reason to end a run; where the disk is full the checkpoint says so
                for left in self.folder.glob("*.png.part"):
                    left.unlink(missing_ok=True)

    def close(self) -> None:
        """Flush what TensorBoard reads."""
        if self.events is not None:
            self.events.close()


def write_log(path: Path, run: Run) -> None:
    """One line for each validation."""
    names = list(dict.fromkeys(name for row in run.rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.7g}" for k, v in row.items()} for row in run.rows)
    write_text(path, text.getvalue())


def report(run: Run, settings: TrainSettings, progress: Progress, elapsed: float) -> None:
    """Steps, latest errors, time left."""
    fraction = run.rate.pace.progress(run.step)
    words = [f"step {run.step}"]
    if run.rows:
        for name in ("energy_shifted", "forces"):
            mae = run.rows[-1].get(f"validation_{name}_mae")
            unit, factor = UNITS[name.removesuffix("_shifted")]
            words += [] if mae is None else [f"{name.removesuffix('_shifted')} {factor * mae:.3g} {unit}"]
    if settings.in_stage_two(fraction):
        words.append("stage two")
    if settings.time:
        words.append(f"{duration(max(settings.seconds - elapsed, 0.0))} left")
    elif fraction > 0:
        words.append(f"{duration(elapsed / fraction * (1.0 - fraction))} left")
    progress(fraction, ", ".join(words))


def duration(seconds: float) -> str:
    """``"40 s"``, ``"12 min"``, ``"3.5 h"``."""
    if seconds < 90.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 5400.0 else f"{seconds / 3600.0:.1f} h"
