"""Stochastic velocity rescaling: the canonical ensemble with undisturbed dynamics of single atoms."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.state import MDState, generator_at, kinetic_energy, per_atom
from heliodor.dynamics.steps.integrators import nve_step
from heliodor.potential import Potential
from heliodor.units import BOLTZMANN


def csvr_step(
    state: MDState,
    potential: Potential,
    dt: float,
    *,
    temperature: float | Float[Tensor, "B"],
    time_constant: float,
) -> MDState:
    """One velocity Verlet step, then the kinetic energy of each structure relaxes stochastically.

    Bussi, Donadio & Parrinello, J. Chem. Phys. 126, 014101 (2007). All velocities of a structure get one factor,
    so zero total and angular momentum stay zero. The kinetic energy taken out is booked in ``state.bath``.

    Args:
        dt: fs.
        temperature: K, one or one per structure.
        time_constant: fs.
    """
    return rescaled(nve_step(state, potential, dt), dt, temperature=temperature, time_constant=time_constant)


def rescaled(state: MDState, dt: float, *, temperature: float | Float[Tensor, "B"], time_constant: float) -> MDState:
    """The thermostat alone, acting for dt (fs): equation A7 of the paper and the sign of its appendix."""
    now = kinetic_energy(state)
    free = state.degrees_of_freedom
    generator = generator_at(state)
    gauss = torch.randn(now.shape, dtype=now.dtype, device=now.device, generator=generator)
    # the sum of the squares of the other n - 1 Gaussians; a shape of zero (n = 1) has to give zero
    shape = (0.5 * (free - 1.0)).clamp_min(0.0)
    others = 2.0 * torch._standard_gamma(shape.clamp_min(0.5), generator=generator) * (shape > 0)

    keep = math.exp(-dt / time_constant)
    # mean kinetic energy per degree of freedom over the present kinetic energy
    ratio = 0.5 * BOLTZMANN * temperature / now.clamp_min(1e-300)
    mixed = (keep * (1.0 - keep) * ratio).sqrt()
    squared = keep + (1.0 - keep) * ratio * (others + gauss.square()) + 2.0 * gauss * mixed
    sign = torch.where(gauss * mixed + keep < 0.0, -1.0, 1.0)
    factor = torch.where((free > 0) & (now > 0), sign * squared.clamp_min(0.0).sqrt(), 1.0)

    velocities = state.velocities * per_atom(factor, state.system).unsqueeze(-1)
    after = now * factor.square()
    return replace(state, velocities=velocities, bath=state.bath + now - after, rng=generator.get_state())
