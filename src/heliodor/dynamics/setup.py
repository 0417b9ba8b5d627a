"""From structures, a potential and settings to a state that can be moved."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ase
import ase.data
import ase.units
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heliodor.dynamics.constraints.masses import repartition
from heliodor.dynamics.constraints.rigid import Rigid
from heliodor.dynamics.constraints.rigid_bonds import find_rigid
from heliodor.dynamics.ensemble import couplings, rotates, stepper
from heliodor.dynamics.files.selection import select_atoms
from heliodor.dynamics.naming import atom_name
from heliodor.dynamics.relax.minimize import minimize
from heliodor.dynamics.restraints.frozen import frozen_from
from heliodor.dynamics.restraints.kinds import read_restraints
from heliodor.dynamics.restraints.restrained import Restrained
from heliodor.dynamics.settings import Settings
from heliodor.dynamics.state import MDState, init
from heliodor.dynamics.steps.coupling import check_coupling
from heliodor.dynamics.targets import Ramp, read_temperature
from heliodor.errors import InputError
from heliodor.potential import ModelWarning, Potential, check_distances, warn_about
from heliodor.system import System
from heliodor.units import parse_time

HYDROGEN_PERIOD = 9.0
"""fs; of the fastest stretching vibrations of hydrogen (3,700 1/cm). Others' are slower as the root of the mass."""

SAFE, IMPOSSIBLE = 1.0 / 9.0, 1.0 / 4.0
"""Fractions of that period: up to the first a step is integrated well; Verlet diverges at 1/π, the second is near."""


@dataclass(frozen=True)
class Job:
    """What a run starts from.

    Attributes:
        system: structures as handed in (rigid groups made whole), before any minimisation.
        potential: the model, with the restraints added.
        settings: with everything drawn or defaulted filled in.
        masses: amu.
        steps: number of steps of the whole run.
        timestep: fs.
        ramp: of the temperature.
    """

    system: System
    potential: Potential
    settings: Settings
    masses: Float[Tensor, "N"]
    steps: int
    timestep: float
    ramp: Ramp
    frozen: Bool[Tensor, "N"] | None
    rigid: Rigid | None
    velocities: Float[Tensor, "N 3"] | None = None


def prepare(
    atoms: ase.Atoms | Sequence[ase.Atoms] | System,
    potential: Potential,
    settings: Settings,
    masses: Float[Tensor, "N"] | None = None,
) -> Job:
    """Read, check and complete everything; nothing is computed yet but distances.

    Args:
        masses: amu, as handed in rather than the structures' own.

    Raises:
        InputError: settings or structures that cannot be used.
        ModelError: structures outside the model.
    """
    timestep = parse_time(settings.timestep)
    if (settings.time is None) == (settings.steps is None):
        raise InputError("give the length of the simulation once: time='10 ps' or steps=20000")
    steps = (
        max(1, round(parse_time(settings.time) / timestep)) if settings.time is not None else int(settings.steps or 0)
    )
    if steps < 1:
        raise InputError(f"steps must be at least 1, not {settings.steps}")
    if settings.replicas < 1:
        raise InputError(f"replicas must be at least 1, not {settings.replicas}")
    _check_choices(settings)
    system, own, fixed = _read(atoms, potential, settings)
    masses = own if masses is None else masses.to(own)
    potential.check(system)
    check_distances(system, potential.neighbors(system))
    warn_about(potential, system)

    if settings.frozen is not None:
        fixed = _mask(settings.frozen, system)
    if fixed is not None and bool(fixed.all()):
        raise InputError("every atom is frozen: nothing can move")
    if settings.hydrogen_mass is not None:
        masses = repartition(system, masses, settings.hydrogen_mass)
    rigid = None
    if settings.constraints != "none":
        system, rigid = find_rigid(system, masses, settings.constraints, frozen=fixed)
    if settings.restraints:
        potential = Restrained(potential, read_restraints(settings.restraints), system)
    pressed = couplings(settings)[1] is not None
    if pressed:
        check_coupling(system, settings.coupling)
        if fixed is not None:
            raise InputError(
                "frozen atoms cannot follow a cell that changes: choose nvt, or restrain positions instead"
            )
    _check_timestep(system, masses, timestep, fixed, rigid)
    ramp = read_temperature(settings.temperature, steps, system.n_structures)
    stepper(settings, potential, system, ramp)
    velocities = _velocities(atoms, settings) if settings.keep_velocities else None
    return Job(system, potential, settings, masses, steps, timestep, ramp, fixed, rigid, velocities)


def begin(job: Job, stop: Callable[[], bool] = lambda: False) -> MDState:
    """The state at time zero: relaxed first if asked for, then with Maxwell-Boltzmann velocities.

    Args:
        stop: asked during the relaxation, whether to end it.
    """
    settings, system = job.settings, job.system
    if settings.minimize_first:
        relaxed = minimize(
            system,
            job.potential,
            fmax=0.05,
            max_steps=500,
            skin=settings.skin,
            frozen=job.frozen,
            callback=lambda *_: stop(),
        )
        system = relaxed.system
        if job.rigid is not None:
            system, _ = find_rigid(system, job.masses, settings.constraints, lengths_of=job.rigid)
    start: float | Tensor
    if settings.start_temperature is not None:
        start = settings.start_temperature
    else:
        start = job.ramp.at(0)
        if settings.minimize_first:
            # half of it goes into the vibrations, whose potential energy the relaxation has taken away
            start = 2.0 * start
    outside = job.frozen is not None or getattr(job.potential, "holds_places", False)
    assert settings.seed is not None
    return init(
        system,
        job.potential,
        temperature=start,
        seed=settings.seed,
        skin=settings.skin,
        masses=job.masses,
        rotating=rotates(settings),
        velocities=job.velocities,
        fixed_center=not outside,
        virial=bool(system.pbc.all()) or couplings(settings)[1] is not None,
        frozen=job.frozen,
        rigid=job.rigid,
    )


def _read(
    atoms: ase.Atoms | Sequence[ase.Atoms] | System, potential: Potential, settings: Settings
) -> tuple[System, Tensor, Tensor | None]:
    """The batch with its masses and frozen atoms, replicas made."""
    if isinstance(atoms, System):
        if settings.replicas > 1:
            raise InputError("replicas can be made of ase.Atoms; batch a System yourself")
        masses = torch.as_tensor(ase.data.atomic_masses)[atoms.numbers.cpu()]
        return atoms.to(device=potential.device, dtype=torch.float64), masses, None
    frames = [atoms] if isinstance(atoms, ase.Atoms) else list(atoms)
    frames = [frame for frame in frames for _ in range(settings.replicas)]
    system = System.from_atoms(frames, device=potential.device)
    masses = torch.as_tensor(np.concatenate([frame.get_masses() for frame in frames]))
    fixed = torch.as_tensor(np.concatenate([frozen_from(frame) for frame in frames])).to(potential.device)
    return system, masses.to(potential.device), fixed if bool(fixed.any()) else None


def _velocities(atoms: ase.Atoms | Sequence[ase.Atoms] | System, settings: Settings) -> Tensor:
    """Å/fs, of the structures as handed in."""
    if isinstance(atoms, System):
        raise InputError("keep_velocities needs ase.Atoms with velocities: a System has none")
    frames = [atoms] if isinstance(atoms, ase.Atoms) else list(atoms)
    if settings.replicas > 1 or settings.minimize_first or settings.start_temperature is not None:
        raise InputError("keep_velocities does not go with replicas, a relaxation or a start temperature")
    velocities = np.concatenate([frame.get_velocities() for frame in frames]) * ase.units.fs
    if not np.abs(velocities).any():
        raise InputError("keep_velocities: the structure has no velocities")
    return torch.as_tensor(velocities)


def _mask(chosen: str | Sequence[int], system: System) -> Bool[Tensor, "N"]:
    mask = torch.zeros(system.n_atoms, dtype=torch.bool, device=system.device)
    if isinstance(chosen, str):
        picked = select_atoms(chosen, system)
        if picked is None:
            raise InputError("every atom is frozen: nothing can move")
        picked = picked.to(system.device)
    else:
        picked = torch.as_tensor(list(chosen), device=system.device)
    starts = torch.cumsum(system.counts, 0) - system.counts
    for start, count in zip(starts.tolist(), system.counts.tolist(), strict=True):
        if len(picked) and not 0 <= int(picked.min()) <= int(picked.max()) < count:
            raise InputError(f"frozen: atom {int(picked.max())} does not exist, the atoms are 0 to {count - 1}")
        mask[start + picked] = True
    return mask


def _check_choices(settings: Settings) -> None:
    for name, known in (
        ("constraints", ("none", "h-bonds", "water")),
        ("precision", ("single", "double")),
        ("on_bond_change", ("stop", "warn", "ignore")),
        ("on_doubt", ("stop", "warn", "ignore")),
    ):
        value = getattr(settings, name)
        if value not in known:
            raise InputError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    if settings.start_temperature is not None and not 0.0 <= settings.start_temperature < float("inf"):
        raise InputError(f"start_temperature must be a number of kelvins >= 0, not {settings.start_temperature}")


def _check_timestep(
    system: System, masses: Tensor, timestep: float, frozen: Tensor | None, rigid: Rigid | None
) -> None:
    """Judge the step by the lightest atom that vibrates freely."""
    free = torch.ones(system.n_atoms, dtype=torch.bool, device=system.device) if frozen is None else ~frozen
    if rigid is not None:
        # of a rigid group the light atoms move with the heavy one
        sizes = torch.bincount(rigid.group)
        heaviest = torch.zeros(len(sizes), dtype=masses.dtype, device=masses.device)
        heaviest = heaviest.scatter_reduce(0, rigid.group, masses, "amax")
        masses = torch.where(sizes[rigid.group] > 1, heaviest[rigid.group], masses)
    weighed = torch.where(free, masses, torch.inf)
    lightest = int(weighed.argmin())
    period = HYDROGEN_PERIOD * (float(weighed[lightest]) / 1.008) ** 0.5
    name = f"{atom_name(system, lightest)} ({float(weighed[lightest]):.3g} amu)"
    ways = "raise --hydrogen-mass, or hold bonds with --constraints h-bonds"
    if timestep > IMPOSSIBLE * period:
        raise InputError(
            f"a timestep of {timestep:g} fs cannot follow the lightest atom, {name}, whose bonds vibrate in about "
            f"{period:.0f} fs: take {SAFE * period:.1f} fs or less, {ways}"
        )
    if timestep > 1.001 * SAFE * period:
        warnings.warn(
            f"a timestep of {timestep:g} fs is long for the lightest atom, {name}: {SAFE * period:.1f} fs is safe, "
            f"{ways}",
            ModelWarning,
            stacklevel=4,
        )
