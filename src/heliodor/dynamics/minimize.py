"""FIRE: structure relaxation by inertia, many structures at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from heliodor.dynamics.state import SKIN, evaluate_moved, per_atom, per_structure
from heliodor.potential import Potential
from heliodor.system import System

TIMESTEP, LARGEST_TIMESTEP, SMALLEST_TIMESTEP = 0.1, 1.0, 0.002
"""In units where all masses are one: Å per (eV/Å)^½ per step; ASE's values."""

DELAY, GROW, SHRINK, MIXING, MIXING_DECAY = 5, 1.1, 0.5, 0.1, 0.99
"""Bitzek's parameters."""


@dataclass(frozen=True)
class Minimized:
    """Result for B structures of N atoms in all.

    Attributes:
        system: at the best positions found.
        energy: eV, never above that of the structure handed in.
        forces: eV/Å.
        fmax: largest force on an atom of each structure, eV/Å.
        converged: whether fmax was reached.
        steps: force evaluations after the first.
        energies: eV at each step, the first row being the start.
    """

    system: System
    energy: Float[Tensor, "B"]
    forces: Float[Tensor, "N 3"]
    fmax: Float[Tensor, "B"]
    converged: Bool[Tensor, "B"]
    steps: int
    energies: Float[Tensor, "T B"]


Callback = Callable[[int, Float[Tensor, "B"], Float[Tensor, "B"]], bool | None]
"""Called with step, energy [B] eV and fmax [B] eV/Å; True stops the minimization."""


def minimize(
    system: System,
    potential: Potential,
    *,
    fmax: float = 0.01,
    max_steps: int = 1000,
    max_displacement: float = 0.2,
    skin: float = SKIN,
    callback: Callback | None = None,
) -> Minimized:
    """Relax the positions of each structure until no force exceeds fmax.

    Bitzek, Koskinen, Gähler, Moseler & Gumbsch, Phys. Rev. Lett. 97, 170201 (2006), with the half step back
    after a climb and the semi-implicit Euler integration of Guénolé et al., Comput. Mater. Sci. 175, 109584
    (2020). A structure whose forces vanish at a higher energy than it has already seen is sent back to its best
    positions with a smaller step: no result lies above its start.

    Args:
        fmax: eV/Å.
        max_displacement: Å, of any atom in one step.
        skin: Å, of the neighbour lists.
    """
    system = system.to(device=potential.device, dtype=torch.float64)
    prediction, neighbors = evaluate_moved(potential, system, potential.neighbors(system, skin))
    assert prediction.forces is not None
    energy, forces = prediction.energy, prediction.forces
    best = (system.positions, energy, forces)
    history = [energy]
    largest = _largest(forces, system)
    converged = largest <= fmax
    inertia = _Inertia.at_rest(energy, forces)
    while len(history) <= max_steps and not bool(converged.all()):
        if callback is not None and callback(len(history) - 1, energy, largest):
            break
        inertia = _follow(inertia, forces, system, max_displacement)
        move = torch.where(_each(converged, system), 0.0, inertia.move)
        system = system.replace(positions=system.positions + move)
        prediction, neighbors = evaluate_moved(potential, system, neighbors)
        assert prediction.forces is not None
        energy, forces = prediction.energy, prediction.forces
        largest = _largest(forces, system)
        history.append(energy)

        flat = largest <= fmax
        # a float32 model's energies carry noise: a hair above the best is as good
        good = energy <= best[1] + 1e-6 + 1e-7 * best[1].abs()
        taken = (energy <= best[1]) | (flat & good)
        best = (
            torch.where(_each(taken, system), system.positions, best[0]),
            torch.where(taken, energy, best[1]),
            torch.where(_each(taken, system), forces, best[2]),
        )
        converged = converged | (flat & good)
        lost = (flat & ~good) | ~energy.isfinite()
        if bool(lost.any()):
            system = system.replace(positions=torch.where(_each(lost, system), best[0], system.positions))
            forces = torch.where(_each(lost, system), best[2], forces)
            inertia = _restarted(inertia, lost, system)

    positions, energy, forces = best
    largest = _largest(forces, system)
    return Minimized(
        system=system.replace(positions=positions),
        energy=energy,
        forces=forces,
        fmax=largest,
        converged=largest <= fmax,
        steps=len(history) - 1,
        energies=torch.stack(history),
    )


@dataclass(frozen=True)
class _Inertia:
    """What FIRE remembers: velocities and the last move of the atoms; step size, mixing and steps downhill."""

    velocities: Float[Tensor, "N 3"]
    move: Float[Tensor, "N 3"]
    step_size: Float[Tensor, "B"]
    mixing: Float[Tensor, "B"]
    downhill: Float[Tensor, "B"]
    fresh: Bool[Tensor, "B"]

    @staticmethod
    def at_rest(energy: Float[Tensor, "B"], forces: Float[Tensor, "N 3"]) -> _Inertia:
        still, zero = torch.zeros_like(forces), torch.zeros_like(energy)
        return _Inertia(still, still, zero + TIMESTEP, zero + MIXING, zero, zero == 0.0)


def _follow(fire: _Inertia, forces: Float[Tensor, "N 3"], system: System, longest: float) -> _Inertia:
    """One FIRE step: judge the last move by the power F·v, adapt, turn the velocities towards the forces, move."""
    power = per_structure((forces * fire.velocities).sum(-1), system)
    falling = (power > 0.0) | fire.fresh
    downhill = torch.where(falling, fire.downhill + 1.0, 0.0)
    grown = torch.where(downhill > DELAY, (fire.step_size * GROW).clamp_max(LARGEST_TIMESTEP), fire.step_size)
    step_size = torch.where(falling, grown, (fire.step_size * SHRINK).clamp_min(SMALLEST_TIMESTEP))
    mixing = torch.where(falling, torch.where(downhill > DELAY, fire.mixing * MIXING_DECAY, fire.mixing), MIXING)

    on = _each(falling, system)
    velocities = torch.where(on, fire.velocities, 0.0) + _each(step_size, system) * forces
    speed = per_structure(velocities.square().sum(-1), system).sqrt()
    pull = per_structure(forces.square().sum(-1), system).sqrt().clamp_min(1e-300)
    share = _each(mixing, system)
    velocities = (1.0 - share) * velocities + share * _each(speed / pull, system) * forces

    move = _each(step_size, system) * velocities - torch.where(on, 0.0, 0.5 * fire.move)
    reach = _largest(move, system).clamp_min(1e-300)
    move = move * _each((longest / reach).clamp_max(1.0), system)
    return _Inertia(velocities, move, step_size, mixing, downhill, torch.zeros_like(fire.fresh))


def _restarted(fire: _Inertia, which: Bool[Tensor, "B"], system: System) -> _Inertia:
    """At rest again, with half the step, where told."""
    atoms = _each(which, system)
    return _Inertia(
        velocities=torch.where(atoms, 0.0, fire.velocities),
        move=torch.where(atoms, 0.0, fire.move),
        step_size=torch.where(which, (SHRINK * fire.step_size).clamp_min(SMALLEST_TIMESTEP), fire.step_size),
        mixing=torch.where(which, MIXING, fire.mixing),
        downhill=torch.where(which, 0.0, fire.downhill),
        fresh=fire.fresh | which,
    )


def _each(values: Shaped[Tensor, "B"], system: System) -> Shaped[Tensor, "M 1"]:
    return per_atom(values, system).unsqueeze(-1)


def _largest(vectors: Float[Tensor, "N 3"], system: System) -> Float[Tensor, "B"]:
    """Longest vector of each structure."""
    length: Tensor = vectors.norm(dim=-1)
    if system.n_structures == 1:
        return length.amax(0, keepdim=True)
    zero = length.new_zeros(system.n_structures)
    return zero.scatter_reduce(0, system.batch, length, "amax", include_self=False)
