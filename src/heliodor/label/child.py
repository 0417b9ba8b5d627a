"""The process in which methods run: asked for one label at a time, it may crash or be killed at any moment.

Started by `heliodor.label.worker` as ``python -m heliodor.label.child DESCRIPTOR``.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from heliodor.errors import HeliodorError
from heliodor.label.label import Label, NotConvergedError
from heliodor.label.shard import DONE, ERROR, MEMORY, NOT_CONVERGED, REFUSED, make_method


def main(descriptor: int) -> None:
    """Answer requests until the other side is closed."""
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # programs print as they like; nobody reads it
    os.dup2(2, 1)
    connection = Connection(descriptor)
    methods: dict[str, Any] = {}
    try:
        settings = connection.recv()
        while True:
            name, effort, structure = connection.recv()
            if structure is None:
                connection.send(_make(settings, name, methods))
            else:
                connection.send(_run(methods[name], effort, structure))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _make(settings: tuple[str, int, int | None], name: str, methods: dict[str, Any]) -> tuple[Any, ...]:
    """(efforts, versions), or (None, why not)."""
    try:
        find, threads, memory = settings
        methods[name] = make_method(find, name, threads, memory)
    except Exception as error:
        return None, _words(error)
    return methods[name].efforts, tuple(sorted(methods[name].versions.items()))


def _run(method: Any, effort: int, structure: bytes) -> tuple[Any, ...]:
    """(outcome, message, packed label, energy, wall s, CPU s, peak bytes)."""
    from heliodor.label.packing import pack_label, unpack_structure

    with suppress(OSError):
        # begins a new peak of resident memory
        Path("/proc/self/clear_refs").write_text("5")
    cpu, began = _cpu(), time.perf_counter()
    packed, energy = None, None
    try:
        atoms = unpack_structure(structure)
        label = method(atoms, effort)
        _check(label, len(atoms))
        packed, energy, outcome, message = pack_label(label), float(label.energy), DONE, ""
    except NotConvergedError as error:
        outcome, message = NOT_CONVERGED, str(error) or "the self-consistent field did not converge"
    except HeliodorError as error:
        outcome, message = REFUSED, str(error)
    except MemoryError:
        outcome, message = MEMORY, "the system gave no more memory"
    except Exception as error:
        outcome, message = ERROR, _words(error)
    return outcome, message[:2000], packed, energy, time.perf_counter() - began, _cpu() - cpu, _peak()


def _check(label: Label, atoms: int) -> None:
    import numpy as np

    if not math.isfinite(label.energy):
        raise ValueError("the method gave an energy that is not finite")
    shapes = {"forces": (atoms, 3), "dipole": (3,), "hirshfeld_ratios": (atoms,), "charges": (atoms,)}
    for name, shape in shapes.items():
        value = getattr(label, name)
        if value is not None and np.shape(value) != shape:
            raise ValueError(f"the method gave {name} of shape {np.shape(value)} for {atoms} atoms")
        if value is not None and not np.isfinite(value).all():
            raise ValueError(f"the method gave {name} that are not finite")


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, HeliodorError) else f"{type(error).__name__}: {error}"


def _cpu() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in both)


def _peak() -> int:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _die_with_parent() -> None:
    """A worker killed with -9 in the middle of a job takes its job along (Linux; elsewhere at the job's end)."""
    if sys.platform != "linux":
        return
    import ctypes

    set_death_signal = 1
    parent = os.getppid()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent or parent == 1:
        os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
