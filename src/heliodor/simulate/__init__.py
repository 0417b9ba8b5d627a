"""Molecular dynamics: states, step functions, relaxation, trajectories and the loop around them."""

from heliodor.simulate.checks import BrokenBond, bonded_pairs, broken_bonds
from heliodor.simulate.integrators import nve_step
from heliodor.simulate.langevin import langevin_step
from heliodor.simulate.minimize import Minimized, minimize
from heliodor.simulate.progress import Report
from heliodor.simulate.rescaling import csvr_step
from heliodor.simulate.result import Run
from heliodor.simulate.run import simulate
from heliodor.simulate.state import MDState, conserved, init, kinetic_energy, temperature
from heliodor.simulate.trajectory import open_writer, read_trajectory

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
