"""MPI ranks that act as one: asked together, told together, stopped together."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import torch

from heliodor.errors import HeliodorError, InputError, MissingExtraError, SimulationError

T = TypeVar("T")

_STARTED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""Where those that start ranks write their number."""


def on_first(comm: Any, function: Callable[[list[Any]], T], mine: Any) -> T:
    """Gather ``mine`` of every rank on the first, call the function with them there, hand its result to all.

    Args:
        comm: of mpi4py; None for one rank.

    Raises:
        HeliodorError: what the function raised on the first rank, now on every rank.
    """
    if comm is None:
        return function([mine])
    try:
        parts = comm.gather(mine)
        answer: tuple[Any, HeliodorError | None] = (None, None)
        if comm.rank == 0:
            try:
                answer = (function(parts), None)
            except HeliodorError as error:
                answer = (None, error)
            except BaseException as error:
                answer = (None, SimulationError(f"rank 0 stopped: {type(error).__name__}: {error}"))
        result, trouble = comm.bcast(answer)
    except BaseException:
        # one rank alone would leave the others waiting for ever
        traceback.print_exc()
        sys.stderr.flush()
        _abort()
        raise
    if trouble is not None:
        raise trouble
    return result


def communicator(lmp: Any) -> Any:
    """mpi4py's, of the ranks that LAMMPS runs on; None for one rank.

    Raises:
        MissingExtraError: several ranks without mpi4py.
        InputError: several processes that do not know of each other.
    """
    if lmp.extract_setting("world_size") == 1:
        started = max(int(os.environ.get(name, "1")) for name in _STARTED)
        if started > 1 and _whole(lmp.comm):
            raise InputError(
                f"{started} processes were started, but LAMMPS knows of one: take the mpiexec of the MPI that it was "
                "built with (MPICH's, of the same environment), or comm=mpi4py.MPI.COMM_SELF for independent runs"
            )
        return None
    if lmp.comm is not None:
        return lmp.comm
    comm = lmp.get_mpi_comm() if lmp.has_mpi4py else None
    if comm is None:
        raise MissingExtraError("mpi4py", "lammps")
    return comm


def abort_together(comm: Any) -> None:
    """Let an exception that ends the program of one rank end the others too: they would wait for it for ever."""
    before = sys.excepthook
    if comm is None or hasattr(before, "aborts"):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        sys.stderr.flush()
        _abort()

    hook.aborts = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def set_threads(comm: Any, threads: int | None) -> None:
    """As `attach` says.

    Raises:
        InputError: fewer than one.
    """
    if threads is not None:
        if threads < 1:
            raise InputError(f"threads must be at least 1, not {threads}")
        torch.set_num_threads(threads)
    elif comm is not None and "OMP_NUM_THREADS" not in os.environ:
        from mpi4py import MPI

        here = comm.Split_type(MPI.COMM_TYPE_SHARED)
        torch.set_num_threads(max(1, _cores() // here.size))
        here.Free()


def _whole(comm: Any) -> bool:
    """Whether LAMMPS was started on all processes, and not on some on purpose."""
    if comm is None:
        return True
    from mpi4py import MPI

    return bool(comm == MPI.COMM_WORLD)


def _abort() -> None:
    from mpi4py import MPI

    MPI.COMM_WORLD.Abort(1)


def _cores() -> int:
    """That this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1
