"""L-BFGS: going downhill by the curvature that the last steps have shown.

Nocedal, Math. Comput. 35, 773 (1980): the two-loop recursion, here for a batch of structures that each have a history
of their own. A step is taken in full where the enthalpy falls enough (Armijo's condition) and shortened by quadratic
interpolation where it does not (Nocedal & Wright, Numerical Optimization, 2nd ed., section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heliodor.dynamics.relax.landscape import Landscape, Point, chosen, dot, limited, spread

MEMORY = 20
"""Steps remembered."""

CAUTIOUS = 0.02
"""Å²/eV: inverse stiffness assumed before anything is known; 50 eV/Å² is a covalent bond."""

ENOUGH = 1e-4
"""Armijo: part of the fall that the slope promises which a step has to keep."""

CURVED = 1e-6
"""Least cosine between a step and the change of the forces over it for the pair to be remembered."""

STRIDE = 4.0
"""Growth of the assumed inverse stiffness with each step over which the forces grew."""

TRIES, LAST_TRIES = 5, 12
"""Shortenings of a step before the history is forgotten, and of the steepest descent before giving up."""


@dataclass(frozen=True)
class Lbfgs:
    """Where each structure stands, where it is going and what it remembers.

    Attributes:
        target: the rows to look at next.
        base: the last accepted place.
        direction: of the step being tried, Å.
        slope: fall of the enthalpy promised by a whole step, eV.
        part: of the direction being tried, 0..1.
        steps, turns: the latest moves (Å) and falls of the forces over them (eV/Å), latest first.
        weights: 1/(step·turn) of each, 1/eV; 0 where nothing is remembered.
        scale: inverse stiffness to begin with, Å²/eV.
        tries: shortenings so far; negative: steepest descent, the last resort.
        stuck: the steepest descent does not fall either.
    """

    target: Float[Tensor, "M 3"]
    base: Point
    direction: Float[Tensor, "M 3"]
    slope: Float[Tensor, "B"]
    part: Float[Tensor, "B"]
    steps: Float[Tensor, "K M 3"]
    turns: Float[Tensor, "K M 3"]
    weights: Float[Tensor, "K B"]
    scale: Float[Tensor, "B"]
    tries: Float[Tensor, "B"]
    stuck: Bool[Tensor, "B"]
    limit: float

    @staticmethod
    def begin(point: Point, land: Landscape, limit: float) -> Lbfgs:
        """Without history, with the first step planned; no atom will move further than ``limit`` (Å) in one."""
        zero = torch.zeros_like(point.enthalpy)
        empty = point.pull.new_zeros(MEMORY, *point.pull.shape)
        mind = Lbfgs(
            target=point.rows,
            base=point,
            direction=torch.zeros_like(point.pull),
            slope=zero,
            part=zero + 1.0,
            steps=empty,
            turns=empty,
            weights=zero.new_zeros(MEMORY, len(zero)),
            scale=zero + CAUTIOUS,
            tries=zero,
            stuck=zero != 0.0,
            limit=limit,
        )
        return _planned(mind, zero == 0.0, land)

    def judge(self, trial: Point, best: Point, lost: Bool[Tensor, "B"], land: Landscape) -> Lbfgs:
        """Accept the trial and plan the next step, or shorten this one; structure by structure."""
        noise = noise_of(best.enthalpy)
        promised = self.base.enthalpy - ENOUGH * self.part * self.slope
        accepted = ~lost & (trial.enthalpy <= promised + noise) & (trial.enthalpy <= best.enthalpy + noise)
        mind = _shortened(_learnt(self, trial, accepted, land), trial, ~accepted)
        forget = ~accepted & (mind.tries > TRIES)
        mind = replace(
            mind,
            base=chosen(accepted, trial, mind.base, land),
            weights=torch.where(forget, 0.0, mind.weights),
            scale=torch.where(forget, CAUTIOUS, mind.scale),
            tries=torch.where(accepted, 0.0, torch.where(forget, -float(LAST_TRIES), mind.tries)),
            stuck=self.stuck | (~accepted & (self.tries == -1.0)),
        )
        return _planned(mind, accepted | forget, land)


def noise_of(energy: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
    """eV by which a float32 model's energies differ for no reason: that much above the best is as good."""
    return 1e-6 + 1e-7 * energy.abs()


def _learnt(mind: Lbfgs, trial: Point, accepted: Bool[Tensor, "B"], land: Landscape) -> Lbfgs:
    """Remember an accepted step over which the forces fell; forget all, and stride on, where they grew."""
    step, turn = trial.rows - mind.base.rows, mind.base.pull - trial.pull
    product, square = dot(step, turn, land), dot(turn, turn, land)
    curved = product > CURVED * (dot(step, step, land) * square).sqrt()
    new, bent = accepted & curved, accepted & ~curved
    where = spread(new, land.owner).view(1, -1, 1)
    weight = 1.0 / torch.where(new, product, 1.0)
    # where the forces grow the minimum is far: the limit on steps and Armijo's condition hold the stride
    scale = torch.where(bent, STRIDE * mind.scale, mind.scale)
    weights = torch.where(new, torch.cat([weight.unsqueeze(0), mind.weights[:-1]]), mind.weights)
    return replace(
        mind,
        steps=torch.where(where, torch.cat([step.unsqueeze(0), mind.steps[:-1]]), mind.steps),
        turns=torch.where(where, torch.cat([turn.unsqueeze(0), mind.turns[:-1]]), mind.turns),
        weights=torch.where(bent, 0.0, weights),
        scale=torch.where(new, product / torch.where(new, square, 1.0), scale),
    )


def _shortened(mind: Lbfgs, trial: Point, rejected: Bool[Tensor, "B"]) -> Lbfgs:
    """A shorter part of the same step: the minimum of the parabola through both energies and the slope."""
    rise = trial.enthalpy - mind.base.enthalpy + mind.part * mind.slope
    vertex = 0.5 * mind.slope * mind.part.square() / rise.clamp_min(1e-300)
    vertex = torch.where(rise.isfinite(), vertex, 0.0)
    shorter = torch.maximum(0.1 * mind.part, torch.minimum(vertex, 0.5 * mind.part))
    return replace(
        mind,
        part=torch.where(rejected, shorter, mind.part),
        tries=torch.where(rejected, mind.tries + 1.0, mind.tries),
    )


def _planned(mind: Lbfgs, which: Bool[Tensor, "B"], land: Landscape) -> Lbfgs:
    """A new whole step where told; the target for all."""

    def each(values: Tensor) -> Tensor:
        return spread(values, land.owner).unsqueeze(-1)

    pull = mind.base.pull
    direction = pull
    shares = []
    for step, turn, weight in zip(mind.steps, mind.turns, mind.weights, strict=True):
        shares.append(weight * dot(step, direction, land))
        direction = direction - each(shares[-1]) * turn
    direction = each(mind.scale) * direction
    for k in reversed(range(len(shares))):
        back = mind.weights[k] * dot(mind.turns[k], direction, land)
        direction = direction + each(shares[k] - back) * mind.steps[k]
    # rounding can spoil a long history: what does not fall is no direction
    falls = dot(pull, direction, land) > 0.0
    direction = limited(torch.where(each(falls), direction, CAUTIOUS * pull), mind.limit, land)
    direction = torch.where(each(which), direction, mind.direction)
    part = torch.where(which, 1.0, mind.part)
    return replace(
        mind,
        target=mind.base.rows + each(part) * direction,
        direction=direction,
        slope=dot(pull, direction, land),
        part=part,
    )
