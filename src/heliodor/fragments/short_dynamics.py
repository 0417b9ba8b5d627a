"""Short hot trajectories of many small molecules at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import ase
import numpy as np
from jaxtyping import Bool, Float

from heliodor.errors import InputError
from heliodor.fragments.bottom_up import Progress
from heliodor.fragments.distorted import CLASH, Distorted, Sieve, closest, joined
from heliodor.fragments.embed import seed_of_structure
from heliodor.fragments.energy_source import Source, offsets_of, surface
from heliodor.fragments.normal_modes import check_temperatures
from heliodor.units import ACCELERATION, BOLTZMANN, KINETIC

LONGEST_STEP = 0.4
"""Å; an atom that moves farther in one step has left physics: at 1000 K hydrogen takes 0.03 Å in 0.5 fs."""


@dataclass
class _Walker:
    atoms: ase.Atoms
    temperature: float
    rng: np.random.Generator
    sieve: Sieve
    centre: Float[np.ndarray, "3"] = field(init=False)

    def __post_init__(self) -> None:
        self.centre = self.atoms.get_center_of_mass()


def sample_dynamics(
    atoms: ase.Atoms | Sequence[ase.Atoms],
    source: Source,
    *,
    temperatures: Sequence[float] = (300.0, 500.0, 1000.0),
    frames: int = 20,
    every: float = 50.0,
    step: float = 0.5,
    friction: float = 10.0,
    reject_reconnected: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Distorted:
    """Frames of Langevin dynamics (BAOAB, Leimkuhler & Matthews 2013) of each structure at each temperature.

    All trajectories run at once: with a Potential in batches, which for small molecules is many times faster than one
    after the other. One whose energy fails, or whose atoms clash or run away, ends there.

    Args:
        atoms: starting geometries; they need not be minima.
        temperatures: K.
        frames: of each trajectory.
        every: fs between frames, rounded to whole steps; less than 50 gives near-duplicates.
        step: fs.
        friction: 1/ps.
        reject_reconnected: leave out frames whose bonds changed.
        seed: with the same structures, source and seed the result is the same to the last bit.
        progress: called with (steps done, all).

    Returns:
        Frames ordered by structure, temperature, time; where the centre of mass of the start was.

    Raises:
        InputError: what cannot be sampled, a setting that is none.
        ModelError: an element outside the model.
    """
    structures = [atoms] if isinstance(atoms, ase.Atoms) else list(atoms)
    check_temperatures(temperatures)
    if not 0.0 < step <= 5.0 or not every >= step or not friction > 0.0 or frames < 0:
        raise InputError("the step must be between 0 and 5 fs, frames at least a step apart, the friction above 0")
    if not structures:
        return Distorted(())
    walkers = [
        _Walker(
            structure,
            float(temperature),
            np.random.default_rng(seed_of_structure(structure, "dynamics", float(temperature), seed)),
            Sieve(structure, reject_reconnected),
        )
        for structure in structures
        for temperature in temperatures
    ]
    ended = _run(walkers, source, frames, max(1, round(every / step)), step, friction, progress)
    return joined(walker.sieve.result(failed=int(over)) for walker, over in zip(walkers, ended, strict=True))


def _run(
    walkers: Sequence[_Walker],
    source: Source,
    frames: int,
    stride: int,
    dt: float,
    friction: float,
    progress: Progress | None,
) -> Bool[np.ndarray, "B"]:
    spans = offsets_of([walker.atoms for walker in walkers])
    energy_of = surface(source, [walker.atoms for walker in walkers])
    positions = np.concatenate([walker.atoms.positions for walker in walkers]).astype(np.float64)
    masses = np.concatenate([walker.atoms.get_masses() for walker in walkers])[:, None]
    kt = np.concatenate([np.full(len(w.atoms), BOLTZMANN * w.temperature) for w in walkers])[:, None]
    width = np.sqrt(kt / (KINETIC * masses))
    keep = float(np.exp(-1e-3 * friction * dt))
    stir = float(np.sqrt(1.0 - keep**2)) * width

    def noise() -> Float[np.ndarray, "N 3"]:
        return np.concatenate([walker.rng.standard_normal((len(walker.atoms), 3)) for walker in walkers])

    velocities = width * noise()
    energies, forces = energy_of(positions)
    alive = np.isfinite(energies)
    good = positions.copy()
    for number in range(1, frames * stride + 1):
        if not alive.any():
            break
        forces[~np.isfinite(forces)] = 0.0
        velocities += 0.5 * dt * ACCELERATION * forces / masses
        positions += 0.5 * dt * velocities
        velocities = keep * velocities + stir * noise()
        positions += 0.5 * dt * velocities
        for k, span in enumerate(spans):
            # what has ended rests where it was last sound
            if not alive[k] or not np.abs(positions[span] - good[span]).max() < LONGEST_STEP:
                alive[k] = False
                positions[span], velocities[span] = good[span], 0.0
        energies, forces = energy_of(positions, alive)
        velocities += 0.5 * dt * ACCELERATION * np.nan_to_num(forces) / masses
        alive &= np.isfinite(energies)
        good = positions.copy()
        if number % stride == 0:
            for k, (walker, span) in enumerate(zip(walkers, spans, strict=True)):
                if not alive[k]:
                    continue
                here = positions[span]
                drift = masses[span, 0] @ here / masses[span, 0].sum() - walker.centre
                walker.sieve.offer(here - drift, f"dynamics at {walker.temperature:g} K")
                alive[k] = closest(here) >= CLASH
        if progress is not None:
            progress(number, frames * stride)
    return ~alive
