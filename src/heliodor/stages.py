"""Stages: pieces of work that are skipped when their inputs have not changed, and can be taken up when killed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heliodor.checkpoint import sha256
from heliodor.errors import InputError

Tell = Callable[[str, str, int, int], None]
"""Called with the stage, what it does, and how much of how much is done (0 of 0 where that means nothing)."""


@dataclass(frozen=True)
class Stage:
    """One piece of work.

    Attributes:
        name: a word.
        title: what it does, for people.
        needs: names of stages whose outputs it reads.
        settings: the choices it depends on, JSON only.
        outputs: files it makes, relative to the folder of the pipeline.
        work: does it; what it returns is kept in its record (JSON only).
        version: counted up when the work changes what it makes of the same inputs.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    settings: Any
    outputs: tuple[str, ...]
    work: Callable[[Callable[[str, int, int], None]], Mapping[str, Any]]
    version: int = 1


@dataclass(frozen=True)
class Record:
    """What is known of a finished stage.

    Attributes:
        key: of its inputs.
        outputs: SHA-256 of each file.
        sizes: bytes of each file, and its time stamp in ns.
        facts: what its work returned.
        seconds: it took.
    """

    key: str
    outputs: dict[str, str]
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def key_of(stage: Stage, before: Mapping[str, Record]) -> str:
    """SHA-256 over the stage's settings and the contents of what it reads."""
    parts = {
        "name": stage.name,
        "version": stage.version,
        "settings": stage.settings,
        "reads": {name: before[name].outputs for name in stage.needs},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def is_current(stage: Stage, folder: Path, before: Mapping[str, Record]) -> Record | None:
    """The record of a stage that needs not be done again; None for one that does."""
    if any(name not in before for name in stage.needs):
        return None
    record = read_record(stage.name, folder)
    if record is None or record.key != key_of(stage, before) or set(record.outputs) != set(stage.outputs):
        return None
    for name, digest in record.outputs.items():
        path = folder / name
        if not path.is_file():
            return None
        # contents are read again only where somebody touched the file
        if _stamp(path) != tuple(record.sizes.get(name, ())) and sha256(path) != digest:
            return None
    return record


def run_stages(
    stages: Sequence[Stage], folder: Path, tell: Tell = lambda stage, what, done, of: None
) -> dict[str, Record]:
    """Do what has to be done, in order.

    A stage that is killed leaves no record: it is done again, by work that takes up what it finds in its folder.

    Raises:
        InputError: another process works in this folder; a stage that made less than it should.
    """
    with _alone(folder):
        done: dict[str, Record] = {}
        for stage in stages:
            record = is_current(stage, folder, done)
            if record is not None:
                tell(stage.name, f"unchanged: {summary(record.facts)}", 1, 1)
                done[stage.name] = record
                continue
            key = key_of(stage, done)
            begun = time.perf_counter()
            tell(stage.name, stage.title, 0, 0)
            facts = stage.work(_teller(tell, stage.name))
            missing = [name for name in stage.outputs if not (folder / name).is_file()]
            if missing:
                raise InputError(f"stage {stage.name} ended without making {', '.join(missing)}")
            record = Record(
                key,
                {name: sha256(folder / name) for name in stage.outputs},
                {name: _stamp(folder / name) for name in stage.outputs},
                dict(facts),
                time.perf_counter() - begun,
            )
            _write_record(stage.name, record, folder)
            done[stage.name] = record
            tell(stage.name, f"{summary(record.facts)} ({record.seconds:.0f} s)", 1, 1)
        return done


def _teller(tell: Tell, name: str) -> Callable[[str, int, int], None]:
    return lambda what, done, of: tell(name, what, done, of)


def summary(facts: Mapping[str, Any]) -> str:
    """The numbers and words among the facts in one line."""
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in facts.items() if isinstance(v, (int, float, str)))


def read_record(name: str, folder: Path) -> Record | None:
    """What is known of a stage; None where nothing is, or nothing that can be read."""
    try:
        values = json.loads((folder / "stages" / f"{name}.json").read_text(encoding="utf-8"))
        sizes = {name: (int(size), int(stamp)) for name, (size, stamp) in values.pop("sizes").items()}
        return Record(sizes=sizes, **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write_record(name: str, record: Record, folder: Path) -> None:
    from heliodor.dynamics.files.storage import write_durably

    (folder / "stages").mkdir(exist_ok=True)
    text = json.dumps(record.__dict__, indent=1, ensure_ascii=False, default=str)
    write_durably(folder / "stages" / f"{name}.json", text.encode())


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No second pipeline in the same folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"another heliodor works in {folder}: wait for it, or take another --output") from None
        yield
