"""Sums over LAMMPS's processes: its ML-IAP interface has exchanges with neighbours only, so mpi4py does them."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn, Protocol, runtime_checkable

from torch import Tensor

from heliodor.errors import InputError, MissingExtraError

_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""Where launchers of MPI write the number of processes."""


@runtime_checkable
class Ranks(Protocol):
    """All processes together; `sum` and `max` give every process the same tensor."""

    size: int

    def sum(self, x: Tensor) -> Tensor: ...

    def max(self, x: Tensor) -> Tensor: ...

    def abort(self, message: str) -> None:
        """End all processes: the others wait for this one in an exchange, and would for ever."""


class OneRank:
    """A process on its own."""

    size = 1

    def sum(self, x: Tensor) -> Tensor:
        return x

    def max(self, x: Tensor) -> Tensor:
        return x

    def abort(self, message: str) -> None:
        """Nobody waits."""


class MPIRanks:
    """All processes of MPI's world."""

    def __init__(self, mpi: Any) -> None:
        self._mpi = mpi
        self._world = mpi.COMM_WORLD
        self.size = int(self._world.Get_size())

    def sum(self, x: Tensor) -> Tensor:
        return self._reduce(x, self._mpi.SUM)

    def max(self, x: Tensor) -> Tensor:
        return self._reduce(x, self._mpi.MAX)

    def _reduce(self, x: Tensor, operation: Any) -> Tensor:
        # a copy: what is on the CPU already must not be changed
        host = x.detach().to("cpu", copy=True).contiguous()
        self._world.Allreduce(self._mpi.IN_PLACE, host.view(-1).numpy(), op=operation)
        return host.to(x.device)

    def abort(self, message: str) -> NoReturn:
        print(f"heliodor, rank {self._world.Get_rank()} of {self.size}: {message}", file=sys.stderr, flush=True)
        self._world.Abort(1)
        raise SystemExit(1)


def find_ranks() -> Ranks:
    """LAMMPS's processes, through mpi4py where there are several.

    Raises:
        MissingExtraError: several processes, and no mpi4py.
        InputError: mpi4py speaks to another MPI library than the one these processes were started with.
    """
    started = max((int(os.environ[name]) for name in _SIZES if os.environ.get(name, "").isdigit()), default=1)
    try:
        import mpi4py
    except ImportError:
        if started > 1:
            raise MissingExtraError("mpi4py", "lammps") from None
        return OneRank()
    kept = mpi4py.rc.initialize, mpi4py.rc.finalize
    # LAMMPS has started MPI; if mpi4py had to, it would be another MPI, in which every process is alone
    mpi4py.rc.initialize = mpi4py.rc.finalize = False
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        if started > 1:
            raise InputError(f"mpi4py does not find its MPI library ({error}): {_REBUILD}") from None
        return OneRank()
    finally:
        mpi4py.rc.initialize, mpi4py.rc.finalize = kept
    if MPI.Is_initialized() and not MPI.Is_finalized() and MPI.COMM_WORLD.Get_size() > 1:
        return MPIRanks(MPI)
    if started > 1:
        raise InputError(f"{started} processes were started, but mpi4py sees one: {_REBUILD}")
    return OneRank()


_REBUILD = (
    "it is built with another MPI than LAMMPS; build it with LAMMPS's: MPICC=mpicc pip install --no-binary mpi4py "
    "--force-reinstall mpi4py"
)
