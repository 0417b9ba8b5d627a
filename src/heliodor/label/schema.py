"""The tables of a store of labels, and opening one: SQLite with a write-ahead log."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heliodor.errors import HeliodorError, InputError

VERSION = 1
"""Of the tables; a store of another version is refused."""

APPLICATION = 0x48454C49
"""Written into the file's header: SQLite's way to say whose a database is."""

WAITING, RUNNING, FINISHED, FAILED = 0, 1, 2, 3
STATES = ("waiting", "running", "done", "failed")

TABLES = """
CREATE TABLE jobs(
    id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, method TEXT NOT NULL, atoms INTEGER NOT NULL,
    structure BLOB NOT NULL, kind TEXT NOT NULL, "group" TEXT NOT NULL, added REAL NOT NULL,
    state INTEGER NOT NULL DEFAULT 0, master TEXT, shard TEXT,
    attempts INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0,
    reason TEXT, error TEXT, energy REAL, label BLOB, programs INTEGER REFERENCES programs(id), effort INTEGER,
    wall REAL, cpu REAL, memory INTEGER, host TEXT, finished REAL
);
CREATE INDEX by_state ON jobs(state, id);
CREATE INDEX by_size ON jobs(state, atoms);
CREATE INDEX by_finish ON jobs(finished) WHERE finished IS NOT NULL;
CREATE TABLE attempts(
    job INTEGER NOT NULL REFERENCES jobs(id), number INTEGER NOT NULL, effort INTEGER NOT NULL, outcome TEXT NOT NULL,
    message TEXT NOT NULL, started REAL NOT NULL, wall REAL NOT NULL, cpu REAL NOT NULL, memory INTEGER NOT NULL,
    host TEXT NOT NULL, PRIMARY KEY(job, number)
) WITHOUT ROWID;
CREATE TABLE programs(id INTEGER PRIMARY KEY, versions TEXT NOT NULL UNIQUE);
CREATE TABLE masters(key TEXT PRIMARY KEY, process TEXT NOT NULL, started REAL NOT NULL, beat REAL NOT NULL);
"""


class StoreError(HeliodorError):
    """The store cannot be written: disk full, no permission, damage. What was committed before is intact."""


def connect(path: Path, create: bool) -> sqlite3.Connection:
    """Open a store, or make one.

    Raises:
        InputError: there is none and none is to be made; not a store; a store of another version.
        StoreError: no room, no permission.
    """
    if not path.exists() and not create:
        raise InputError(f"there is no store {path}")
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a store")
    if not path.absolute().parent.is_dir():
        raise InputError(f"there is no folder {path.absolute().parent} to put the store {path.name} into")
    with told(path):
        database = sqlite3.connect(path, timeout=60.0, isolation_level=None)
        try:
            _prepare(database, path)
        except BaseException:
            database.close()
            raise
    return database


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    # before anything is written: another program's file stays as it is
    _check(database, path)
    database.execute("PRAGMA journal_mode=WAL")
    # every commit holds the outcomes of some tenths of a second: it can afford to reach the disk
    database.execute("PRAGMA synchronous=FULL")
    database.execute("BEGIN IMMEDIATE")
    try:
        # another process may have made the tables meanwhile
        if not _check(database, path):
            for statement in TABLES.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA application_id={APPLICATION}")
            database.execute(f"PRAGMA user_version={VERSION}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _check(database: sqlite3.Connection, path: Path) -> bool:
    """Whether the tables are there."""
    (owner,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not owner and not tables:
        return False
    if owner != APPLICATION:
        raise InputError(f"{path} is a database of another program, not a store of labels")
    if version != VERSION:
        side = "newer" if version > VERSION else "older"
        raise InputError(
            f"{path} is a store of version {version}, from {side} heliodor; this one reads version {VERSION}: "
            "export it with that heliodor, or begin a new store"
        )
    return True


@contextmanager
def told(path: Path) -> Iterator[None]:
    """SQLite's errors in words."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            raise InputError(f"{path} is not a store of labels") from error
        if code == sqlite3.SQLITE_CORRUPT:
            raise InputError(f"{path} is damaged: {error}") from error
        raise StoreError(_cause(path, code, error)) from error


def _cause(path: Path, code: int, error: Exception) -> str:
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        free = os.statvfs(path.absolute().parent)
        full = code == sqlite3.SQLITE_FULL or free.f_bavail * free.f_frsize < 1 << 20
        cause = "the disk is full" if full else f"the disk does not take it ({error})"
        return full_disk(path, cause)
    if code == sqlite3.SQLITE_BUSY:
        return f"the store {path} has been locked by another process for a minute: is that one stopped?"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return f"the store {path} cannot be written: no permission there, or a disk that is read-only"
    return f"the store {path} cannot be used: {error}"


def full_disk(path: Path, cause: str) -> str:
    """The words for a disk that takes no more."""
    return (
        f"cannot write {path}: {cause}; all results committed before are intact: make room, then give the same "
        "command again"
    )


def is_full(error: OSError) -> bool:
    """Whether this error of the system means that there is no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
