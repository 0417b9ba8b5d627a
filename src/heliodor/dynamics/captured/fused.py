"""Steps in a fixed cell by a few kernels of Triton: the motion of `heliodor.dynamics.captured.motion.moved`.

Between the forces of one step and of the next stand two launches at constant energy, three with a Langevin thermostat
or velocity rescaling, where torch's own operations would be some thirty. Sums go block by block in a fixed order, so
two runs have the same bits; they differ from torch's sums in the last digits.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import triton
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.dynamics.captured.fused_kernels import kick, push, rescale, settle
from heliodor.dynamics.captured.motion import Forces, Motion, temperature_at
from heliodor.dynamics.state import MDState
from heliodor.units import ACCELERATION, BOLTZMANN, KINETIC

BLOCK = 128
"""Atoms of a program."""

LANES = 128
"""Partial sums read at once."""


@dataclass(frozen=True, eq=False)
class Constants:
    """What does not change during a run, where the kernels can read it in double precision.

    Attributes:
        inverse: 1/mass, zero for frozen atoms.
        numbers: gain of a half kick, time of a drift, what friction or the time constant keeps, of the noise's
            variance or the rest, total mass, eV of amu Å²/fs² over two, half of Boltzmann's constant.
        kelvin: the temperature of a run that has but one.
    """

    inverse: Float[Tensor, "N"]
    numbers: Float[Tensor, "7"]
    kelvin: Float[Tensor, "1"]


def can_fuse(motion: Motion) -> bool:
    """Whether there are kernels for this motion."""
    return motion.barostat is None and motion.thermostat in (None, "langevin", "csvr")


def constants_of(state: MDState, motion: Motion) -> Constants:
    """Made once, outside of a graph."""
    dt = motion.timestep
    inverse = 1.0 / state.masses
    if state.frozen is not None:
        inverse = torch.where(state.frozen, 0.0, inverse)
    keep, rest, drift = 1.0, 0.0, dt
    if motion.thermostat == "langevin":
        keep = math.exp(-1e-3 * motion.friction * dt)
        rest, drift = (1.0 - keep**2) * BOLTZMANN / KINETIC, 0.5 * dt
    elif motion.thermostat == "csvr":
        keep = math.exp(-dt / motion.time_constant)
        rest = 1.0 - keep
    numbers = [0.5 * dt * ACCELERATION, drift, keep, rest, float(state.masses.sum()), 0.5 * KINETIC, 0.5 * BOLTZMANN]
    device = state.system.device
    return Constants(
        inverse,
        torch.tensor(numbers, dtype=torch.float64, device=device),
        torch.tensor([float(motion.ramp.at(0))], dtype=torch.float64, device=device),
    )


def moved_fused(
    state: MDState,
    motion: Motion,
    constants: Constants,
    then: Float[Tensor, "N 3"],
    step: Int[Tensor, "1"],
    key: Int[Tensor, "2"],
    forces: Forces,
) -> tuple[MDState, Int[Tensor, "1"], Float[Tensor, "1"]]:
    """The state one step on, the number of the next step, and how far an atom was from ``then`` at most, squared, Å².

    Args:
        then: Å, where the lists were made.
        forces: called once, at the new positions.
    """
    system, n = state.system, state.system.n_atoms
    langevin, csvr = motion.thermostat == "langevin", motion.thermostat == "csvr"
    kelvin = temperature_at(motion.ramp, step)
    hot = constants.kelvin if isinstance(kelvin, float) else kelvin
    grid = (triton.cdiv(n, BLOCK),)
    partial = torch.empty(4 if langevin else 1, *grid, dtype=torch.float64, device=system.device)
    positions, velocities = torch.empty_like(system.positions), torch.empty_like(state.velocities)
    numbers, inverse, masses = constants.numbers, constants.inverse, state.masses
    push[grid](
        *(system.positions, state.velocities, state.forces, masses, inverse, then, hot, numbers, step, key),
        *(positions, velocities, partial, n),
        LANGEVIN=langevin,
        BLOCK=BLOCK,
    )
    reach = after = partial
    if langevin:
        reach, after = torch.empty(grid, dtype=torch.float64, device=system.device), torch.empty_like(partial[0])
        settle[grid](
            *(positions, velocities, masses, then, numbers, partial, reach, after, n),
            CENTER=state.fixed_center,
            LANES=LANES,
            BLOCK=BLOCK,
        )
    state = forces(replace(state, system=system.replace(positions=positions), velocities=velocities))
    # the model has seen the velocities of the half step, and may have kept them
    new = torch.empty_like(velocities)
    sums = torch.empty(3, *grid, dtype=torch.float64, device=system.device) if csvr else partial
    bath, next_step = torch.empty_like(state.bath), torch.empty_like(step)
    furthest = torch.empty(1, dtype=torch.float64, device=system.device)
    kick[grid](
        *(velocities, state.forces, masses, inverse, numbers, state.degrees_of_freedom, state.bath, step, key),
        *(partial, after, reach, new, sums, bath, next_step, furthest, n),
        LANGEVIN=langevin,
        RESCALED=csvr,
        LANES=LANES,
        BLOCK=BLOCK,
    )
    if csvr:
        rescale[grid](new, numbers, hot, state.degrees_of_freedom, sums, bath, n, LANES=LANES, BLOCK=BLOCK)
    return replace(state, velocities=new, bath=bath), next_step, furthest
