"""Which process this is, and whether another still lives: for leases that outlive a `kill -9`."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def machine() -> str:
    """This machine since its last start, and the container in it: process numbers mean something only there."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid").strip("pid:[]"))
    return "/".join(parts)


def identity(pid: int | None = None) -> str:
    """A process: machine, number, and when it started, as numbers are used again."""
    pid = os.getpid() if pid is None else pid
    return f"{machine()} {pid} {_started(pid)}"


def gone(who: str) -> bool:
    """Whether a process named by `identity` is known to have ended; of other machines nothing is known."""
    place, pid, started = who.split(" ")
    if place != machine():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _state(int(pid)) == "Z" or _started(int(pid)) != started


def _stat(pid: int) -> list[str]:
    try:
        # the name in brackets may hold anything
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    return next(iter(_stat(pid)), "")


def _started(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else "0"


def resident(pid: int) -> int:
    """Bytes of memory that a process and all its descendants hold; 0 where the system does not say."""
    total, waiting = 0, [pid]
    page = os.sysconf("SC_PAGE_SIZE")
    while waiting:
        one = waiting.pop()
        with suppress(OSError, IndexError, ValueError):
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * page
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += [int(word) for word in (task / "children").read_text().split()]
    return total
