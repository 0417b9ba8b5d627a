"""Rows kept on disk as they are made, so that a run that was stopped goes on."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

from heliodor.bench.result import Row, Task
from heliodor.potential import Potential

VERSION = 1
"""Raised when the protocols change, so that rows made by older ones are not taken for new."""


def model_key(potential: Potential) -> str:
    """SHA-256 of all that decides a model's numbers: parameters, configuration, cutoffs, precision."""
    digest = sha256()
    for name, part in potential.named_modules():
        if isinstance(part, Potential):
            words = [name, type(part).__name__, part.kernels, str(part.dtype), repr(getattr(part, "config", None))]
            if part.has_long_range:
                words += [repr(part.long_range_cutoff), repr(getattr(part, "dispersion_damping_width", None))]
            digest.update("\0".join(words).encode())
    state: dict[str, Tensor] = potential.state_dict()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def rows_file(folder: Path, task: Task, key: str) -> Path:
    """Where the rows of a task by a model are."""
    both = sha256(f"{VERSION} {task.key} {key}".encode()).hexdigest()[:16]
    return folder / f"{task.name}-{both}.jsonl"


def read_rows(path: Path) -> dict[str, Row]:
    """Rows by name; a last line cut off by a kill is left out, and cut off the file."""
    if not path.exists():
        return {}
    known = {field.name for field in fields(Row)}
    rows: dict[str, Row] = {}
    good = 0
    content = path.read_bytes()
    for line in content.splitlines(keepends=True):
        try:
            values: dict[str, Any] = json.loads(line)
            filled: dict[str, Any] = {k: float("nan") if v is None else v for k, v in values.items() if k in known}
            row = Row(**filled)
        except (AttributeError, TypeError, ValueError):
            break
        if not line.endswith(b"\n"):
            break
        rows[row.name] = row
        good += len(line)
    if good < len(content):
        os.truncate(path, good)
    return rows


def write_row(path: Path, row: Row) -> None:
    """Append a row; it is on disk when this returns."""
    values = {k: None if isinstance(v, float) and v - v != 0.0 else v for k, v in asdict(row).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(values, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
