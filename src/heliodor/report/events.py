"""What the watch over a run noticed, from the restart file and the frames of trouble beside a trajectory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliodor.trajectory.trajectory import Trajectory


@dataclass(frozen=True)
class Noticed:
    """By the watch (see `heliodor.dynamics.watch`).

    Attributes:
        known: whether there is a restart file that says so; without one an empty list means nothing.
        events: ``kind``, ``time``, ``text`` ... of this structure, in order.
        planned: steps that the run was to take; None where unknown.
        trouble: file with the frames around events, if it exists.
    """

    known: bool
    events: tuple[Mapping[str, Any], ...]
    planned: int | None
    trouble: Path | None


def noticed(trajectory: Trajectory) -> Noticed:
    """Read what lies beside a trajectory; files that are missing or damaged count as not there."""
    path = trajectory.path
    trouble = path.with_name(path.stem + ".trouble.xyz")
    extra = _extra(path.with_suffix(".restart")) if trajectory.settings else None
    found = trouble if trouble.is_file() else None
    if extra is None:
        return Noticed(False, (), None, found)
    watch = extra.get("watch")
    events = watch.get("events", []) if isinstance(watch, dict) else []
    mine = tuple(e for e in events if isinstance(e, dict) and e.get("structure", 0) == trajectory.structure)
    steps = extra.get("steps")
    return Noticed(isinstance(watch, dict), mine, steps if isinstance(steps, int) else None, found)


def _extra(path: Path) -> dict[str, Any] | None:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            header = json.loads((file.metadata() or {})["heliodor"])
        extra = header["extra"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None
    return extra if isinstance(extra, dict) else None
