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
from heliodor.dynamics.state import MDState, init, kinetic_energy, kinetic_energy_of
from heliodor.dynamics.targets import Ramp, read_temperature
from heliodor.errors import InputError
from heliodor.neighbors import find_neighbors
from heliodor.potential import ModelWarning, Potential, check_distances, warn_about
from heliodor.system import System
from heliodor.topology import Topology, topology_of
from heliodor.units import parse_time

HYDROGEN_PERIOD = 9.0
"""fs; of the fastest stretching vibrations of hydrogen (3,700 1/cm). Others' are slower as the root of the mass."""

NEAR = 1.0
"""Å; no pair is looked for farther apart to find atoms on one spot."""

KEPT = 0.02
"""Fraction of the kinetic energy handed in whose loss is told."""

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
        topologies: of each structure, with the names it came with; None where there are none.
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
    topologies: tuple[Topology, ...] | None = None


def prepare(
    atoms: ase.Atoms | Sequence[ase.Atoms] | System,
    potential: Potential,
    settings: Settings,
) -> Job:
    """Read, check and complete everything; nothing is computed yet but distances.

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
    system, masses, fixed = _read(atoms, potential, settings)
    potential.check(system)
    check_distances(system, find_neighbors(system, NEAR))
    warn_about(potential, system)

    if settings.frozen is not None:
        fixed = mask_of(settings.frozen, system)
        fixed = fixed if bool(fixed.any()) else None
    if fixed is not None and bool(fixed.all()):
        raise InputError("every atom is frozen: nothing can move")
    before = masses
    if settings.hydrogen_mass is not None:
        masses = repartition(system, masses, settings.hydrogen_mass)
    rigid = None
    if settings.constraints != "none":
        system, rigid = find_rigid(system, masses, settings.constraints, frozen=fixed)
    if settings.restraints:
        potential = Restrained(potential, read_restraints(settings.restraints), system)
    _, barostat = couplings(settings)
    if rigid is not None and barostat == "mtk":
        raise InputError("the mtk barostat moves every atom by itself: with rigid bonds take the scr barostat")
    if fixed is not None and barostat is not None:
        raise InputError("frozen atoms cannot follow a cell that changes: choose nvt, or restrain positions instead")
    _check_timestep(system, masses, timestep, fixed, rigid)
    ramp = read_temperature(settings.temperature, steps, system)
    stepper(settings, potential, system, ramp)
    velocities = None
    if settings.keep_velocities:
        # moving mass from atom to atom keeps the kinetic energy of each
        velocities = _velocities(atoms, settings).to(masses) * (before / masses).sqrt().unsqueeze(-1)
    topologies = _topologies(atoms, settings)
    return Job(system, potential, settings, masses, steps, timestep, ramp, fixed, rigid, velocities, topologies)


def begin(
    job: Job,
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[Sequence[tuple[str, str]]], None] = lambda lines: None,
) -> MDState:
    """The state at time zero: relaxed first if asked for, then with Maxwell-Boltzmann velocities.

    Args:
        stop: asked during the relaxation, whether to end it.
        tell: called with what the relaxation came to.

    Raises:
        KeyboardInterrupt: the relaxation was stopped.
    """
    settings, system, rigid = job.settings, job.system, job.rigid
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
        if stop():
            # what is half relaxed is nothing to go on from
            raise KeyboardInterrupt
        if not bool(relaxed.converged.all()):
            warnings.warn(
                f"the relaxation ended after {relaxed.steps} steps with a largest force of "
                f"{float(relaxed.fmax.amax()):.2g} eV/Å; 0.05 was aimed at",
                ModelWarning,
                stacklevel=3,
            )
        fallen = (relaxed.energy - relaxed.energies[0]).tolist()
        change = ", ".join(f"{x:+.4f}" for x in fallen[:4]) + (" ..." if len(fallen) > 4 else "")
        tell([("relaxed", f"{relaxed.steps} steps, largest force {float(relaxed.fmax.amax()):.3g} eV/Å, {change} eV")])
        system = relaxed.system
        if rigid is not None:
            # the lengths to hold are those of the relaxed structure
            system, rigid = find_rigid(system, job.masses, settings.constraints, frozen=job.frozen)
    start: float | Tensor
    if settings.start_temperature is not None:
        start = settings.start_temperature
    else:
        start = job.ramp.at(0)
        if settings.minimize_first:
            # half of it goes into the vibrations, whose potential energy the relaxation has taken away
            start = 2.0 * start
    outside = job.frozen is not None or getattr(job.potential, "holds_places", False)
    # constant energy with given velocities, of a collision say, is not to be touched
    untouched = job.velocities is not None and settings.ensemble == "nve"
    assert settings.seed is not None
    state = init(
        system,
        job.potential,
        temperature=start,
        seed=settings.seed,
        skin=settings.skin,
        masses=job.masses,
        rotating=rotates(settings) or untouched,
        velocities=job.velocities,
        fixed_center=not outside and not untouched,
        virial=bool(system.pbc.all()) or couplings(settings)[1] is not None,
        frozen=job.frozen,
        rigid=rigid,
    )
    if job.velocities is not None:
        _tell_lost(job, state)
    return state


def _tell_lost(job: Job, state: MDState) -> None:
    """Warn where holding momenta at zero took a noticeable part of the velocities handed in."""
    assert job.velocities is not None
    given = kinetic_energy_of(job.velocities.to(state.velocities), state.masses, state.system)
    lost = 1.0 - kinetic_energy(state) / given.clamp_min(1e-300)
    if bool((lost > KEPT).any()):
        warnings.warn(
            f"{100 * float(lost.max()):.0f} % of the kinetic energy of the velocities handed in is motion of the "
            "centre of mass, rotation, or of bonds and atoms held; this run holds it at zero",
            ModelWarning,
            stacklevel=4,
        )


def _read(
    atoms: ase.Atoms | Sequence[ase.Atoms] | System, potential: Potential, settings: Settings
) -> tuple[System, Tensor, Tensor | None]:
    """The batch with its masses and frozen atoms, replicas made."""
    if isinstance(atoms, System):
        if settings.replicas > 1:
            raise InputError("replicas can be made of ase.Atoms; batch a System yourself")
        system = atoms.to(device=potential.device, dtype=torch.float64)
        if bool((system.pbc.all(-1) & (system.volume <= 0)).any()):
            raise InputError("a cell is left-handed or flat (no positive volume); exchange two lattice vectors")
        masses = torch.as_tensor(ase.data.atomic_masses)[atoms.numbers.cpu()]
        return system, masses.to(potential.device), None
    frames = [atoms] if isinstance(atoms, ase.Atoms) else list(atoms)
    frames = [frame for frame in frames for _ in range(settings.replicas)]
    system = System.from_atoms(frames, device=potential.device)
    masses = torch.as_tensor(np.concatenate([frame.get_masses() for frame in frames]))
    fixed = torch.as_tensor(np.concatenate([frozen_from(frame) for frame in frames])).to(potential.device)
    return system, masses.to(potential.device), fixed if bool(fixed.any()) else None


def _topologies(atoms: ase.Atoms | Sequence[ase.Atoms] | System, settings: Settings) -> tuple[Topology, ...] | None:
    """Names that the structures came with; bonds are found where they are asked for."""
    if isinstance(atoms, System):
        return None
    frames = [atoms] if isinstance(atoms, ase.Atoms) else list(atoms)
    none = np.zeros((0, 2), dtype=np.int64)
    return tuple(topology_of(frame, none) for frame in frames for _ in range(settings.replicas))


def _velocities(atoms: ase.Atoms | Sequence[ase.Atoms] | System, settings: Settings) -> Tensor:
    """Å/fs, of the structures as handed in."""
    if isinstance(atoms, System):
        raise InputError("keep_velocities needs ase.Atoms with velocities: a System has none")
    frames = [atoms] if isinstance(atoms, ase.Atoms) else list(atoms)
    if settings.replicas > 1 or settings.minimize_first or settings.start_temperature is not None:
        raise InputError("keep_velocities does not go with replicas, a relaxation or a start temperature")
    each = [frame.get_velocities() for frame in frames]
    for number, found in enumerate(each):
        if not np.abs(found).any():
            where = f"structure {number}" if len(each) > 1 else "the structure"
            raise InputError(f"keep_velocities: {where} has no velocities")
    return torch.as_tensor(np.concatenate(each) * ase.units.fs)


def mask_of(chosen: str | Sequence[int], system: System) -> Bool[Tensor, "N"]:
    """The atoms that a selection means, in each structure.

    Raises:
        InputError: no such atoms.
    """
    mask = torch.zeros(system.n_atoms, dtype=torch.bool, device=system.device)
    if isinstance(chosen, str):
        picked = select_atoms(chosen, system)
        if picked is None:
            raise InputError("every atom is frozen: nothing can move")
        picked = picked.to(system.device)
    else:
        picked = torch.as_tensor(list(chosen), dtype=torch.int64, device=system.device)
    starts = torch.cumsum(system.counts, 0) - system.counts
    for start, count in zip(starts.tolist(), system.counts.tolist(), strict=True):
        if len(picked) and not 0 <= int(picked.min()) <= int(picked.max()) < count:
            wrong = int(picked.min()) if int(picked.min()) < 0 else int(picked.max())
            raise InputError(f"frozen: atom {wrong} does not exist, the atoms are 0 to {count - 1}")
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
    if settings.doubt_above is not None and not settings.doubt_above > 0.0:
        raise InputError(f"doubt_above must be a positive force in eV/Å, not {settings.doubt_above}")
    if not 0.0 <= settings.skin < float("inf"):
        raise InputError(f"skin must be a length in Å, 0 or more, not {settings.skin}")
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
