"""What a simulation hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import ase
import ase.units
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from heliodor.dynamics.state import MDState
from heliodor.dynamics.watch.bonds import BrokenBond, FormedBond
from heliodor.dynamics.watch.events import Event

EQUILIBRATION = 0.2
"""Fraction of the log left out of the averages."""


@dataclass(frozen=True)
class Run:
    """What a simulation gave.

    Attributes:
        frames: final structures, one per structure, with velocities, energy and forces.
        state: the final state; a simulation can go on from it.
        output, log_path, plot_path: files written, None where not wanted.
        log: columns of the log as arrays (`heliodor.dynamics.files.log.Log.arrays`).
        timestep: fs.
        seed: of all random numbers.
        seconds: wall time of the loop, of this part of the run if it was restarted.
        ended: "finished", "interrupted" (Ctrl-C or SIGTERM), "walltime", or "asked" (by the watch, for `reason`).
        broken_bonds: pairs bonded at the start (after minimization) and torn apart at the end.
        formed_bonds: pairs bonded at the end and not at the start.
        events: what the watch noticed.
        checkpoint: file to restart from.
        trouble: file with the frames around events, if there were any.
        timings: seconds spent in steps, checks, writing, logging, checkpoints.
        memory: most held at once, GB.
        first_step: that this part of the run started from.
    """

    frames: list[ase.Atoms]
    state: MDState
    output: Path | None
    log_path: Path | None
    plot_path: Path | None
    log: dict[str, np.ndarray]
    timestep: float
    seed: int
    seconds: float
    ended: str
    broken_bonds: list[BrokenBond]
    formed_bonds: list[FormedBond] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    reason: str | None = None
    checkpoint: Path | None = None
    trouble: Path | None = None
    timings: dict[str, float] = field(default_factory=dict)
    memory: float = 0.0
    first_step: int = 0

    @property
    def interrupted(self) -> bool:
        """Whether it ended before its last step."""
        return self.ended != "finished"

    @property
    def atoms(self) -> ase.Atoms:
        """The final structure (the first of several)."""
        return self.frames[0]

    @property
    def steps(self) -> int:
        """Steps taken."""
        return self.state.step

    @property
    def time(self) -> float:
        """Simulated, fs."""
        return self.state.time

    @property
    def simulated(self) -> float:
        """fs, in this part of the run."""
        return self.state.step * self.timestep - self.first_step * self.timestep

    @property
    def ns_per_day(self) -> float:
        """Simulated time per wall time of the loop."""
        return 86400.0 * self.simulated * 1e-6 / self.seconds

    @property
    def averages(self) -> dict[str, float]:
        """Mean of every logged column over structures and time, the first fifth of the run left out."""
        late = slice(int(EQUILIBRATION * len(self.log["time_fs"])), None)
        return {
            name: float(column[late].mean()) for name, column in self.log.items() if name not in ("step", "time_fs")
        }

    @property
    def mean_temperature(self) -> float:
        """K, over structures and time after the first fifth of the run."""
        return self.averages["temperature_K"]

    @property
    def drift(self) -> float:
        """Slope of the conserved quantity over the whole run, meV/atom/ps, mean over structures."""
        return float(self.log["drift_meV_per_atom_ps"][-1].mean())


def final_atoms(state: MDState) -> list[ase.Atoms]:
    """A state as ase.Atoms, one per structure, with velocities, energy, forces and charges."""
    frames = state.system.to_atoms()
    start = 0
    for b, atoms in enumerate(frames):
        mine = slice(start, start := start + len(atoms))
        atoms.set_masses(state.masses[mine].cpu().numpy())
        atoms.set_velocities(state.velocities[mine].cpu().numpy() / ase.units.fs)
        if state.frozen is not None:
            atoms.set_constraint(FixAtoms(mask=state.frozen[mine].cpu().numpy()))
        atoms.info |= {"step": state.step, "time_fs": state.time}
        results = {"energy": float(state.energy[b]), "forces": state.forces[mine].cpu().numpy()}
        if state.prediction is not None and state.prediction.charges is not None:
            results["charges"] = state.prediction.charges[mine].cpu().numpy()
        atoms.calc = SinglePointCalculator(atoms, **results)
    return frames
