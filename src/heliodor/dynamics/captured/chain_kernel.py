"""A Nosé-Hoover chain in one launch: `heliodor.dynamics.steps.nose_hoover`, a hundred operations on three numbers."""

# mypy: disable-error-code="import-untyped, no-untyped-def"

from __future__ import annotations

from dataclasses import replace

import torch
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.state import MDState, kinetic_energy
from heliodor.dynamics.steps.extended import Chain
from heliodor.dynamics.steps.nose_hoover import LINKS, WEIGHTS
from heliodor.kernels.gpu.jit import jit
from heliodor.units import BOLTZMANN

assert LINKS == 3, "the kernel is written for chains of three links"


@jit
def propagate(links, heat, kinetic, free, kelvin, numbers, bath, new_links, new_heat, scale_of, new_bath):
    """One program; numbers: weights times dt, the square of the time constant, Boltzmann's constant."""
    a = tl.load(links)
    b = tl.load(links + 1)
    c = tl.load(links + 2)
    q = tl.load(heat)
    twice = 2 * tl.load(kinetic)
    f = tl.load(free)
    kt = tl.load(numbers + 4) * tl.load(kelvin)
    light = kt * tl.load(numbers + 3)
    heavy = tl.where(f < 1, f + 1, f) * light
    count = tl.where(f < 1, 1, f)
    moves = f > 0
    was = q + (count * light * a * a + light * b * b + light * c * c) / 2
    scale = twice * 0 + 1
    for k in tl.static_range(3):
        h = tl.load(numbers + k)
        c += h / 2 * ((light * b * b - kt) / light)
        damp = tl.exp(-h / 4 * c)
        b = (b * damp + h / 2 * ((heavy * a * a - kt) / light)) * damp
        damp = tl.exp(-h / 4 * b)
        a = (a * damp + h / 2 * ((twice - f * kt) / heavy)) * damp
        factor = tl.where(moves, tl.exp(-h * a), 1)
        scale *= factor
        twice *= factor * factor
        q += h * kt * (f * a + b + c)
        damp = tl.exp(-h / 4 * b)
        a = (a * damp + h / 2 * ((twice - f * kt) / heavy)) * damp
        damp = tl.exp(-h / 4 * c)
        b = (b * damp + h / 2 * ((heavy * a * a - kt) / light)) * damp
        c += h / 2 * ((light * b * b - kt) / light)
    tl.store(new_links, a)
    tl.store(new_links + 1, b)
    tl.store(new_links + 2, c)
    tl.store(new_heat, q)
    tl.store(scale_of, scale)
    now = q + (count * light * a * a + light * b * b + light * c * c) / 2
    tl.store(new_bath, tl.load(bath) + now - was)


def chain_numbers(time_constant: float, dt: float, device: torch.device) -> Float[Tensor, "5"]:
    """Made once, outside of a graph.

    Args:
        time_constant: fs.
        dt: fs that the chain acts for.
    """
    values = [*(weight * dt for weight in WEIGHTS), time_constant**2, BOLTZMANN]
    return torch.tensor(values, dtype=torch.float64, device=device)


def thermostatted(state: MDState, kelvin: Float[Tensor, "1"], numbers: Float[Tensor, "5"]) -> MDState:
    """As `heliodor.dynamics.captured.middle.thermostatted`, of one structure.

    Args:
        kelvin: K.
        numbers: of `chain_numbers`.
    """
    assert state.chain is not None
    links, heat = torch.empty_like(state.chain.velocities), torch.empty_like(state.chain.heat)
    scale, bath = torch.empty_like(heat), torch.empty_like(state.bath)
    propagate[(1,)](
        *(state.chain.velocities, state.chain.heat, kinetic_energy(state), state.degrees_of_freedom, kelvin, numbers),
        *(state.bath, links, heat, scale, bath),
        num_warps=1,
    )
    return replace(state, velocities=state.velocities * scale, chain=Chain(links, heat), bath=bath)
