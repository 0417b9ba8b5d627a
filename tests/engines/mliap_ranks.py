"""Two domains as two processes of MPI: ``mpiexec -n 2 python THIS MODE FOLDER``.

Domains are those of `domains`; copies' values go over MPI as LAMMPS's do, sums as heliodor does them. Modes:
``same`` compares with the undivided system, writes the differences into FOLDER, and ends with an error on the second
process; ``killed`` lets the second process die within an exchange.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import ase
import numpy as np
import torch
from domains import Data, World, divide
from mpi4py import MPI

import heliodor
from heliodor.engines.lammps.mliap import MLIAP
from heliodor.engines.lammps.ranks import MPIRanks, find_ranks
from heliodor.potential import Potential, evaluate_system
from heliodor.system import System

WORLD = MPI.COMM_WORLD
CUTS = ([0.4], [], [])


def box() -> ase.Atoms:
    """Twelve atoms in a skewed cell smaller than twice any cutoff."""
    atoms = ase.Atoms(
        "OHHCHHHOHNHH",
        [
            *([0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]),
            *([3.2, 1.0, 1.0], [3.6, 2.0, 1.1], [3.5, 0.4, 1.9], [3.6, 0.5, 0.1], [1.8, 1.1, 1.0], [1.5, 1.6, 1.8]),
            *([4.5, 4.0, 3.5], [4.2, 4.6, 2.7], [5.5, 4.1, 3.6]),
        ],
        cell=[[7.0, 0.0, 0.0], [0.8, 7.5, 0.0], [0.3, -0.6, 8.0]],
        pbc=True,
    )
    atoms.rattle(0.05, seed=3)
    return atoms


def connect(data: Data) -> None:
    """Let copies' values travel between the two processes."""
    me, other = WORLD.Get_rank(), 1 - WORLD.Get_rank()
    owners = np.array(data._owner, dtype=np.int64).reshape(-1, 2)
    rows = np.arange(data.nlocal, data.ntotal)
    here, there = owners[:, 0] == me, owners[:, 0] == other
    asked = WORLD.sendrecv(owners[there, 1], other, source=other)

    def swap(values: np.ndarray, count: int) -> torch.Tensor:
        received = np.empty((count, values.shape[1]))
        WORLD.Sendrecv(np.ascontiguousarray(values, dtype=np.float64), other, recvbuf=received, source=other)
        return torch.from_numpy(received)

    def forward_exchange(copy_from, copy_to, vec_len) -> None:
        data._check(copy_from, copy_to, vec_len)
        copy_to.copy_(copy_from)
        copy_to[rows[here]] = copy_from[owners[here, 1]]
        copy_to[rows[there]] = swap(copy_from.numpy()[asked], int(there.sum())).to(copy_to.dtype)

    def reverse_exchange(copy_from, copy_to, vec_len) -> None:
        data._check(copy_from, copy_to, vec_len)
        copy_to.copy_(copy_from)
        copy_to.index_add_(0, torch.from_numpy(owners[here, 1]), copy_from[rows[here]])
        copy_to.index_add_(
            0, torch.from_numpy(asked), swap(copy_from.numpy()[rows[there]], len(asked)).to(copy_to.dtype)
        )
        copy_to[data.nlocal :] = 0.0

    data.forward_exchange, data.reverse_exchange = forward_exchange, reverse_exchange


def domain_of(unified: MLIAP, atoms: ase.Atoms) -> Data:
    data = divide(atoms, unified.element_types, unified.cutoff, CUTS, World(2))[WORLD.Get_rank()]
    connect(data)
    return data


def differences(potential: Potential, charge: float, spin: int) -> dict[str, float]:
    """Largest ones, of the sum over both processes from the undivided system; the same on both."""
    atoms = box()
    unified = MLIAP(potential, charge=charge, spin=spin)
    data = domain_of(unified, atoms)
    unified.compute_forces(data)
    assert isinstance(unified.ranks, MPIRanks)
    assert 0 < data.nlocal < len(atoms)
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, data._tags, data.f)
    forces, virial = WORLD.allreduce(forces), WORLD.allreduce(data.virial)
    energy = WORLD.allreduce(data.written)
    want = evaluate_system(potential, System.from_atoms(atoms, charge=charge, spin=spin), virial=True)
    full = want.virial[0].numpy()
    return {
        "energy": abs(energy - float(want.energy[0])),
        "forces": float(np.abs(forces - want.forces.numpy()).max()),
        "virial": float(np.abs(virial - full[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]).max()),
    }


def sums_are_right() -> bool:
    ranks = find_ranks()
    mine = torch.arange(6.0, dtype=torch.float64).view(2, 3) * (WORLD.Get_rank() + 1)
    kept = mine.clone()
    right = torch.equal(ranks.sum(mine), 3.0 * torch.arange(6.0).double().view(2, 3)) and torch.equal(mine, kept)
    return right and ranks.size == 2 and float(ranks.max(torch.tensor(float(WORLD.Get_rank())))) == 1.0


def main(mode: str, folder: Path) -> None:
    options = {"device": "cpu", "kernels": "reference", "long_range_cutoff": 9.0}
    if mode == "same":
        found = {"sums": sums_are_right()}
        for dtype in ("float64", "float32"):
            found[dtype] = differences(heliodor.load("so3lr", dtype=dtype, **options), 1.0, 0)
        (folder / f"{WORLD.Get_rank()}.json").write_text(json.dumps(found))
    unified = MLIAP(heliodor.load("heliodor-mini", **options))
    data = domain_of(unified, box())
    if WORLD.Get_rank() == 1:

        def broken(*_: object) -> None:
            if mode == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("the network is down")

        data.reverse_exchange = broken
    WORLD.Barrier()
    unified.compute_forces(data)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
