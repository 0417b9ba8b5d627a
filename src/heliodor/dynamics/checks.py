"""Watching over a simulation: what is no physics any more is named, atom by atom, and stops the run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from ase.data import covalent_radii
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.dynamics.naming import atom_name
from heliodor.dynamics.state import MDState, kinetic_energy
from heliodor.dynamics.state import temperature as temperature_of
from heliodor.errors import SimulationError
from heliodor.neighbors import Neighbors, find_neighbors
from heliodor.system import System

CONTACT = 0.6
"""Fraction of the sum of covalent radii (C-C 0.91 Å, O-H 0.58 Å) closer than which no two nuclei come."""

CONTACT_FLOOR = 0.45
"""Å; the least distance allowed between any two atoms, and between two hydrogens."""

LARGE_FORCE = 50.0
"""eV/Å; beyond it distances are looked at."""

IMPOSSIBLE_FORCE = 500.0
"""eV/Å; a force of no molecule."""

IMPOSSIBLE_TEMPERATURE = 10_000.0
"""K above ten times the temperature aimed at."""

BONDED = 1.3
"""Atoms closer than this times the sum of their covalent radii at the start are bonded."""

BROKEN = 1.6
"""A bond longer than this times the sum of the covalent radii is broken."""


@dataclass(frozen=True)
class BrokenBond:
    """Two atoms (indices over the whole batch) that were bonded at the start, with distances in Å."""

    i: int
    j: int
    name: str
    distance: float
    limit: float


def check_step(state: MDState, temperature: float, dt: float) -> None:
    """The check cheap enough for every step on a CPU: looks further only when forces are large or not finite."""
    if not float(state.forces.abs().amax()) < LARGE_FORCE:
        check_state(state, temperature, dt)


def check_state(state: MDState, temperature: float, dt: float) -> None:
    """Stop where the dynamics left physics: NaN, nuclei on top of each other, absurd forces or temperature.

    Args:
        temperature: K, aimed at (or started from).
        dt: fs, for the advice given.

    Raises:
        SimulationError: with step, time, atoms, distance.
    """
    system = state.system
    where = f"step {state.step} ({state.time:g} fs): "
    if state.step == 0:
        advice = "; the structure at the start is not usable: minimize it first (minimize_first=True, --minimize)"
    else:
        advice = f"; try a smaller timestep than {dt:g} fs, minimize first, or doubt the model here"
    contact = _worst_contact(state)
    broken = ~(state.forces.isfinite().all(-1) & system.positions.isfinite().all(-1))
    if bool(broken.any()) or not bool(state.energy.isfinite().all()):
        names = ", ".join(atom_name(system, int(k)) for k in broken.nonzero()[:3, 0]) or "the energy"
        near = f" (closest: {contact[0]}, {contact[1]:.3f} Å)" if contact else ""
        raise SimulationError(f"{where}energy or forces are not finite at {names}{near}{advice}")
    if contact and contact[1] < contact[2]:
        raise SimulationError(
            f"{where}{contact[0]} are {contact[1]:.3f} Å apart, closer than any two such nuclei "
            f"({contact[2]:.2f} Å){advice}"
        )
    force = state.forces.norm(dim=-1)
    if float(force.amax()) > IMPOSSIBLE_FORCE:
        name = atom_name(system, int(force.argmax()))
        raise SimulationError(f"{where}the force on {name} is {float(force.amax()):.0f} eV/Å{advice}")
    hottest = float(temperature_of(state).amax())
    if hottest > 10.0 * temperature + IMPOSSIBLE_TEMPERATURE or not bool(kinetic_energy(state).isfinite().all()):
        fastest = int((state.masses * state.velocities.square().sum(-1)).argmax())
        raise SimulationError(
            f"{where}the temperature is {hottest:.0f} K, {atom_name(system, fastest)} is the hottest atom{advice}"
        )


def bonded_pairs(system: System) -> Neighbors:
    """Half list of the pairs that are bonded here, by covalent radii; images included, no skin."""
    radii = _radii(system.device)[system.numbers]
    pairs = find_neighbors(system, max(2.0 * BONDED * float(radii.max()), 0.1))
    d = pairs.vectors(system).norm(dim=-1)
    return replace(pairs.select(d < BONDED * (radii[pairs.i] + radii[pairs.j])), long_range=None)


def broken_bonds(system: System, bonds: Neighbors) -> list[BrokenBond]:
    """Those of the pairs bonded at the start that are torn apart here.

    Positions must have been followed without wrapping since `bonded_pairs`.
    """
    radii = _radii(system.device)[system.numbers]
    d = bonds.vectors(system).norm(dim=-1)
    limit = BROKEN * (radii[bonds.i] + radii[bonds.j])
    found = []
    for edge in (d > limit).nonzero()[:, 0].tolist():
        i, j = int(bonds.i[edge]), int(bonds.j[edge])
        name = f"{atom_name(system, i)} and {atom_name(system, j)}"
        found.append(BrokenBond(i, j, name, float(d[edge]), float(limit[edge])))
    return found


def _worst_contact(state: MDState) -> tuple[str, float, float] | None:
    """The pair closest relative to its limit: names, distance, limit."""
    pairs = state.neighbors
    if pairs.n_edges == 0:
        return None
    d = pairs.vectors(state.system).norm(dim=-1)
    limits = _limits(state.system.numbers, pairs)
    edge = int((d / limits).argmin())
    a, b = (atom_name(state.system, int(k[edge])) for k in (pairs.i, pairs.j))
    return f"{a} and {b}", float(d[edge]), float(limits[edge])


def _limits(numbers: Int[Tensor, "N"], pairs: Neighbors) -> Float[Tensor, "E"]:
    radii = _radii(numbers.device)[numbers]
    return (CONTACT * (radii[pairs.i] + radii[pairs.j])).clamp_min(CONTACT_FLOOR)


def _radii(device: torch.device) -> Float[Tensor, "Z"]:
    return torch.as_tensor(covalent_radii, device=device)
