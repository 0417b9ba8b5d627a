"""Molecular dynamics: states, step functions, relaxation, trajectories and the loop around them."""

from heliodor.dynamics.checks import BrokenBond, bonded_pairs, broken_bonds
from heliodor.dynamics.integrators import nve_step
from heliodor.dynamics.langevin import langevin_step
from heliodor.dynamics.minimize import Minimized, minimize
from heliodor.dynamics.progress import Report
from heliodor.dynamics.rescaling import csvr_step
from heliodor.dynamics.result import Run
from heliodor.dynamics.run import simulate
from heliodor.dynamics.state import MDState, conserved, init, kinetic_energy, temperature
from heliodor.dynamics.trajectory import open_writer, read_trajectory

__all__ = [
    "BrokenBond",
    "MDState",
    "Minimized",
    "Report",
    "Run",
    "bonded_pairs",
    "broken_bonds",
    "conserved",
    "csvr_step",
    "init",
    "kinetic_energy",
    "langevin_step",
    "minimize",
    "nve_step",
    "open_writer",
    "read_trajectory",
    "simulate",
    "temperature",
]
