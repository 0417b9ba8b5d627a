"""What travels between a campaign and its workers: jobs one way, outcomes the other. Standard library only."""

from __future__ import annotations

import base64
import importlib
import inspect
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FIND = "heliodor.label.methods:find_method"
"""What makes a method from its name, as ``module:function``."""

SHARE = 0.75
"""Of the memory of a job, what its program is told to use."""

NOT_CONVERGED = "not converged"
REFUSED = "refused"
ERROR = "error"
CRASHED = "crashed"
LOST = "lost"
TIME = "time limit"
MEMORY = "memory limit"
DONE = "done"


@dataclass(frozen=True)
class Limits:
    """What one job may use.

    Attributes:
        seconds: wall time of one attempt; None: no limit.
        memory: bytes of the process of the job and what it starts; None: no limit.
        crashes: attempts that may end in a segmentation fault or a kill before the job counts as failed.
    """

    seconds: float | None = None
    memory: int | None = None
    crashes: int = 3


@dataclass(frozen=True)
class Job:
    """One structure to label: ``structure`` as `packing.pack_structure` makes it."""

    id: int
    method: str
    structure: bytes
    atoms: int = 0


@dataclass(frozen=True)
class Shard:
    """Jobs that a worker does one after the other.

    Attributes:
        key: unique.
        find: what makes methods, as ``module:function``.
        spool: file for what comes out; None: everything is returned at the end.
        master: `process.identity` of who wants it; a worker on its machine stops when it is gone.
        threads: of each job.
    """

    key: str
    jobs: tuple[Job, ...]
    find: str
    limits: Limits
    spool: str | None
    master: str
    threads: int = 1


@dataclass(frozen=True)
class Attempt:
    """One execution of a job: how it ended, in one word and in full, seconds, bytes."""

    effort: int
    outcome: str
    message: str
    started: float
    wall: float
    cpu: float = 0.0
    memory: int = 0
    host: str = ""


@dataclass(frozen=True)
class Started:
    """Written before a job is run: it is known which one took its worker down."""

    job: int
    at: float


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a label (packed), or with the last attempt's failure."""

    job: int
    attempts: tuple[Attempt, ...]
    label: bytes | None = None
    energy: float | None = None
    versions: tuple[tuple[str, str], ...] = ()


Frame = Started | Outcome


class Spool:
    """A file that a worker appends to: every frame with its length and checksum, whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, frame: Frame) -> None:
        """Append; what is written survives the death of this process.

        Raises:
            OSError: no room.
        """
        body = _frame_text(frame).encode()
        content = memoryview(len(body).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little") + body)
        while content:
            content = content[os.write(self._file, content) :]

    def close(self) -> None:
        os.close(self._file)


def read_spool(path: Path, start: int = 0) -> tuple[list[Frame], int]:
    """The whole frames of a file from an offset on, and the offset after them."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            content = file.read()
    except FileNotFoundError:
        return [], start
    frames: list[Frame] = []
    at = 0
    while len(content) >= at + 8:
        length = int.from_bytes(content[at : at + 4], "little")
        body = content[at + 8 : at + 8 + length]
        if len(body) < length or zlib.crc32(body) != int.from_bytes(content[at + 4 : at + 8], "little"):
            break
        frames.append(_frame_of(body.decode()))
        at += 8 + length
    return frames, start + at


def make_method(find: str, name: str, threads: int = 1, memory: int | None = None) -> Any:
    """The method of a name, by the function that ``module:function`` names.

    Args:
        find: called with the name, and with ``threads`` and ``memory`` (MB) if it takes them.
        memory: bytes of a job; a part of it is for what a program does not count.
    """
    module, _, function = find.partition(":")
    maker: Callable[..., Any] = getattr(importlib.import_module(module), function)
    known = inspect.signature(maker).parameters
    options: dict[str, int] = {"threads": threads} if "threads" in known else {}
    if memory is not None and "memory" in known:
        options["memory"] = max(int(memory * SHARE / 1e6), 1)
    return maker(name, **options)


def _frame_text(frame: Frame) -> str:
    fields = asdict(frame)
    if isinstance(frame, Outcome) and frame.label is not None:
        fields["label"] = base64.b64encode(frame.label).decode()
    return json.dumps(fields)


def _frame_of(text: str) -> Frame:
    fields = json.loads(text)
    if "at" in fields:
        return Started(**fields)
    fields["attempts"] = tuple(Attempt(**attempt) for attempt in fields["attempts"])
    fields["versions"] = tuple((program, version) for program, version in fields["versions"])
    if fields["label"] is not None:
        fields["label"] = base64.b64decode(fields["label"])
    return Outcome(**fields)
