"""FIRE: going downhill by inertia.

Bitzek, Koskinen, Gähler, Moseler & Gumbsch, Phys. Rev. Lett. 97, 170201 (2006), with the half step back after a
climb and the semi-implicit Euler integration of Guénolé et al., Comput. Mater. Sci. 175, 109584 (2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heliodor.dynamics.relax.landscape import Landscape, Point, chosen, dot, limited, spread

TIMESTEP, LARGEST_TIMESTEP, SMALLEST_TIMESTEP = 0.1, 1.0, 0.002
"""In units where all masses are one: Å per (eV/Å)^½ per step; ASE's values."""

DELAY, GROW, SHRINK, MIXING, MIXING_DECAY = 5, 1.1, 0.5, 0.1, 0.99
"""Bitzek's parameters."""


@dataclass(frozen=True)
class Fire:
    """Velocities and the last move of the rows; step size, mixing and steps downhill of each structure.

    Attributes:
        target: the rows to look at next.
        stuck: never: FIRE goes on from its best place with smaller steps.
    """

    target: Float[Tensor, "M 3"]
    velocities: Float[Tensor, "M 3"]
    move: Float[Tensor, "M 3"]
    step_size: Float[Tensor, "B"]
    mixing: Float[Tensor, "B"]
    downhill: Float[Tensor, "B"]
    fresh: Bool[Tensor, "B"]
    stuck: Bool[Tensor, "B"]
    limit: float

    @staticmethod
    def begin(point: Point, land: Landscape, limit: float) -> Fire:
        """At rest, with the first move planned; no atom will move further than ``limit`` (Å) in one."""
        still, zero = torch.zeros_like(point.pull), torch.zeros_like(point.enthalpy)
        rest = Fire(point.rows, still, still, zero + TIMESTEP, zero + MIXING, zero, zero == 0.0, zero != 0.0, limit)
        return _follow(rest, point, land)

    def judge(self, trial: Point, best: Point, lost: Bool[Tensor, "B"], land: Landscape) -> Fire:
        """Plan the next move; from the best place, at rest and with half the step, where the trial is lost."""
        if bool(lost.any()):
            return _follow(_restarted(self, lost, land), chosen(lost, best, trial, land), land)
        return _follow(self, trial, land)


def _follow(fire: Fire, point: Point, land: Landscape) -> Fire:
    """One FIRE step: judge the last move by the power F·v, adapt, turn the velocities towards the forces, move."""

    def each(values: Tensor) -> Tensor:
        return spread(values, land.owner).unsqueeze(-1)

    pull = point.pull
    falling = (dot(pull, fire.velocities, land) > 0.0) | fire.fresh
    downhill = torch.where(falling, fire.downhill + 1.0, 0.0)
    grown = torch.where(downhill > DELAY, (fire.step_size * GROW).clamp_max(LARGEST_TIMESTEP), fire.step_size)
    step_size = torch.where(falling, grown, (fire.step_size * SHRINK).clamp_min(SMALLEST_TIMESTEP))
    mixing = torch.where(falling, torch.where(downhill > DELAY, fire.mixing * MIXING_DECAY, fire.mixing), MIXING)

    on = each(falling)
    velocities = torch.where(on, fire.velocities, 0.0) + each(step_size) * pull
    speed = dot(velocities, velocities, land).sqrt()
    steepness = dot(pull, pull, land).sqrt().clamp_min(1e-300)
    velocities = (1.0 - each(mixing)) * velocities + each(mixing * speed / steepness) * pull

    move = each(step_size) * velocities - torch.where(on, 0.0, 0.5 * fire.move)
    move = limited(move, fire.limit, land)
    moving = torch.zeros_like(fire.fresh)
    return Fire(point.rows + move, velocities, move, step_size, mixing, downhill, moving, fire.stuck, fire.limit)


def _restarted(fire: Fire, which: Bool[Tensor, "B"], land: Landscape) -> Fire:
    """At rest again, with half the step, where told."""
    rows = spread(which, land.owner).unsqueeze(-1)
    return Fire(
        target=fire.target,
        velocities=torch.where(rows, 0.0, fire.velocities),
        move=torch.where(rows, 0.0, fire.move),
        step_size=torch.where(which, (SHRINK * fire.step_size).clamp_min(SMALLEST_TIMESTEP), fire.step_size),
        mixing=torch.where(which, MIXING, fire.mixing),
        downhill=torch.where(which, 0.0, fire.downhill),
        fresh=fire.fresh | which,
        stuck=fire.stuck,
        limit=fire.limit,
    )
