"""Vibrational densities of states: power spectra of velocities along a trajectory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.liquids.freedom import constraints_of, freedom_of
from heliodor.analysis.spectra.sampling import usual_resolution
from heliodor.analysis.spectra.welch import block_length, grid, integral, reached, restored, windowed_power
from heliodor.errors import InputError
from heliodor.topology import Topology
from heliodor.trajectory.block import Block
from heliodor.trajectory.images import minimum_image
from heliodor.trajectory.parallel import Progress, over_blocks
from heliodor.trajectory.selection import select
from heliodor.trajectory.trajectory import LEAST_ATOMS, Trajectory
from heliodor.units import BOLTZMANN, KINETIC

ATOMS = 3000
"""Used at most by default, evenly spaced in each group."""

MEMORY = 64 * 2**20
"""Bytes of the velocities of one block; with more, atoms are read in several passes."""

TOGETHER = 64
"""Atoms transformed at once."""


@dataclass(frozen=True, eq=False)
class Group:
    """Atoms whose share of a spectrum is shown.

    Attributes:
        name: an element or a selection.
        atoms: ascending indices.
    """

    name: str
    atoms: Int[np.ndarray, "n"]


@dataclass(frozen=True, eq=False)
class VelocityPower:
    """Power spectra of velocities, of P groups with N atoms together, on an even grid of wavenumbers.

    Attributes:
        wavenumber: cm⁻¹, from zero to the Nyquist limit.
        groups: names.
        weighted: modes per cm⁻¹, each atom's share weighted with its mass; the integral of the sum over groups is
            `modes`. In equilibrium without constraints a group of n atoms has 3n.
        weighted_error: standard error over the blocks; not a number with fewer than two.
        plain: likewise, each atom's velocity counting alike, scaled to the same integral.
        plain_error: of it.
        temperature: K; of the velocities, with as many degrees of freedom as `modes`; not a number where these could
            not be counted.
        modes: 3N, less the distances that are held and the frozen atoms (`freedom_of`).
        counted: whether these could be counted; if not, `modes` is 3N although there were constraints.
        resolution: cm⁻¹; full width at half maximum of an infinitely sharp line (Hann window).
        blocks: how many were averaged.
        atoms: N.
        used: atoms that were looked at.
        differences: velocities are differences of positions, because the file holds none.
    """

    wavenumber: Float[np.ndarray, "G"]
    groups: tuple[str, ...]
    weighted: Float[np.ndarray, "P G"]
    weighted_error: Float[np.ndarray, "P G"]
    plain: Float[np.ndarray, "P G"]
    plain_error: Float[np.ndarray, "P G"]
    temperature: float
    modes: int
    counted: bool
    resolution: float
    blocks: int
    atoms: int
    used: int
    differences: bool


def by_element(topology: Topology) -> tuple[Group, ...]:
    """All atoms by element, hydrogen first."""
    return tuple(
        Group(str(topology.symbols[topology.numbers == z][0]), np.flatnonzero(topology.numbers == z))
        for z in np.unique(topology.numbers)
    )


def read_groups(topology: Topology, text: str) -> tuple[Group, ...]:
    """Groups in words: selections with semicolons between, ``"water; protein and backbone"``.

    Raises:
        InputError: a selection that means nothing, or atoms in two groups.
    """
    groups = tuple(Group(word.strip(), select(topology, word)) for word in text.split(";") if word.strip())
    if not groups:
        raise InputError("no groups are given: write selections such as 'water; protein'")
    every = np.concatenate([group.atoms for group in groups])
    if len(np.unique(every)) < len(every):
        raise InputError("an atom can be in one group only: the parts must add up to the whole")
    return groups


def velocity_power(
    trajectory: Trajectory,
    groups: Sequence[Group] | None = None,
    *,
    resolution: float | None = None,
    atoms: int = ATOMS,
    progress: Progress | None = None,
    processes: int = 1,
) -> VelocityPower:
    """Fourier transform of the velocity autocorrelation functions, plain and weighted with masses.

    By the Wiener-Khinchin theorem from the power of blocks of velocities under a Hann window. Without velocities in the
    file they are differences of neighbouring positions, whose known damping of fast motion is divided out.

    Args:
        groups: None for `by_element`.
        resolution: cm⁻¹; sets the length of the blocks that are averaged. None: 10, coarser for short runs.
        atoms: used at most; of larger systems atoms evenly spaced in each group stand for the others.

    Raises:
        InputError: too few or uneven frames for the resolution, velocities that are no numbers.
    """
    groups = by_element(trajectory.topology) if groups is None else tuple(groups)
    if atoms < len(groups):
        raise InputError(f"at least one atom of each of the {len(groups)} groups must be used")
    interval = trajectory.interval
    differences = "velocities" not in trajectory.holds
    extra = 1 if differences else 0
    available = trajectory.even - extra
    resolution = usual_resolution(available, interval) if resolution is None else resolution
    length = block_length(available, interval, resolution, differences=differences)
    count = trajectory.even // (length + extra)
    total = sum(len(group.atoms) for group in groups)

    weight = np.zeros(trajectory.n_atoms)
    member = np.zeros(trajectory.n_atoms, dtype=np.int64)
    for k, group in enumerate(groups):
        share = max(1, min(len(group.atoms), atoms * len(group.atoms) // total))
        taken = group.atoms[np.linspace(0, len(group.atoms) - 1, share).astype(np.int64)]
        weight[taken] = len(group.atoms) / share
        member[taken] = k
    used = np.flatnonzero(weight)
    each = max(1, MEMORY // (24 * (length + extra)))
    parts = [used[first : first + each] for first in range(0, len(used), each)]
    frames = count * (length + extra)
    power = np.zeros((2, count, len(groups), len(grid(length, interval))))
    for number, part in enumerate(parts):
        told: Progress | None = None
        if progress is not None:
            told = _shifted(progress, number * frames, len(parts) * frames)
        for k, found in enumerate(
            over_blocks(
                trajectory,
                _power,
                np.stack([weight[part], weight[part] * trajectory.masses[part]]),
                member[part],
                len(groups),
                interval,
                differences,
                stop=frames,
                atoms=part,
                wanted=() if differences else ("velocities",),
                memory=24 * max(len(part), LEAST_ATOMS) * (length + extra),
                progress=told,
                # no block may be cut smaller to keep more processes busy
                processes=max(1, min(processes, count // 2)),
            )
        ):
            power[:, k] += found
    wavenumber = grid(length, interval)
    means = power.mean(1)
    areas = integral(means.sum(1), wavenumber)
    if not (areas > 0.0).all():
        raise InputError(f"{trajectory.path}: nothing moves, and there is no spectrum")
    every = np.concatenate([group.atoms for group in groups])
    known = _modes(trajectory, every)
    modes = 3 * total if known is None else known
    scale = (modes / areas)[:, None, None]
    errors = power.std(1, ddof=1) / math.sqrt(count) if count > 1 else np.full(means.shape, np.nan)
    means, errors = scale * means, scale * errors
    # Σ m <v²> is the integral of the two-sided power over frequency
    kinetic = 0.5 * KINETIC * areas[1] / wavenumber[-1] / interval
    return VelocityPower(
        wavenumber=wavenumber,
        groups=tuple(group.name for group in groups),
        weighted=means[1],
        weighted_error=errors[1],
        plain=means[0],
        plain_error=errors[0],
        temperature=math.nan if known is None else float(2.0 * kinetic / (modes * BOLTZMANN)),
        modes=modes,
        counted=known is not None,
        resolution=reached(length, interval),
        blocks=count,
        atoms=total,
        used=len(used),
        differences=differences,
    )


def _modes(trajectory: Trajectory, atoms: Int[np.ndarray, "n"]) -> int | None:
    """Degrees of freedom of some atoms; None where constraints are known of and cannot be counted."""
    found = freedom_of(trajectory) if "velocities" in trajectory.holds else None
    if found is None:
        return None if constraints_of(trajectory) != "none" else 3 * len(atoms)
    inside = np.isin(found.held, atoms)
    if (inside.any(1) & ~inside.all(1)).any():
        return None
    # nothing moves at all: said elsewhere
    return max(1, 3 * len(atoms) - int(inside.all(1).sum()) - 3 * int(np.isin(found.frozen, atoms).sum()))


def _shifted(progress: Progress, done: int, total: int) -> Progress:
    return lambda here, _: progress(done + here, total)


def _power(
    block: Block, weights: np.ndarray, member: np.ndarray, groups: int, interval: float, differences: bool
) -> Float[np.ndarray, "2 P G"]:
    velocities = block.velocities
    if differences:
        cell = None if block.cell is None else block.cell[1:]
        velocities = minimum_image(np.diff(block.positions, axis=0), cell) / interval
    assert velocities is not None
    if not np.isfinite(velocities).all():
        raise InputError(f"frame {block.index[0]} or one soon after it holds velocities that are no numbers")
    length = len(velocities)
    found = np.zeros((2, groups, len(grid(length, interval))))
    for first in range(0, velocities.shape[1], TOGETHER):
        some = velocities[:, first : first + TOGETHER]
        waves = windowed_power(some.reshape(1, length, -1), interval)[0]
        each = waves.reshape(len(waves), -1, 3).sum(2)
        here = slice(first, first + TOGETHER)
        for kind, weight in enumerate(weights[:, here]):
            np.add.at(found[kind], member[here], (each * weight).T)
    return found * restored(found.shape[2]) if differences else found
