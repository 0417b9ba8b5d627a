"""How the end of a job is written into a store: its executions, and its label or its failure."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence

from heliodor.label.schema import FAILED, FINISHED
from heliodor.label.shard import Attempt, Outcome


def log(database: sqlite3.Connection, job: int, number: int, attempts: Sequence[Attempt]) -> None:
    """Add executions of a job, the first of which is its execution of that number."""
    database.executemany(
        "INSERT INTO attempts VALUES (?,?,?,?,?,?,?,?,?,?)",
        [
            (job, number + k, a.effort, a.outcome, a.message, a.started, a.wall, a.cpu, a.memory, a.host)
            for k, a in enumerate(attempts)
        ],
    )


def finish(database: sqlite3.Connection, outcome: Outcome) -> None:
    """Write a job's result, or its failure, and give it back."""
    last = outcome.attempts[-1]
    good = outcome.label is not None
    programs = None
    if good:
        versions = json.dumps(dict(outcome.versions), sort_keys=True)
        database.execute("INSERT OR IGNORE INTO programs(versions) VALUES (?)", (versions,))
        (programs,) = database.execute("SELECT id FROM programs WHERE versions=?", (versions,)).fetchone()
    database.execute(
        "UPDATE jobs SET state=?, master=NULL, shard=NULL, attempts=attempts+?, reason=?, error=?, energy=?, label=?, "
        "programs=?, effort=?, wall=?, cpu=?, memory=?, host=?, finished=? WHERE id=?",
        (
            FINISHED if good else FAILED,
            len(outcome.attempts),
            None if good else last.outcome,
            None if good else failure(outcome.attempts),
            outcome.energy,
            outcome.label,
            programs,
            last.effort if good else None,
            sum(a.wall for a in outcome.attempts),
            sum(a.cpu for a in outcome.attempts),
            max(a.memory for a in outcome.attempts),
            last.host,
            time.time(),
            outcome.job,
        ),
    )


def failure(attempts: Sequence[Attempt]) -> str:
    """What was tried, in words."""
    if len(attempts) == 1:
        return attempts[0].message
    return "; ".join(f"attempt {k} (effort {a.effort}): {a.message}" for k, a in enumerate(attempts, start=1))
