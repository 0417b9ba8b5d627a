"""What is read back from a store of labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import ase

from heliodor.label.label import Label
from heliodor.label.packing import unpack_label, unpack_structure
from heliodor.label.schema import STATES

COLUMNS = (
    'jobs.id, hash, method, structure, kind, "group", state, label, reason, error, versions, effort, wall, cpu, '
    "memory, host"
)
"""Of the table jobs joined with programs, in the order that `row_of` expects."""


@dataclass(frozen=True)
class Added:
    """How many structures were new to a store, and how many it knew."""

    new: int
    known: int


@dataclass(frozen=True)
class Counts:
    """Jobs by state."""

    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        return self.waiting + self.running + self.done + self.failed

    @property
    def left(self) -> int:
        return self.waiting + self.running


@dataclass(frozen=True, eq=False)
class Row:
    """One job that was read back.

    Attributes:
        reason: of a failure, in a word or two; error: in full.
        versions: of the programs whose result it is.
        effort: with which it succeeded.
        wall, cpu: s of all attempts; memory: bytes at the highest.
    """

    id: int
    hash: bytes
    method: str
    atoms: ase.Atoms
    state: str
    label: Label | None
    reason: str
    error: str
    versions: dict[str, str]
    effort: int | None
    wall: float
    cpu: float
    memory: int
    host: str


def row_of(row: tuple[Any, ...]) -> Row:
    """A job from its `COLUMNS`."""
    atoms = unpack_structure(row[3])
    atoms.info |= {"kind": row[4], "group": row[5]}
    return Row(
        id=row[0],
        hash=row[1],
        method=row[2],
        atoms=atoms,
        state=STATES[row[6]],
        label=None if row[7] is None else unpack_label(row[7]),
        reason=row[8] or "",
        error=row[9] or "",
        versions=json.loads(row[10]) if row[10] else {},
        effort=row[11],
        wall=row[12] or 0.0,
        cpu=row[13] or 0.0,
        memory=row[14] or 0,
        host=row[15] or "",
    )
