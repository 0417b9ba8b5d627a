"""Store: the truth of what is labelled. One SQLite file, one row a job, every result committed once."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import ase

from heliodor.errors import InputError
from heliodor.label.ending import finish, log
from heliodor.label.label import Method
from heliodor.label.packing import content_hash, pack_structure
from heliodor.label.process import gone, identity
from heliodor.label.rows import COLUMNS, Added, Counts, Row, row_of
from heliodor.label.schema import FAILED, FINISHED, RUNNING, STATES, WAITING, connect, told
from heliodor.label.shard import LOST, MEMORY, TIME, Attempt, Job, Limits, Outcome

LEASE = 300.0
"""Seconds without a heartbeat after which a master of another machine counts as dead."""

LOSSES = 5
"""Attempts of a job that may be lost with their worker before the job counts as failed."""

BATCH = 1000
"""Structures added in one transaction."""

_LIVING: set[str] = set()
"""Masters of this process that have not ended; one that could not take its leave, on a full disk, is not among them."""


class Store:
    """A file of jobs; any number of processes of one machine may have it open.

    Jobs are leased by masters (campaigns). A master shows by its heartbeat that it lives; the jobs of a dead one are
    taken up again (`reap`). A result is taken only from who holds the lease, in one transaction with all that belongs
    to it: nothing is ever committed twice.

    Raises:
        InputError: not a store, or one of another version.
        StoreError: from any method: disk full, no permission; what was committed before is intact.
    """

    def __init__(self, path: str | Path, create: bool = True) -> None:
        self.path = Path(path)
        self._database = connect(self.path, create)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the object is of no use afterwards."""
        self._database.close()

    # ---- filling

    def add(self, frames: Iterable[ase.Atoms], method: Method | str) -> Added:
        """Add structures to label with a method; those that are in already are left as they are.

        Raises:
            InputError: a structure without atoms, with positions that are not finite, or unreadable charge or spin;
                nothing after the last full thousand before it is added.
        """
        name = method if isinstance(method, str) else method.name
        new, seen, batch = 0, 0, []
        for seen, frame in enumerate(frames, start=1):
            try:
                key = content_hash(frame, name)
            except InputError as error:
                raise InputError(f"structure {seen - 1} cannot be labelled: {error}") from None
            words = (str(frame.info.get("kind", "")), str(frame.info.get("group", "")))
            batch.append((key, name, len(frame), pack_structure(frame), *words, time.time()))
            if len(batch) == BATCH:
                new += self._insert(batch)
                batch = []
        new += self._insert(batch)
        return Added(new, seen - new)

    def _insert(self, batch: list[tuple[Any, ...]]) -> int:
        with self._transaction() as database:
            before = database.total_changes
            database.executemany(
                'INSERT OR IGNORE INTO jobs(hash, method, atoms, structure, kind, "group", added) '
                "VALUES (?,?,?,?,?,?,?)",
                batch,
            )
            return int(database.total_changes - before)

    def keep_waiting(self, frames: Iterable[ase.Atoms], method: Method | str) -> int:
        """Take out the jobs that wait and are not these structures with this method; how many they were.

        Results, failures and jobs under way stay.
        """
        name = method if isinstance(method, str) else method.name
        wanted = {content_hash(frame, name) for frame in frames}
        with self._transaction() as database:
            waiting = database.execute("SELECT id, hash FROM jobs WHERE state=?", (WAITING,)).fetchall()
            out = [(job,) for job, key in waiting if key not in wanted]
            # numbers of jobs are used again
            database.executemany("DELETE FROM attempts WHERE job=?", out)
            database.executemany("DELETE FROM jobs WHERE id=?", out)
        return len(out)

    # ---- leases

    def register(self) -> str:
        """Begin as a master: the key under which jobs are leased."""
        key = uuid.uuid4().hex[:12]
        now = time.time()
        with self._transaction() as database:
            database.execute("INSERT INTO masters VALUES (?,?,?,?)", (key, identity(), now, now))
        _LIVING.add(key)
        return key

    def beat(self, master: str) -> None:
        """Show that a master lives."""
        now = time.time()
        _LIVING.add(master)
        with self._transaction() as database:
            # one that was silent for long may have been taken for dead and struck off
            database.execute(
                "INSERT INTO masters VALUES (?,?,?,?) ON CONFLICT(key) DO UPDATE SET beat=excluded.beat",
                (master, identity(), now, now),
            )

    def leave(self, master: str) -> None:
        """End as a master, or strike off a dead one: jobs still leased wait again."""
        _LIVING.discard(master)
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET state=?, master=NULL, shard=NULL WHERE state=? AND master=?",
                (WAITING, RUNNING, master),
            )
            database.execute("DELETE FROM masters WHERE key=?", (master,))

    def give_up(self, master: str) -> None:
        """End as a master when nothing can be written: the next one finds it dead."""
        _LIVING.discard(master)

    def dead(self, lease: float = LEASE) -> list[str]:
        """Masters that have ended without `leave`: their process is gone, or of another machine and silent."""
        now, own = time.time(), identity()
        found = [
            key
            for key, process, beat in self._all("SELECT key, process, beat FROM masters")
            if gone(process) or abs(now - beat) > lease or (process == own and key not in _LIVING)
        ]
        unknown = self._all(
            "SELECT DISTINCT master FROM jobs WHERE state=? AND master NOT IN (SELECT key FROM masters)", (RUNNING,)
        )
        return found + [key for (key,) in unknown]

    def shards(self, master: str) -> list[str]:
        """Keys of the shards that a master has jobs of."""
        rows = self._all("SELECT DISTINCT shard FROM jobs WHERE state=? AND master=?", (RUNNING, master))
        return [key for (key,) in rows]

    def take(self, master: str, shard: str, count: int) -> list[Job]:
        """Lease up to ``count`` waiting jobs, the first added first."""
        with self._transaction() as database:
            rows = database.execute(
                "SELECT id, method, structure, atoms FROM jobs WHERE state=? ORDER BY id LIMIT ?", (WAITING, count)
            ).fetchall()
            database.executemany(
                "UPDATE jobs SET state=?, master=?, shard=? WHERE id=?",
                [(RUNNING, master, shard, row[0]) for row in rows],
            )
        return [Job(*row) for row in rows]

    def release(self, master: str, shard: str, culprit: int | None = None, message: str = "", at: float = 0.0) -> None:
        """Give back what a shard has not finished.

        Args:
            culprit: the job that was running when its worker was lost: one attempt more, and after `LOSSES` such
                attempts a failure.
            message: how the worker was lost.
            at: when that job was begun.
        """
        with self._transaction() as database:
            held = (RUNNING, master, shard)
            if culprit is not None:
                row = database.execute(
                    "SELECT attempts, lost FROM jobs WHERE id=? AND state=? AND master=? AND shard=?", (culprit, *held)
                ).fetchone()
                if row is not None:
                    attempt = Attempt(0, LOST, message, at, max(time.time() - at, 0.0))
                    log(database, culprit, row[0], [attempt])
                    lost = row[1] + 1
                    state = FAILED if lost >= LOSSES else WAITING
                    error = f"its worker was lost {lost} times: {message}" if state == FAILED else None
                    database.execute(
                        "UPDATE jobs SET state=?, master=NULL, shard=NULL, attempts=attempts+1, lost=?, reason=?, "
                        "error=?, finished=? WHERE id=?",
                        (state, lost, LOST if error else None, error, time.time() if error else None, culprit),
                    )
            database.execute(
                "UPDATE jobs SET state=?, master=NULL, shard=NULL WHERE state=? AND master=? AND shard=?",
                (WAITING, *held),
            )

    def commit(self, master: str, outcomes: Mapping[str, Sequence[Outcome]]) -> list[Outcome]:
        """Write how jobs ended, by shard, in one transaction.

        Returns:
            Those that were taken; a job that this master does not hold, or no longer, is left as it is.
        """
        taken: list[Outcome] = []
        if not any(outcomes.values()):
            return taken
        with self._transaction() as database:
            for shard, some in outcomes.items():
                for outcome in some:
                    row = database.execute(
                        "SELECT attempts FROM jobs WHERE id=? AND state=? AND master=? AND shard=?",
                        (outcome.job, RUNNING, master, shard),
                    ).fetchone()
                    if row is not None:
                        log(database, outcome.job, row[0], outcome.attempts)
                        finish(database, outcome)
                        taken.append(outcome)
        return taken

    # ---- looking

    def counts(self, method: str | None = None) -> Counts:
        """Jobs by state, of one method or of all."""
        where, values = ("", ()) if method is None else (" WHERE method=?", (method,))
        rows = self._all(f"SELECT state, count(*) FROM jobs{where} GROUP BY state", values)
        return Counts(**{STATES[state]: number for state, number in rows})

    def methods(self, waiting: bool = False) -> list[str]:
        """Names of the methods of all jobs, or of those that are not done."""
        where = f" WHERE state IN ({WAITING}, {RUNNING})" if waiting else ""
        return [name for (name,) in self._all(f"SELECT DISTINCT method FROM jobs{where} ORDER BY method")]

    def versions(self, method: str) -> list[dict[str, str]]:
        """Programs and their versions that the labels by a method are of, each combination once."""
        rows = self._all(
            "SELECT versions FROM programs WHERE id IN (SELECT DISTINCT programs FROM jobs WHERE method=?) ORDER BY id",
            (method,),
        )
        return [json.loads(text) for (text,) in rows]

    def failures(self) -> dict[str, int]:
        """Failed jobs by reason, the most frequent first."""
        return dict(
            self._all("SELECT reason, count(*) FROM jobs WHERE state=? GROUP BY reason ORDER BY 2 DESC, 1", (FAILED,))
        )

    def attempts(self, job: int | None = None) -> list[tuple[int, Attempt]]:
        """Every execution, of one job or of all, in order: (job, attempt)."""
        where, values = ("", ()) if job is None else (" WHERE job=?", (job,))
        rows = self._all(
            "SELECT job, effort, outcome, message, started, wall, cpu, memory, host FROM attempts"
            f"{where} ORDER BY job, number",
            values,
        )
        return [(row[0], Attempt(*row[1:])) for row in rows]

    def history(self, limit: int = 2000, method: str | None = None) -> list[tuple[int, float, float]]:
        """Atoms, wall and CPU seconds of the jobs done last, with one method or any."""
        where, values = ("", []) if method is None else (" AND method=?", [method])
        return self._all(
            f"SELECT atoms, wall, cpu FROM jobs WHERE finished IS NOT NULL AND state=?{where} "
            "ORDER BY finished DESC LIMIT ?",
            [FINISHED, *values, limit],
        )

    def sizes(self) -> list[tuple[int, int]]:
        """Jobs that are not done by number of atoms: (atoms, jobs)."""
        return self._all(f"SELECT atoms, count(*) FROM jobs WHERE state IN ({WAITING}, {RUNNING}) GROUP BY atoms")

    def spent(self) -> tuple[float, float]:
        """Wall and CPU seconds of all attempts."""
        return self._all("SELECT coalesce(sum(wall), 0.0), coalesce(sum(cpu), 0.0) FROM attempts")[0]

    def rate(self, seconds: float = 600.0) -> float:
        """Jobs that ended per second, over the last seconds of work."""
        row = self._all("SELECT max(finished) FROM jobs")[0]
        if row[0] is None:
            return 0.0
        number, first = self._all("SELECT count(*), min(finished) FROM jobs WHERE finished>?", (row[0] - seconds,))[0]
        return (number - 1) / (row[0] - first) if number > 1 and row[0] > first else 0.0

    def rows(self, state: str | None = None, method: str | None = None) -> Iterator[Row]:
        """Jobs in the order in which they were added."""
        where: list[str] = []
        values: list[Any] = []
        if state is not None:
            where.append("state=?")
            values.append(STATES.index(state))
        if method is not None:
            where.append("method=?")
            values.append(method)
        yield from self._rows(f"WHERE {' AND '.join(where)}" if where else "", values)

    def find(self, atoms: ase.Atoms, method: str) -> Row | None:
        """The job of one structure, if there is one."""
        return next(self._rows("WHERE hash=?", [content_hash(atoms, method)]), None)

    def knows(self, key: bytes) -> bool:
        """Whether a job of this `packing.content_hash` is in."""
        return bool(self._all("SELECT 1 FROM jobs WHERE hash=?", (key,)))

    def _rows(self, where: str, values: list[Any]) -> Iterator[Row]:
        with told(self.path):
            found = self._database.execute(
                f"SELECT {COLUMNS} FROM jobs LEFT JOIN programs ON programs.id = programs {where} ORDER BY jobs.id",
                values,
            )
            for row in found:
                yield row_of(row)

    def retry_failed(self, reason: str | None = None) -> int:
        """Let failed jobs wait again, all or those of one reason; how many they were."""
        where, values = ("", []) if reason is None else (" AND reason=?", [reason])
        return self._retry(where, values)

    def retry_limited(self, limits: Limits) -> int:
        """Let jobs wait again that failed at a limit of time or memory that these are above; how many they were."""
        seconds, memory = (float("inf") if limit is None else limit for limit in (limits.seconds, limits.memory))
        where = " AND (reason=? AND wall<? OR reason=? AND memory<?)"
        return self._retry(where, [TIME, seconds, MEMORY, memory])

    def _retry(self, where: str, values: Sequence[Any]) -> int:
        with self._transaction() as database:
            done = database.execute(
                "UPDATE jobs SET state=?, lost=0, reason=NULL, error=NULL, finished=NULL WHERE state=?" + where,
                [WAITING, FAILED, *values],
            )
            return int(done.rowcount)

    # ---- SQLite

    def _all(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with told(self.path):
            return self._database.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with told(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                # SQLite itself has rolled back where the disk was full
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise


def open_store(path: str | Path) -> Store:
    """A store that is there.

    Raises:
        InputError: it is not there, not a store, or of another version.
    """
    return Store(path, create=False)
