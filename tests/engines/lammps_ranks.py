"""Argon in a skewed box, moved by LAMMPS: in one process by tests, or on ranks as ``mpiexec -n 2 python THIS MODE``.

Modes: ``same`` moves it, and writes what came out; ``fails`` lets the model fail; ``killed`` and ``raises`` let the
second rank die.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import ase
import ase.units
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "dynamics"))

from toys import LennardJones, argon_box

from heliodor.engines.lammps import new_lammps
from heliodor.errors import HeliodorError

QUIET = ("-log", "none", "-screen", "none")
STEP = {"metal": 0.005, "real": 5.0}
"""5 fs."""


class Fails(LennardJones):
    """Argon whose energy is not a number from a given call on."""

    def __init__(self, good_calls: int) -> None:
        super().__init__(cutoff=5.5)
        self.good_calls = good_calls

    def forward(self, system, neighbors):
        self.good_calls -= 1
        terms = super().forward(system, neighbors)
        return terms if self.good_calls >= 0 else type(terms)({"pair": terms.energies["pair"] * float("nan")})


class Breaks(LennardJones):
    """Argon with a mistake in its program that shows itself at the third call."""

    calls = 0

    def forward(self, system, neighbors):
        self.calls += 1
        if self.calls == 3:
            raise ZeroDivisionError("in the model")
        return super().forward(system, neighbors)


def argon() -> ase.Atoms:
    """27 atoms in a skewed cell that LAMMPS does not take as it is; some of them outside of it; moving."""
    atoms = argon_box(3, 3.9)
    atoms.set_cell([[11.7, 0, 0], [1.5, 11.5, 0], [-2.0, 1.0, 11.0]], scale_atoms=True)
    atoms.rotate(30, (1, 2, 3), rotate_cell=True)
    atoms.positions[3] += atoms.cell[0]
    atoms.positions[7] -= 2 * atoms.cell[2]
    velocities = np.random.default_rng(1).normal(0.0, 1.5e-3, (len(atoms), 3)) / ase.units.fs
    atoms.set_velocities(velocities - velocities.mean(0))
    return atoms


def moved(units: str, steps: int) -> dict[str, float]:
    """Argon after some steps: the same numbers on every rank."""
    lmp = new_lammps(argon(), LennardJones(cutoff=5.5), units=units, arguments=QUIET)
    lmp.commands_list(["compute each all pe/atom", "compute sum all reduce sum c_each", f"timestep {STEP[units]}"])
    lmp.commands_list(["thermo_style custom step pe press c_sum etotal vol", "fix move all nve", f"run {steps}"])
    found = {name: lmp.get_thermo(name) for name in ("pe", "press", "pxy", "pxz", "pyz", "etotal")}
    found["sum"] = float(lmp.numpy.extract_compute("sum", 0, 0))
    lmp.commands_list(["unfix move", "fix move all npt temp 80 80 0.5 tri 0 0 2", f"run {steps}"])
    found |= {f"npt {name}": lmp.get_thermo(name) for name in ("pe", "press", "vol")}
    lmp.close()
    return found


def main(mode: str) -> None:
    if mode == "same":
        from mpi4py import MPI

        found = moved("metal", 40)
        if MPI.COMM_WORLD.rank == 0:
            print(json.dumps(found))
        return
    if mode == "raises":
        from mpi4py import MPI

        lmp = new_lammps(argon(), LennardJones(cutoff=5.5), arguments=QUIET)
        if MPI.COMM_WORLD.rank == 1:
            raise RuntimeError("a mistake on one rank")
        lmp.command("run 10")
    if mode == "fails":
        # one rank has the atom, the other has none
        lmp = new_lammps(ase.Atoms("Ar", [[1.0, 2.0, 3.0]]), LennardJones(cutoff=5.5), arguments=QUIET)
        lmp.commands_list(["fix move all nve", "run 3"])
        lmp.close()
        print(f"threads {torch.get_num_threads()}\n", end="")
        for model in (Fails(5), Breaks(cutoff=5.5)):
            lmp = new_lammps(argon(), model, arguments=QUIET)
            lmp.command("fix move all nve")
            try:
                lmp.command("run 100000")
            except HeliodorError as error:
                print(
                    f"rank {lmp.extract_setting('world_rank')} after {lmp.extract_global('ntimestep')}: {error}\n",
                    end="",
                )
            lmp.close()
        try:
            new_lammps(argon(), "heliodor-s", arguments=QUIET)
        except HeliodorError as error:
            print(f"{error}\n", end="")
        return
    lmp = new_lammps(argon(), LennardJones(cutoff=5.5), arguments=QUIET)
    lmp.command("fix move all nve")
    lmp.command("run 5")
    if lmp.extract_setting("world_rank") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    lmp.command("run 1000000")


if __name__ == "__main__":
    main(sys.argv[1])
