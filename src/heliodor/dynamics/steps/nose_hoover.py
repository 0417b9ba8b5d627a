"""Nosé-Hoover chains: the canonical ensemble by deterministic, time-reversible motion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.state import MDState, kinetic_energy, per_atom
from heliodor.dynamics.steps.extended import Chain
from heliodor.dynamics.steps.integrators import verlet_step
from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.units import BOLTZMANN

LINKS = 3
"""Length of a chain."""

WEIGHTS = (1.0 / (2.0 - 2.0 ** (1.0 / 3.0)), 1.0 - 2.0 / (2.0 - 2.0 ** (1.0 / 3.0)), 1.0 / (2.0 - 2.0 ** (1.0 / 3.0)))
"""Suzuki and Yoshida's, of fourth order."""


def with_chain(state: MDState) -> MDState:
    """The state with a thermostat chain at rest, if it has none."""
    return state if state.chain is not None else replace(state, chain=chain_at_rest(state.energy))


def nose_hoover_step(
    state: MDState,
    potential: Potential,
    dt: float,
    *,
    temperature: float | Float[Tensor, "B"],
    time_constant: float,
) -> MDState:
    """Half a step of the chain, velocity Verlet, half a step of the chain.

    Martyna, Klein & Tuckerman, J. Chem. Phys. 97, 2635 (1992); Martyna, Tuckerman, Tobias & Klein, Mol. Phys. 87,
    1117 (1996). The chain's energy is kept in ``state.bath``, so `conserved` is the extended Hamiltonian.

    Args:
        dt: fs.
        temperature: K, one or one per structure.
        time_constant: fs; the mass of the first link is f kT τ², of the others kT τ².
    """
    state = thermostatted(with_chain(state), 0.5 * dt, temperature=temperature, time_constant=time_constant)
    state = verlet_step(state, potential, dt)
    return thermostatted(state, 0.5 * dt, temperature=temperature, time_constant=time_constant)


def thermostatted(
    state: MDState, dt: float, *, temperature: float | Float[Tensor, "B"], time_constant: float
) -> MDState:
    """The velocities after the chain has acted for dt (fs), its energy in ``state.bath``."""
    assert state.chain is not None
    thermal = BOLTZMANN * torch.as_tensor(temperature, dtype=state.energy.dtype, device=state.energy.device)
    thermal = thermal.expand_as(state.energy)
    if not bool((thermal > 0).all()):
        raise InputError("Nosé-Hoover chains need a temperature above zero")
    free = state.degrees_of_freedom
    chain, scale = propagated(state.chain, 2.0 * kinetic_energy(state), free, thermal, time_constant, dt)
    gained = chain_energy(chain, free, thermal, time_constant) - chain_energy(state.chain, free, thermal, time_constant)
    velocities = state.velocities * per_atom(scale, state.system).unsqueeze(-1)
    return replace(state, velocities=velocities, chain=chain, bath=state.bath + gained)


def chain_at_rest(like: Float[Tensor, "B"]) -> Chain:
    """A chain for each of B structures that has not moved."""
    return Chain(like.new_zeros(len(like), LINKS), torch.zeros_like(like))


def propagated(
    chain: Chain,
    twice_kinetic: Float[Tensor, "B"],
    free: Float[Tensor, "B"],
    thermal: Float[Tensor, "B"],
    time_constant: float,
    dt: float,
) -> tuple[Chain, Float[Tensor, "B"]]:
    """A chain that has acted for dt (fs) on velocities of this kinetic energy, and the factor they get.

    Args:
        twice_kinetic: 2K, eV.
        free: degrees of freedom; a structure with none is left alone.
        thermal: kT, eV.
    """
    velocities, heat = chain.velocities, chain.heat
    if velocities.device.type == "cpu":
        # some hundred operations on very few numbers: numpy's cost a third of torch's
        links, heat, scale = _propagated(
            list(velocities.numpy().T),
            heat.numpy(),
            twice_kinetic.numpy(),
            free.numpy(),
            thermal.numpy(),
            time_constant,
            dt,
            np.exp,
        )
        return Chain(torch.from_numpy(np.stack(links, -1)), torch.from_numpy(heat)), torch.from_numpy(scale)
    links, heat, scale = _propagated(
        list(velocities.unbind(-1)), heat, twice_kinetic, free, thermal, time_constant, dt, torch.exp
    )
    return Chain(torch.stack(links, -1), heat), scale


def _propagated(
    links: list[Any],
    heat: Any,
    twice_kinetic: Any,
    free: Any,
    thermal: Any,
    time_constant: float,
    dt: float,
    exp: Callable[[Any], Any],
) -> tuple[list[Any], Any, Any]:
    """The splitting, on arrays [B] of either library."""
    other = thermal * time_constant**2
    masses = [(free + (free < 1.0)) * other] + [other] * (LINKS - 1)
    scale = 1.0 + 0.0 * twice_kinetic
    last = len(links) - 1
    present = 1.0 * (free > 0)

    def force(k: int) -> Any:
        if k == 0:
            return (twice_kinetic - free * thermal) / masses[0]
        return (masses[k - 1] * links[k - 1] ** 2 - thermal) / masses[k]

    for weight in WEIGHTS:
        h = weight * dt
        links[last] = links[last] + 0.5 * h * force(last)
        for k in range(last - 1, -1, -1):
            damp = exp(-0.25 * h * links[k + 1])
            links[k] = (links[k] * damp + 0.5 * h * force(k)) * damp
        factor = exp(-h * links[0] * present)
        scale = scale * factor
        twice_kinetic = twice_kinetic * factor**2
        heat = heat + h * thermal * (free * links[0] + sum(links[1:]))
        for k in range(last):
            damp = exp(-0.25 * h * links[k + 1])
            links[k] = (links[k] * damp + 0.5 * h * force(k)) * damp
        links[last] = links[last] + 0.5 * h * force(last)
    return links, heat, scale


def chain_energy(
    chain: Chain, free: Float[Tensor, "B"], thermal: Float[Tensor, "B"], time_constant: float
) -> Float[Tensor, "B"]:
    """Kinetic energy of the links plus the energy their positions have taken up, eV."""
    kinetic = [
        0.5 * m * v.square()
        for m, v in zip(_masses(free, thermal, time_constant), chain.velocities.unbind(-1), strict=True)
    ]
    return sum(kinetic, chain.heat)


def _masses(free: Float[Tensor, "B"], thermal: Float[Tensor, "B"], time_constant: float) -> list[Float[Tensor, "B"]]:
    other = thermal * time_constant**2
    return [free.clamp_min(1.0) * other] + [other] * (LINKS - 1)
