"""Velocity Verlet: constant energy, and the motion that thermostats and barostats build on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.constraints.rigid import constrain_positions, constrain_velocities
from heliodor.dynamics.state import MDState, evaluated
from heliodor.potential import Potential
from heliodor.units import ACCELERATION


def nve_step(state: MDState, potential: Potential, dt: float) -> MDState:
    """One step of velocity Verlet: time-reversible, symplectic, energy error of order dt².

    Swope, Andersen, Berens & Wilson, J. Chem. Phys. 76, 637 (1982); with rigid bonds RATTLE, Andersen, J. Comput.
    Phys. 52, 24 (1983).

    Args:
        dt: fs.
    """
    return verlet_step(state, potential, dt)


def verlet_step(
    state: MDState, potential: Potential, dt: float, middle: Callable[[MDState], MDState] | None = None
) -> MDState:
    """Half kick, half drift, whatever happens in the middle, half drift, forces, half kick.

    Args:
        dt: fs.
        middle: changes velocities, positions or cell between the halves; the forces it sees are those of the
            start of the step. A thermostat's noise there makes BAOAB.
    """
    state = kicked(state, 0.5 * dt)
    state = drifted(state, dt) if middle is None else drifted(middle(drifted(state, 0.5 * dt)), 0.5 * dt)
    state = evaluated(state, potential, step=state.step + 1, time=state.time + dt)
    return kicked(state, 0.5 * dt)


def kicked(state: MDState, dt: float) -> MDState:
    """Velocities after the present forces have acted for dt (fs)."""
    velocities = torch.addcmul(state.velocities, state.forces, mobility(state, dt))
    if state.rigid is not None:
        velocities = constrain_velocities(state.rigid, state.system.positions, velocities)
    return replace(state, velocities=velocities)


def drifted(state: MDState, dt: float) -> MDState:
    """Positions after dt (fs) with the present velocities; rigid bonds keep their length and turn the velocities."""
    old = state.system.positions
    positions = torch.add(old, state.velocities, alpha=dt)
    if state.rigid is None:
        return replace(state, system=state.system.replace(positions=positions))
    held = constrain_positions(state.rigid, old, positions)
    velocities = constrain_velocities(state.rigid, held, state.velocities + (held - positions) / dt)
    return replace(state, system=state.system.replace(positions=held), velocities=velocities)


def mobility(state: MDState, dt: float) -> Float[Tensor, "N 1"]:
    """Change of velocity (Å/fs) per force (eV/Å) acting for dt (fs); zero for frozen atoms."""
    gain = (dt * ACCELERATION) / state.masses
    if state.frozen is not None:
        gain = torch.where(state.frozen, 0.0, gain)
    return gain.unsqueeze(-1)
