"""Langevin dynamics by the BAOAB splitting."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.constraints.rigid import constrain_velocities
from heliodor.dynamics.state import MDState, generator_at, kinetic_energy_of, per_atom, without_drift
from heliodor.dynamics.steps.integrators import verlet_step
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
    step-size error of all such splittings (none for harmonic forces). With rigid bonds it is their g-BAOAB,
    Proc. R. Soc. A 472, 20160138 (2016).

    Friction and noise act on velocities relative to the centre of mass, so that no drift is generated; 3N - 3
    degrees of freedom are thermal, rotation among them (make the state with ``init(..., rotating=True)``). The
    heat that enters in the O part is booked in ``state.bath``.

    Args:
        dt: fs.
        temperature: K, one or one per structure.
        friction: 1/ps.
    """
    return verlet_step(
        state, potential, dt, middle=lambda state: fluctuated(state, dt, temperature=temperature, friction=friction)
    )


def fluctuated(state: MDState, dt: float, *, temperature: float | Float[Tensor, "B"], friction: float) -> MDState:
    """Friction and noise acting on the velocities for dt (fs), exactly; the heat is booked.

    Args:
        temperature: K.
        friction: 1/ps.
    """
    keep = math.exp(-1e-3 * friction * dt)
    before = kinetic_energy_of(state.velocities, state.masses, state.system)
    generator = generator_at(state)
    shape, dtype, device = state.velocities.shape, state.velocities.dtype, state.velocities.device
    noise = torch.randn(shape, dtype=dtype, device=device, generator=generator)
    thermal = (1.0 - keep**2) * BOLTZMANN / KINETIC
    if isinstance(temperature, Tensor):
        variance = thermal * per_atom(temperature, state.system) / state.masses
    else:
        variance = (thermal * temperature) / state.masses
    if state.frozen is not None:
        variance = torch.where(state.frozen, 0.0, variance)
    velocities = torch.addcmul(keep * state.velocities, noise, variance.sqrt().unsqueeze(-1))
    if state.rigid is not None:
        velocities = constrain_velocities(state.rigid, state.system.positions, velocities)
    if state.fixed_center:
        velocities = without_drift(velocities, state.masses, state.system)
    after = kinetic_energy_of(velocities, state.masses, state.system)
    return replace(state, velocities=velocities, bath=state.bath + before - after, rng=generator.get_state())
