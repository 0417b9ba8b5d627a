"""Molecular dynamics: states, step functions, relaxation, trajectories and the loop around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliodor.lazy import attach

if TYPE_CHECKING:
    from heliodor.dynamics.constraints.masses import repartition
    from heliodor.dynamics.constraints.rigid_bonds import find_rigid
    from heliodor.dynamics.files.trajectory import open_writer, read_trajectory
    from heliodor.dynamics.progress import Report
    from heliodor.dynamics.relax.minimize import Minimized, minimize
    from heliodor.dynamics.restraints.kinds import read_restraints
    from heliodor.dynamics.restraints.restrained import Restrained
    from heliodor.dynamics.result import Run
    from heliodor.dynamics.run import restart, simulate
    from heliodor.dynamics.settings import Settings
    from heliodor.dynamics.state import MDState, conserved, init, kinetic_energy, temperature
    from heliodor.dynamics.steps.cell_rescaling import cell_rescaling_step
    from heliodor.dynamics.steps.integrators import nve_step
    from heliodor.dynamics.steps.langevin import langevin_step
    from heliodor.dynamics.steps.mtk import mtk_step
    from heliodor.dynamics.steps.nose_hoover import nose_hoover_step
    from heliodor.dynamics.steps.pressure import Barostat, pressure
    from heliodor.dynamics.steps.rescaling import csvr_step
    from heliodor.dynamics.watch.bonds import BrokenBond, FormedBond, bonded_pairs, broken_bonds, formed_bonds
    from heliodor.dynamics.watch.events import Event
    from heliodor.dynamics.watch.watchdog import Watch

__all__ = [
    "Barostat",
    "BrokenBond",
    "Event",
    "FormedBond",
    "MDState",
    "Minimized",
    "Report",
    "Restrained",
    "Run",
    "Settings",
    "Watch",
    "bonded_pairs",
    "broken_bonds",
    "cell_rescaling_step",
    "conserved",
    "csvr_step",
    "find_rigid",
    "formed_bonds",
    "init",
    "kinetic_energy",
    "langevin_step",
    "minimize",
    "mtk_step",
    "nose_hoover_step",
    "nve_step",
    "open_writer",
    "pressure",
    "read_restraints",
    "read_trajectory",
    "repartition",
    "restart",
    "simulate",
    "temperature",
]

_MODULES = {
    "constraints.masses": ("repartition",),
    "constraints.rigid_bonds": ("find_rigid",),
    "restraints.kinds": ("read_restraints",),
    "restraints.restrained": ("Restrained",),
    "watch.events": ("Event",),
    "watch.watchdog": ("Watch",),
    "steps.cell_rescaling": ("cell_rescaling_step",),
    "watch.bonds": ("BrokenBond", "FormedBond", "bonded_pairs", "broken_bonds", "formed_bonds"),
    "steps.integrators": ("nve_step",),
    "steps.langevin": ("langevin_step",),
    "relax.minimize": ("Minimized", "minimize"),
    "steps.mtk": ("mtk_step",),
    "steps.nose_hoover": ("nose_hoover_step",),
    "steps.pressure": ("Barostat", "pressure"),
    "progress": ("Report",),
    "steps.rescaling": ("csvr_step",),
    "result": ("Run",),
    "run": ("restart", "simulate"),
    "settings": ("Settings",),
    "state": ("MDState", "conserved", "init", "kinetic_energy", "temperature"),
    "files.trajectory": ("open_writer", "read_trajectory"),
}

__getattr__, __dir__ = attach(
    __name__, {name: f"heliodor.dynamics.{module}" for module, names in _MODULES.items() for name in names}
)
