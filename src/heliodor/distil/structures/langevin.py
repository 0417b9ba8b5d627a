"""Langevin dynamics (BAOAB, Leimkuhler & Matthews 2013) with forces from any function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from heliodor.units import ACCELERATION, BOLTZMANN, KINETIC

LARGEST_MOVE = 0.5
"""Å; an atom that moves farther in one step has left physics, and the trajectory ends."""


def langevin(
    forces_of: Callable[[Float[np.ndarray, "N 3"]], Float[np.ndarray, "N 3"]],
    masses: Float[np.ndarray, "N"],
    positions: Float[np.ndarray, "N 3"],
    temperature: float,
    rng: np.random.Generator,
    *,
    frames: int,
    first: int,
    every: int,
    step: float = 1.0,
    friction: float = 20.0,
) -> list[Float[np.ndarray, "N 3"]]:
    """Frames of one trajectory from the Maxwell distribution; fewer where it blew up.

    Args:
        forces_of: eV/Å from positions in Å.
        masses: amu.
        temperature: K.
        first: steps before the first frame.
        every: steps between frames.
        step: fs.
        friction: 1/ps.
    """
    mass = masses[:, None]
    width = np.sqrt(BOLTZMANN * temperature / (KINETIC * mass))
    keep = float(np.exp(-1e-3 * friction * step))
    stir = float(np.sqrt(1.0 - keep**2)) * width
    kick = 0.5 * step * ACCELERATION / mass
    x = positions.copy()
    velocities = width * rng.standard_normal(x.shape)
    forces = forces_of(x)
    found: list[Float[np.ndarray, "N 3"]] = []
    for number in range(1, first + every * (frames - 1) + 1):
        velocities += kick * forces
        before = x
        x = x + 0.5 * step * velocities
        velocities = keep * velocities + stir * rng.standard_normal(x.shape)
        x = x + 0.5 * step * velocities
        if not np.abs(x - before).max() < LARGEST_MOVE:
            break
        forces = forces_of(x)
        velocities += kick * forces
        if number >= first and (number - first) % every == 0:
            found.append(x.copy())
    return found
