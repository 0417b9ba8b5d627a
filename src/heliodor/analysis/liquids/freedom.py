"""Degrees of freedom, counted from velocities: bonds that do not stretch and atoms that do not move are held."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from heliodor.topology import Topology
from heliodor.trajectory.images import minimum_image
from heliodor.trajectory.selection import is_water
from heliodor.trajectory.trajectory import Trajectory
from heliodor.units import KINETIC

SAMPLED = 50
"""Frames whose velocities are looked at, evenly spaced."""

ENOUGH = 10
"""Bonds times frames of a kind below which velocities do not tell whether it is held."""

STILL = 0.02
"""A kind of bond whose lengths change with less than this share of the energy of equipartition is held. Leap-frog
velocities, half a step off the positions, leave about 0.001 of a rigid water."""


@dataclass(frozen=True, eq=False)
class Freedom:
    """Of some atoms of a trajectory.

    Attributes:
        degrees: of freedom: three for each moving atom, less the distances that are held; the motion of the whole is
            counted.
        held: pairs of atoms at constant distance.
        frozen: atoms that do not move.
        energy: eV, twice the mean kinetic energy.
    """

    degrees: int
    held: Int[np.ndarray, "B 2"]
    frozen: Int[np.ndarray, "F"]
    energy: float


def constraints_of(trajectory: Trajectory) -> str:
    """What the run's record says of bonds that were held: "none" (also without a record), "h-bonds", "water"."""
    settings = trajectory.record.get("settings", {})
    said = settings.get("constraints") if isinstance(settings, dict) else None
    return str(said or trajectory.settings.get("constraints") or "none")


def freedom_of(trajectory: Trajectory) -> Freedom | None:
    """Degrees of freedom of all atoms, from bonds (and H-H of water) whose lengths have no velocity.

    Bonds are judged together by elements, those of water apart. None where it cannot be told: a file with a part of
    the atoms, which may be held to others; too few velocities of a run with constraints; velocities that are no
    numbers. The trajectory holds velocities.
    """
    if trajectory.partial:
        return None
    topology, masses = trajectory.topology, trajectory.masses
    pairs, kind = _pairs(topology)
    sums, energies = np.zeros(len(pairs)), []
    moved = np.zeros(len(topology), dtype=bool)
    for block in trajectory.blocks(stride=max(1, len(trajectory) // SAMPLED), wanted=("velocities",)):
        velocities = block.velocities
        assert velocities is not None
        if not np.isfinite(velocities).all():
            return None
        i, j = pairs.T
        apart = minimum_image(block.positions[:, j] - block.positions[:, i], block.cell)
        length = np.maximum(np.linalg.norm(apart, axis=2), 1e-12)
        sums += np.square(np.einsum("kpc,kpc->kp", apart, velocities[:, j] - velocities[:, i]) / length).sum(0)
        moved |= (velocities != 0.0).any((0, 2))
        energies.append(KINETIC * np.einsum("n,knc,knc->k", masses, velocities, velocities))
    each = np.concatenate(energies)
    energy, frames = float(each.mean()), len(each)
    frozen = np.flatnonzero(~moved)
    free = moved[pairs].any(1)
    pairs, kind, sums = pairs[free], kind[free], sums[free]
    inertia = masses[pairs] * np.where(moved[pairs], 1.0, np.inf)
    # relative energy of each kind's stretching, in units of the mean energy of a degree of freedom
    stretching = KINETIC * sums / frames / (1.0 / inertia).sum(1)
    size = np.bincount(kind)
    if (size[size > 0] * frames < ENOUGH).any() and constraints_of(trajectory) != "none":
        return None
    total = np.bincount(kind, weights=stretching)
    count = 3 * int(moved.sum())
    still = (total < STILL * size * energy / max(count, 1)) & (size * frames >= ENOUGH)
    held = pairs[still[kind]] if len(pairs) else pairs
    return Freedom(count - len(held), held, frozen, energy)


def _pairs(topology: Topology) -> tuple[Int[np.ndarray, "B 2"], Int[np.ndarray, "B"]]:
    """Bonds and H-H of water, and numbers of their kinds."""
    water = is_water(topology)
    hydrogens = np.flatnonzero(water & (topology.numbers == 1))
    molecule = topology.molecules[hydrogens]
    order = np.argsort(molecule, kind="stable")
    hydrogens, molecule = hydrogens[order], molecule[order]
    same = molecule[1:] == molecule[:-1]
    across = np.stack([hydrogens[:-1][same], hydrogens[1:][same]], axis=1)
    pairs = np.concatenate([topology.bonds.reshape(-1, 2), across]).astype(np.int64)
    elements = np.sort(topology.numbers[pairs], axis=1)
    names = (elements[:, 0] * 1000 + elements[:, 1]) * 2 + water[pairs[:, 0]]
    return pairs, np.unique(names, return_inverse=True)[1].reshape(-1).astype(np.int64)
