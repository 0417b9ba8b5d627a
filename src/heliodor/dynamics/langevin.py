"""Langevin dynamics by the BAOAB splitting."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.integrators import kicked
from heliodor.dynamics.state import MDState, generator_at, kinetic_energy_of, moved, per_atom, without_drift
from heliodor.potential import Potential
from heliodor.units import BOLTZMANN, KINETIC


def langevin_step(
    state: MDState,
    potential: Potential,
    dt: float,
    *,
    temperature: float | Float[Tensor, "B"],
    friction: float,
) -> MDState:
    """One BAOAB step: half kick, half drift, exact Ornstein-Uhlenbeck, half drift, half kick.

    Leimkuhler & Matthews, Appl. Math. Res. Express 2013, 34: the configurational averages have the smallest
    step-size error of all such splittings (none for harmonic forces).

    Friction and noise act on velocities relative to the centre of mass, so that no drift is generated; 3N - 3
    degrees of freedom are thermal, rotation among them (make the state with ``init(..., rotating=True)``). The
    heat that enters in the O part is booked in ``state.bath``.

    Args:
        dt: fs.
        temperature: K, one or one per structure.
        friction: 1/ps.
    """
    keep = math.exp(-1e-3 * friction * dt)
    velocities = kicked(state, 0.5 * dt)
    positions = torch.add(state.system.positions, velocities, alpha=0.5 * dt)

    before = kinetic_energy_of(velocities, state.masses, state.system)
    generator = generator_at(state)
    noise = torch.randn(velocities.shape, dtype=velocities.dtype, device=velocities.device, generator=generator)
    thermal = (1.0 - keep**2) * BOLTZMANN / KINETIC
    if isinstance(temperature, Tensor):
        variance = thermal * per_atom(temperature, state.system) / state.masses
    else:
        variance = (thermal * temperature) / state.masses
    velocities = torch.addcmul(keep * velocities, noise, variance.sqrt().unsqueeze(-1))
    if state.fixed_center:
        velocities = without_drift(velocities, state.masses, state.system)
    after = kinetic_energy_of(velocities, state.masses, state.system)

    positions = torch.add(positions, velocities, alpha=0.5 * dt)
    state = moved(
        state,
        potential,
        positions,
        velocities=velocities,
        bath=state.bath + before - after,
        rng=generator.get_state(),
        step=state.step + 1,
        time=state.time + dt,
    )
    return replace(state, velocities=kicked(state, 0.5 * dt))
