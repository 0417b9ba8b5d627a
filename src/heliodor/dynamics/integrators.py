"""Velocity Verlet: constant energy, and the motion that the thermostats build on."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.state import MDState, moved
from heliodor.potential import Potential
from heliodor.units import ACCELERATION


def nve_step(state: MDState, potential: Potential, dt: float) -> MDState:
    """One step of velocity Verlet: time-reversible, symplectic, energy error of order dt².

    Swope, Andersen, Berens & Wilson, J. Chem. Phys. 76, 637 (1982).

    Args:
        dt: fs.
    """
    velocities = kicked(state, 0.5 * dt)
    positions = torch.add(state.system.positions, velocities, alpha=dt)
    state = moved(state, potential, positions, velocities=velocities, step=state.step + 1, time=state.time + dt)
    return replace(state, velocities=kicked(state, 0.5 * dt))


def kicked(state: MDState, dt: float) -> Float[Tensor, "N 3"]:
    """Velocities after the present forces have acted for dt (fs), Å/fs."""
    per_force = (dt * ACCELERATION) / state.masses.unsqueeze(-1)
    return torch.addcmul(state.velocities, state.forces, per_force)
