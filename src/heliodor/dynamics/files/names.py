"""The files of a run: their names, where they go, and how a restart finds them again."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from heliodor.dynamics.files.trajectory import kind_of, refuse_existing


@dataclass(frozen=True)
class Files:
    """What a run writes; None for what is not wanted.

    Attributes:
        output: trajectory.
        log: CSV.
        plot: PNG of the log.
        checkpoint: what a restart goes on from.
        record: JSON with everything needed to repeat the run.
        trouble: frames around events that the watch noticed.
    """

    output: Path | None = None
    log: Path | None = None
    plot: Path | None = None
    checkpoint: Path | None = None
    record: Path | None = None
    trouble: Path | None = None

    def to_dict(self, folder: Path) -> dict[str, str | None]:
        """Names relative to a folder, so that it can be moved as a whole."""
        paths = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: None if path is None else os.path.relpath(path, folder) for name, path in paths.items()}

    @staticmethod
    def from_dict(names: dict[str, str | None], folder: Path) -> Files:
        """The opposite of `to_dict`."""
        return Files(**{name: None if path is None else folder / path for name, path in names.items()})


def named(
    output: str | Path | None, *, log: str | Path | None = "auto", plot: str | Path | None = "auto", overwrite: bool
) -> Files:
    """The files beside a trajectory: run.h5, run.csv, run.png, run.restart, run.json, run.trouble.xyz.

    Args:
        output: trajectory; None for none, and nothing beside it but what is named.
        log, plot: other names; None for none.
        overwrite: existing files will be replaced.

    Raises:
        InputError: unknown format, no such folder, or a file that exists and may not be replaced.
    """
    trajectory = None if output is None else Path(output)
    if trajectory is not None:
        kind_of(trajectory)

    def beside(wish: str | Path | None, suffix: str) -> Path | None:
        if wish == "auto":
            return None if trajectory is None else trajectory.with_suffix(suffix)
        return None if wish is None else Path(wish)

    files = Files(
        output=trajectory,
        log=beside(log, ".csv"),
        plot=beside(plot, ".png"),
        checkpoint=beside("auto", ".restart"),
        record=beside("auto", ".json"),
        trouble=beside("auto", ".trouble.xyz"),
    )
    for f in fields(files):
        path = getattr(files, f.name)
        if path is not None:
            refuse_existing(path, overwrite)
    return files
