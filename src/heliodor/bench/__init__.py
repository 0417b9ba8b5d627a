"""How far models are from reference data: interaction energies, conformers, torsions, crystals, forces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliodor.lazy import attach

if TYPE_CHECKING:
    from heliodor.bench.reactions import Reaction, ReactionSet, read_set
    from heliodor.bench.result import Errors, Row, SetResult, Task
    from heliodor.bench.run import run_task
    from heliodor.bench.sets import find_data, open_tasks

__all__ = [
    "Errors",
    "Reaction",
    "ReactionSet",
    "Row",
    "SetResult",
    "Task",
    "find_data",
    "open_tasks",
    "read_set",
    "run_task",
]

_HOMES = {
    "Errors": "heliodor.bench.result",
    "Reaction": "heliodor.bench.reactions",
    "ReactionSet": "heliodor.bench.reactions",
    "Row": "heliodor.bench.result",
    "SetResult": "heliodor.bench.result",
    "Task": "heliodor.bench.result",
    "find_data": "heliodor.bench.sets",
    "open_tasks": "heliodor.bench.sets",
    "read_set": "heliodor.bench.reactions",
    "run_task": "heliodor.bench.run",
}


__getattr__, __dir__ = attach(__name__, _HOMES)
