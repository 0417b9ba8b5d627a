"""MDState: everything a simulation is, random numbers included, in one frozen dataclass; a checkpoint is this.

Steps are pure functions ``state -> state``. Nothing is kept elsewhere, so going on from a copied state gives the
same bits (on the CPU; on a GPU as far as the model's own sums are deterministic).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from ase.data import atomic_masses
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor

from heliodor.dynamics.constraints.rigid import Rigid, constrain_velocities
from heliodor.dynamics.naming import check_finite
from heliodor.dynamics.steps.extended import Chain, Piston
from heliodor.errors import InputError
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Prediction, evaluate_system
from heliodor.system import System
from heliodor.units import BOLTZMANN, KINETIC

SKIN = 1.0
"""Å; lists are rebuilt when an atom has moved half of this: each 50-100 steps of a liquid at 300 K."""


@dataclass(frozen=True)
class MDState:
    """B independent structures of N atoms in all, at one time.

    Attributes:
        system: positions (float64 Å, never wrapped), cell, composition.
        velocities: Å/fs.
        masses: amu.
        forces: eV/Å at these positions.
        energy: potential energy, eV, float64.
        neighbors: the lists the forces were computed with; reused until an atom has moved half their skin.
        degrees_of_freedom: of each structure's velocities (see `init`).
        bath: energy handed to thermostats, barostats and the pressure so far, eV; with it `conserved` is a constant.
        rng: state of a torch.Generator on the system's device.
        step: number of steps taken.
        time: fs.
        fixed_center: whether the total momentum of each structure is held at zero.
        virial: -∂E/∂ε, eV; kept by runs under pressure and in periodic boxes, None in others.
        frozen: atoms that do not move.
        rigid: bonds held at their lengths.
        chain: the Nosé-Hoover thermostat.
        piston: the Martyna-Tuckerman-Tobias-Klein barostat.
        prediction: what the model said last (energy terms, charges), for logs; None after a restart.
    """

    system: System
    velocities: Float[Tensor, "N 3"]
    masses: Float[Tensor, "N"]
    forces: Float[Tensor, "N 3"]
    energy: Float[Tensor, "B"]
    neighbors: Neighbors
    degrees_of_freedom: Float[Tensor, "B"]
    bath: Float[Tensor, "B"]
    rng: UInt8[Tensor, "S"]
    step: int = 0
    time: float = 0.0
    fixed_center: bool = True
    virial: Float[Tensor, "B 3 3"] | None = None
    frozen: Bool[Tensor, "N"] | None = None
    rigid: Rigid | None = None
    chain: Chain | None = None
    piston: Piston | None = None
    prediction: Prediction | None = None

    def replace(self, **changes: Any) -> MDState:
        """A copy with some fields exchanged."""
        return replace(self, **changes)


def init(
    system: System,
    potential: Potential,
    *,
    temperature: float | Float[Tensor, "B"],
    seed: int = 0,
    skin: float = SKIN,
    masses: Float[Tensor, "N"] | None = None,
    rotating: bool = False,
    fixed_center: bool = True,
    exact: bool = True,
    velocities: Float[Tensor, "N 3"] | None = None,
    virial: bool = False,
    frozen: Bool[Tensor, "N"] | None = None,
    rigid: Rigid | None = None,
) -> MDState:
    """A state at time zero: Maxwell-Boltzmann velocities, forces, neighbour lists.

    Momentum and degrees of freedom: the centre of mass of every structure is at rest, which takes 3. Isolated
    structures (no periodic direction) do not rotate either, which takes 3 more (2 for diatomics): velocity
    Verlet and velocity rescaling keep the angular momentum at zero. Langevin noise does not, so a state that
    Langevin dynamics will move is made with ``rotating=True``: rotation is then thermal and counted (3N - 3).

    Args:
        temperature: K, one for all structures or one each.
        seed: of all random numbers of the run.
        skin: Å, of the neighbour lists.
        masses: amu; standard atomic masses if not given.
        rotating: leave isolated structures their thermal rotation.
        fixed_center: False under external fields, where momentum means nothing: 3N degrees of freedom.
        exact: scale the velocities to exactly the temperature, rather than draw the kinetic energy too.
        velocities: Å/fs, to begin with instead; momenta that the run holds at zero are taken out of them.
        virial: keep the virial beside the forces, for barostats and logs of the pressure.
        frozen: atoms that never move; momentum then means nothing, as with ``fixed_center=False``.
        rigid: bonds of fixed length, which the positions satisfy (`heliodor.dynamics.constraints.rigid.find_rigid`).

    Raises:
        InputError: negative temperature or mass.
    """
    system = system.to(device=potential.device, dtype=torch.float64)
    device = system.device
    if masses is None:
        masses = torch.as_tensor(atomic_masses)[system.numbers.cpu()]
    masses = masses.to(device, torch.float64)
    target = torch.as_tensor(temperature, dtype=torch.float64, device=device).expand(system.n_structures)
    if not bool((target >= 0).all()) or not bool((masses > 0).all()):
        raise InputError("temperatures must not be negative and masses must be positive")

    if frozen is not None:
        frozen, fixed_center = frozen.to(device), False
    generator = torch.Generator(device).manual_seed(seed)
    exact = exact and velocities is None
    if velocities is None:
        noise = torch.randn(system.positions.shape, generator=generator, dtype=torch.float64, device=device)
        velocities = noise * (BOLTZMANN * target[system.batch] / (KINETIC * masses)).sqrt().unsqueeze(-1)
    velocities = velocities.to(device, torch.float64)
    if frozen is not None:
        velocities = torch.where(frozen.unsqueeze(-1), 0.0, velocities)
    if rigid is not None:
        velocities = constrain_velocities(rigid, system.positions, velocities)
    if fixed_center:
        velocities = without_drift(velocities, masses, system)
        if not rotating:
            velocities = _without_rotation(velocities, masses, system)
    free = degrees_of_freedom(system, rotating=rotating, fixed_center=fixed_center, frozen=frozen, rigid=rigid)
    if exact:
        now = _temperature(kinetic_energy_of(velocities, masses, system), free)
        scale = torch.where(now > 0, target / now.clamp_min(1e-300), 0.0).sqrt()
        velocities = velocities * scale[system.batch].unsqueeze(-1)

    neighbors = potential.neighbors(system, skin)
    prediction = evaluate_system(potential, system, neighbors, virial=virial)
    assert prediction.forces is not None
    return MDState(
        system=system,
        velocities=velocities,
        masses=masses,
        forces=prediction.forces,
        energy=prediction.energy,
        neighbors=neighbors,
        degrees_of_freedom=free,
        bath=torch.zeros_like(prediction.energy),
        rng=generator.get_state(),
        fixed_center=fixed_center,
        virial=prediction.virial,
        frozen=frozen,
        rigid=rigid,
        prediction=prediction,
    )


def evaluated(state: MDState, potential: Potential, **changes: Any) -> MDState:
    """The state with energy, forces (and virial, if it keeps one) at its present positions and cell."""
    prediction, neighbors = evaluate_moved(potential, state.system, state.neighbors, virial=state.virial is not None)
    assert prediction.forces is not None
    return replace(
        state,
        forces=prediction.forces,
        energy=prediction.energy,
        virial=prediction.virial,
        neighbors=neighbors,
        prediction=prediction,
        **changes,
    )


def evaluate_moved(
    potential: Potential, system: System, neighbors: Neighbors, *, virial: bool = False
) -> tuple[Prediction, Neighbors]:
    """Energy and forces with these lists, rebuilt first if an atom has moved out of their skin."""
    if bool(neighbors.stale(system)):
        check_finite(system)
        neighbors = potential.neighbors(system, neighbors.skin)
    return evaluate_system(potential, system, neighbors, virial=virial), neighbors


def kinetic_energy(state: MDState) -> Float[Tensor, "B"]:
    """eV."""
    return kinetic_energy_of(state.velocities, state.masses, state.system)


def kinetic_energy_of(
    velocities: Float[Tensor, "N 3"], masses: Float[Tensor, "N"], system: System
) -> Float[Tensor, "B"]:
    """eV, from velocities in Å/fs and masses in amu."""
    return 0.5 * KINETIC * per_structure(masses * velocities.square().sum(-1), system)


def temperature(state: MDState) -> Float[Tensor, "B"]:
    """Instantaneous kinetic temperature 2K / (degrees of freedom · k_B), K; zero where nothing can move."""
    return _temperature(kinetic_energy(state), state.degrees_of_freedom)


def conserved(state: MDState) -> Float[Tensor, "B"]:
    """The constant of the motion, eV: total energy plus what the thermostats took out."""
    return state.energy + kinetic_energy(state) + state.bath


def degrees_of_freedom(
    system: System,
    *,
    rotating: bool,
    fixed_center: bool = True,
    frozen: Bool[Tensor, "N"] | None = None,
    rigid: Rigid | None = None,
) -> Float[Tensor, "B"]:
    """Of the velocities of each structure; see `init`."""
    atoms = system.counts.to(torch.float64)
    if frozen is not None:
        atoms = per_structure((~frozen).to(torch.float64), system)
    held = torch.zeros_like(atoms) if rigid is None else rigid.count
    if not fixed_center or frozen is not None:
        return 3.0 * atoms - held
    free = 3.0 * atoms - 3.0 - held
    if rotating:
        return free
    # an atom has no rotation to lose and a diatomic only two; a linear molecule of three or more atoms bends
    lost = (atoms - 1.0).clamp(0.0, 1.0) * 2.0 + (atoms - 2.0).clamp(0.0, 1.0)
    return torch.where(system.pbc.any(-1), free, free - lost)


def generator_at(state: MDState) -> torch.Generator:
    """A generator that goes on where the state's random numbers ended."""
    generator = torch.Generator(state.system.device)
    generator.set_state(state.rng)
    return generator


def per_structure(values: Float[Tensor, "N *rest"], system: System) -> Float[Tensor, "B *rest"]:
    """Sum over the atoms of each structure."""
    if system.n_structures == 1:
        return values.sum(0, keepdim=True)
    return values.new_zeros(system.n_structures, *values.shape[1:]).index_add(0, system.batch, values)


def per_atom(values: Shaped[Tensor, "B *rest"], system: System) -> Shaped[Tensor, "M *rest"]:
    """Each structure's value at each of its atoms; one structure's is left to broadcast (M is N or 1)."""
    return values if system.n_structures == 1 else values.index_select(0, system.batch)


def without_drift(velocities: Float[Tensor, "N 3"], masses: Float[Tensor, "N"], system: System) -> Float[Tensor, "N 3"]:
    """Velocities with each structure's centre of mass at rest.

    The projection is orthogonal in the mass metric, so Maxwell-Boltzmann velocities stay so on what is left.
    """
    m = masses.unsqueeze(-1)
    return velocities - per_atom(per_structure(m * velocities, system) / per_structure(m, system), system)


def _without_rotation(
    velocities: Float[Tensor, "N 3"], masses: Float[Tensor, "N"], system: System
) -> Float[Tensor, "N 3"]:
    m = masses.unsqueeze(-1)
    r = system.positions - per_atom(per_structure(m * system.positions, system) / per_structure(m, system), system)
    momentum = per_structure(m * torch.linalg.cross(r, velocities), system)
    identity = torch.eye(3, dtype=r.dtype, device=r.device)
    each = r.square().sum(-1).view(-1, 1, 1) * identity - r.unsqueeze(-1) * r.unsqueeze(-2)
    inertia = per_structure(masses.view(-1, 1, 1) * each, system)
    # the pseudo-inverse leaves alone the axis about which a linear molecule has no inertia
    spin = (torch.linalg.pinv(inertia, rtol=1e-10, hermitian=True) @ momentum.unsqueeze(-1)).squeeze(-1)
    spin = torch.where(system.pbc.any(-1, keepdim=True), 0.0, spin)
    turning: Tensor = torch.linalg.cross(per_atom(spin, system).expand_as(r), r)
    return velocities - turning


def _temperature(kinetic: Float[Tensor, "B"], free: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
    return torch.where(free > 0, 2.0 * kinetic / (BOLTZMANN * free.clamp_min(1.0)), 0.0)
