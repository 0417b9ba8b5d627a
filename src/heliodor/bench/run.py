"""Doing a task: what is known is read, what is missing is computed and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from heliodor.bench.record import model_key, read_rows, rows_file, write_row
from heliodor.bench.result import SetResult, Task
from heliodor.potential import Potential, check_energy


def run_task(
    potential: Potential,
    task: Task,
    folder: Path | None = None,
    *,
    quick: bool = False,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    key: str | None = None,
) -> SetResult:
    """A model's rows of one set.

    Args:
        folder: rows are kept here and taken from here if model and data are the same; None: nowhere.
        quick: only the task's quick part.
        name: the model's in tables; default `potential.name`.
        progress: called with rows done and all rows.
        key: of the model (`model_key`), where it is known already.

    Raises:
        ModelError: a model without energies.
    """
    check_energy(potential)
    wanted = task.quick if quick else task.items
    file = None if folder is None else rows_file(folder, task, key or model_key(potential))
    known = {} if file is None else read_rows(file)
    missing = [item for item in wanted if item not in known]
    done = len(wanted) - len(missing)
    if progress:
        progress(done, len(wanted))
    for row in task.evaluate(potential, missing) if missing else ():
        known[row.name] = row
        if file is not None:
            write_row(file, row)
        done += 1
        if progress:
            progress(done, len(wanted))
    rows = tuple(known[item] for item in wanted if item in known)
    return SetResult(
        name or potential.name, task.name, task.title, task.level, task.unit, task.note, len(task.items), rows
    )
