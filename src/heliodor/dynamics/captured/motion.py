"""One step of a captured run: `heliodor.dynamics.steps` with forces, noise and the time handed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.dynamics.captured.middle import cell_rescaled, fluctuated, rescaled, thermostatted
from heliodor.dynamics.captured.philox import ATOMS, CELL, RESCALING
from heliodor.dynamics.state import MDState
from heliodor.dynamics.steps.integrators import drifted, kicked
from heliodor.dynamics.steps.pressure import Barostat
from heliodor.dynamics.targets import Ramp

Forces = Callable[[MDState], MDState]
"""The state with energy, forces (and virial) at its present positions and cell."""

Normals = Callable[[int, int], Float[Tensor, "M 3"]]
"""Normal numbers of a number of atoms and a stream."""

Chained = Callable[[MDState, float | Float[Tensor, "1"]], MDState]
"""The state after a Nosé-Hoover chain has acted for half a step at a temperature, K."""


@dataclass(frozen=True, eq=False)
class Motion:
    """What moves the atoms.

    Attributes:
        timestep: fs.
        thermostat: "langevin", "csvr", "nose-hoover" or None.
        ramp: of the temperature.
        friction: 1/ps, of the Langevin thermostat.
        time_constant: fs, of the other two.
        barostat: of stochastic cell rescaling; None for a fixed cell.
    """

    timestep: float
    thermostat: str | None
    ramp: Ramp
    friction: float = 2.0
    time_constant: float = 100.0
    barostat: Barostat | None = None


def moved(
    state: MDState,
    motion: Motion,
    step: Int[Tensor, "1"],
    forces: Forces,
    normals: Normals,
    chained: Chained | None = None,
) -> tuple[MDState, Float[Tensor, ""]]:
    """The state one step on, and the largest strain that a barostat made of its cell.

    Args:
        step: number of steps taken so far, on the device: `MDState.step` and ``time`` are left as they are.
        chained: another way to let a Nosé-Hoover chain act.
    """
    chained = chained or _chained(motion)
    dt, thermostat, n = motion.timestep, motion.thermostat, state.system.n_atoms
    kelvin = temperature_at(motion.ramp, step)
    strain = state.energy.new_zeros(())
    if thermostat == "nose-hoover":
        state = chained(state, kelvin)
    before = state.virial
    state = kicked(state, 0.5 * dt)
    if thermostat == "langevin" or motion.barostat is not None:
        state = drifted(state, 0.5 * dt)
        if thermostat == "langevin":
            state = fluctuated(state, dt, normals(n, ATOMS), temperature=kelvin, friction=motion.friction)
        by = None
        if motion.barostat is not None:
            assert before is not None
            state, by = cell_rescaled(
                state, dt, normals(3, CELL), temperature=kelvin, barostat=motion.barostat, virial=before
            )
            state = replace(state, bath=state.bath + 0.5 * (before * by).sum((-2, -1)))
            strain = by.abs().amax()
        state = forces(drifted(state, 0.5 * dt))
        if by is not None:
            assert state.virial is not None
            state = replace(state, bath=state.bath + 0.5 * (state.virial * by).sum((-2, -1)))
    else:
        state = forces(drifted(state, dt))
    state = kicked(state, 0.5 * dt)
    if thermostat == "csvr":
        noise = normals(n, RESCALING)
        state = rescaled(state, dt, noise, temperature=kelvin, time_constant=motion.time_constant)
    elif thermostat == "nose-hoover":
        state = chained(state, kelvin)
    return state, strain


def _chained(motion: Motion) -> Chained:
    dt, tau = 0.5 * motion.timestep, motion.time_constant
    return lambda state, kelvin: thermostatted(state, dt, temperature=kelvin, time_constant=tau)


def temperature_at(ramp: Ramp, step: Int[Tensor, "1"]) -> float | Float[Tensor, "1"]:
    """K; `Ramp.at` of one structure for a step that only the device knows."""
    knots = ramp.knots.reshape(len(ramp.knots), -1)[:, 0]
    if ramp.constant:
        return float(knots[0])
    place = (step.double() / ramp.steps).clamp(0.0, 1.0) * (len(knots) - 1)
    kelvin = torch.zeros_like(place)
    # a sum over the stretches between knots: nothing is looked up by an index
    for k in range(len(knots) - 1):
        low, high = float(knots[k]), float(knots[k + 1])
        kelvin = kelvin + (high - low) * (place - k).clamp(0.0, 1.0)
    return kelvin + float(knots[0])
