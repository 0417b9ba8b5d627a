"""Thermostats and a barostat whose noise is handed in: the formulas of `heliodor.dynamics.steps`, without a question.

They ask the host nothing: no check that would wait for the device, no library routine that does.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.state import MDState, kinetic_energy, per_atom, without_drift
from heliodor.dynamics.steps.coupling import project
from heliodor.dynamics.steps.nose_hoover import chain_energy, propagated
from heliodor.dynamics.steps.pressure import Barostat, kinetic_tensor
from heliodor.kernels.gpu.lists.geometry import volume_of
from heliodor.units import BOLTZMANN, KINETIC


def fluctuated(
    state: MDState, dt: float, noise: Float[Tensor, "N 3"], *, temperature: float | Float[Tensor, "1"], friction: float
) -> MDState:
    """`heliodor.dynamics.steps.langevin.fluctuated` with this noise."""
    keep = math.exp(-1e-3 * friction * dt)
    before = kinetic_energy(state)
    variance = (((1.0 - keep**2) * BOLTZMANN / KINETIC) * temperature) / state.masses
    if state.frozen is not None:
        variance = torch.where(state.frozen, 0.0, variance)
    velocities = torch.addcmul(keep * state.velocities, noise, variance.sqrt().unsqueeze(-1))
    if state.fixed_center:
        velocities = without_drift(velocities, state.masses, state.system)
    state = replace(state, velocities=velocities)
    return replace(state, bath=state.bath + before - kinetic_energy(state))


def rescaled(
    state: MDState,
    dt: float,
    noise: Float[Tensor, "N 3"],
    *,
    temperature: float | Float[Tensor, "1"],
    time_constant: float,
) -> MDState:
    """`heliodor.dynamics.steps.rescaling.rescaled`; the sum of squares is made of as many normal numbers as it has."""
    now, free = kinetic_energy(state), state.degrees_of_freedom
    flat = noise.flatten()
    gauss = flat[-1:]
    place = torch.arange(flat.shape[0], device=flat.device)
    others = torch.where(place < free - 1.0, flat.square(), 0.0).sum(0, keepdim=True)

    keep = math.exp(-dt / time_constant)
    ratio = 0.5 * BOLTZMANN * temperature / now.clamp_min(1e-300)
    mixed = (keep * (1.0 - keep) * ratio).sqrt()
    squared = keep + (1.0 - keep) * ratio * (others + gauss.square()) + 2.0 * gauss * mixed
    sign = torch.where(gauss * mixed + keep < 0.0, -1.0, 1.0)
    factor = torch.where((free > 0) & (now > 0), sign * squared.clamp_min(0.0).sqrt(), 1.0)
    velocities = state.velocities * per_atom(factor, state.system).unsqueeze(-1)
    return replace(state, velocities=velocities, bath=state.bath + now - now * factor.square())


def thermostatted(
    state: MDState, dt: float, *, temperature: float | Float[Tensor, "1"], time_constant: float
) -> MDState:
    """`heliodor.dynamics.steps.nose_hoover.thermostatted`."""
    assert state.chain is not None
    thermal = BOLTZMANN * (temperature + torch.zeros_like(state.energy))
    free = state.degrees_of_freedom
    chain, scale = propagated(state.chain, 2.0 * kinetic_energy(state), free, thermal, time_constant, dt)
    gained = chain_energy(chain, free, thermal, time_constant) - chain_energy(state.chain, free, thermal, time_constant)
    velocities = state.velocities * per_atom(scale, state.system).unsqueeze(-1)
    return replace(state, velocities=velocities, chain=chain, bath=state.bath + gained)


def cell_rescaled(
    state: MDState,
    dt: float,
    noise: Float[Tensor, "3 3"],
    *,
    temperature: float | Float[Tensor, "1"],
    barostat: Barostat,
    virial: Float[Tensor, "1 3 3"],
) -> tuple[MDState, Float[Tensor, "1 3 3"]]:
    """`heliodor.dynamics.steps.cell_rescaling.cell_rescaled` of a fully periodic structure, and the strain it made.

    Of the couplings that keep the cell's axes where they are; a strain too large to be right is for the caller to see.
    """
    system = state.system
    noise = project((0.5 * (noise + noise.mT)).unsqueeze(0), barostat.coupling)
    volume = volume_of(system.cell)
    identity = torch.eye(3, dtype=noise.dtype, device=noise.device)
    force = kinetic_tensor(state) + virial
    thermal = BOLTZMANN * (temperature + torch.zeros_like(volume))
    if state.fixed_center:
        force = force + thermal.view(-1, 1, 1) * identity
    force = force - torch.diag_embed(barostat.pressure) * volume.view(-1, 1, 1)
    if barostat.surface_tension:
        plane = identity * (torch.arange(3, device=noise.device) < 2)
        across = torch.linalg.cross(system.cell[:, 0], system.cell[:, 1]).square().sum(-1).sqrt()
        force = force + (barostat.surface_tension * across).view(-1, 1, 1) * plane
    force = project(force, barostat.coupling)
    rate = (barostat.compressibility * dt / (3.0 * barostat.time_constant)) / volume
    wander = (2.0 * thermal * rate).sqrt()
    strain = rate.view(-1, 1, 1) * force + wander.view(-1, 1, 1) * noise

    along = torch.diagonal(strain, dim1=-2, dim2=-1)
    before = kinetic_energy(state)
    stretch = along.exp()
    positions, cell = system.positions * stretch, system.cell * stretch.unsqueeze(1)
    state = replace(
        state, system=system.replace(positions=positions, cell=cell), velocities=state.velocities * (-along).exp()
    )
    return replace(state, bath=state.bath - (kinetic_energy(state) - before)), strain
