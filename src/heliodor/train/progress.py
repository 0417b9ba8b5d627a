"""What a run says while it goes on: a line for the user, and the log."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

from heliodor.train.losses import UNITS
from heliodor.train.run import Run
from heliodor.train.settings import TrainSettings
from heliodor.train.state import write_text

Progress = Callable[[float, str], None]
"""Called with the fraction done and a few words: errors, time left."""


def silent(fraction: float, words: str) -> None:
    """Say nothing."""


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
    if settings.time:
        words.append(f"{max(settings.seconds - elapsed, 0.0) / 60.0:.0f} min left")
    elif fraction > 0:
        words.append(f"{elapsed / fraction * (1.0 - fraction) / 60.0:.0f} min left")
    progress(fraction, ", ".join(words))
