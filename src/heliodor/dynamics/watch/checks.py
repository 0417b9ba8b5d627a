"""What is no physics any more is named, atom by atom: not a number, overlaps, forces, temperature, cell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.naming import atom_name
from heliodor.dynamics.state import MDState, kinetic_energy
from heliodor.dynamics.state import temperature as temperature_of
from heliodor.dynamics.watch.bonds import (
    BROKEN,
    FORMED,
    BrokenBond,
    FormedBond,
    bonded_pairs,
    broken_bonds,
    formed_bonds,
    lengths,
)
from heliodor.errors import SimulationError
from heliodor.neighbors import Neighbors
from heliodor.system import System
from heliodor.topology import BONDED

__all__ = [
    "BONDED",
    "BROKEN",
    "FORMED",
    "Breakdown",
    "BrokenBond",
    "Cells",
    "FormedBond",
    "bonded_pairs",
    "breakdown",
    "broken_bonds",
    "cells_of",
    "check_state",
    "check_step",
    "formed_bonds",
]

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

COLLAPSED = 0.4
"""Of the volume at the start; a box packed at half its density may still shrink to what it should be."""

BLOWN_UP = 2.5
"""Times the volume at the start: nothing that is one phase expands so far, it evaporates or is torn."""

THINNED = 0.5
"""Of a cell's least height at the start; below it the cell is sheared or squashed flat, whatever its volume."""


@dataclass(frozen=True)
class Cells:
    """Sizes of B cells; infinite heights and zero volumes where a structure is not fully periodic.

    Attributes:
        volume: Å³.
        height: Å, the least distance between opposite faces.
    """

    volume: Float[Tensor, "B"]
    height: Float[Tensor, "B"]


@dataclass(frozen=True)
class Breakdown:
    """What is wrong with a state.

    Attributes:
        kind: "not finite", "contact", "force", "temperature" or "cell".
        structure: index in the batch.
        atoms: indices over the whole batch.
        value, limit: Å, eV/Å, K, or a fraction of the start.
        text: what is wrong, where, and what to do.
    """

    kind: str
    structure: int
    atoms: tuple[int, ...]
    value: float
    limit: float
    text: str


def check_step(state: MDState, temperature: float, dt: float) -> None:
    """The check cheap enough for every step on a CPU: looks further only when forces are large or not finite.

    Raises:
        SimulationError: as `check_state`.
    """
    if suspicious(state):
        check_state(state, temperature, dt)


def suspicious(state: MDState) -> bool:
    """Whether some force is large or not finite."""
    return not float(state.forces.abs().amax()) < LARGE_FORCE


def check_state(state: MDState, temperature: float, dt: float) -> None:
    """Stop where the dynamics left physics: NaN, nuclei on top of each other, absurd forces or temperature.

    Args:
        temperature: K, aimed at (or started from).
        dt: fs, for the advice given.

    Raises:
        SimulationError: with step, time, atoms, distance.
    """
    found = breakdown(state, temperature, dt)
    if found is not None:
        raise SimulationError(found.text)


def breakdown(
    state: MDState, temperature: float, dt: float, near: Neighbors | None = None, start: Cells | None = None
) -> Breakdown | None:
    """What is wrong with a state, None if nothing.

    Args:
        temperature: K, aimed at (or started from).
        dt: fs, for the advice given.
        near: the pairs that can be in contact at all; by default every pair of the state's lists is looked at.
        start: cells at the start, to compare with.
    """
    return _broken_numbers(state, temperature, dt, near) or (None if start is None else _broken_cell(state, start))


def cells_of(system: System) -> Cells:
    """Sizes of the cells; not differentiable."""
    periodic = system.pbc.all(-1)
    a, b, c = system.cell.detach().unbind(1)
    faces = torch.stack([torch.linalg.cross(*pair).norm(dim=-1) for pair in ((b, c), (c, a), (a, b))], -1)
    volume = torch.where(periodic, torch.linalg.det(system.cell.detach()), 0.0)
    height = (volume.unsqueeze(-1) / faces.clamp_min(1e-300)).amin(-1)
    return Cells(volume, torch.where(periodic, height, torch.inf))


def _broken_numbers(state: MDState, temperature: float, dt: float, near: Neighbors | None) -> Breakdown | None:
    system = state.system
    where = f"step {state.step} ({state.time:g} fs): "
    if state.step == 0:
        advice = "; the structure at the start is not usable: minimize it first (minimize_first=True, --minimize)"
    else:
        advice = f"; try a smaller timestep than {dt:g} fs, minimize first, or doubt the model here"
    contact = _worst_contact(state, state.neighbors if near is None else near)
    broken = ~(state.forces.isfinite().all(-1) & system.positions.isfinite().all(-1))
    if bool(broken.any()) or not bool(state.energy.isfinite().all()):
        atoms = tuple(broken.nonzero()[:3, 0].tolist())
        names = ", ".join(atom_name(system, k) for k in atoms) or "the energy"
        near_by = f" (closest: {contact.names}, {contact.distance:.3f} Å)" if contact else ""
        structure = int(system.batch[atoms[0]]) if atoms else int((~state.energy.isfinite()).nonzero()[0])
        text = f"{where}energy or forces are not finite at {names}{near_by}{advice}"
        return Breakdown("not finite", structure, atoms, float("nan"), float("inf"), text)
    if contact and contact.distance < contact.limit:
        text = (
            f"{where}{contact.names} are {contact.distance:.3f} Å apart, closer than any two such nuclei "
            f"({contact.limit:.2f} Å){advice}"
        )
        structure = int(system.batch[contact.atoms[0]])
        return Breakdown("contact", structure, contact.atoms, contact.distance, contact.limit, text)
    force = state.forces.norm(dim=-1)
    worst = int(force.argmax())
    if (value := float(force[worst])) > IMPOSSIBLE_FORCE:
        text = f"{where}the force on {atom_name(system, worst)} is {value:.0f} eV/Å{advice}"
        return Breakdown("force", int(system.batch[worst]), (worst,), value, IMPOSSIBLE_FORCE, text)
    limit = 10.0 * temperature + IMPOSSIBLE_TEMPERATURE
    hot = temperature_of(state)
    if float(hot.amax()) > limit or not bool(kinetic_energy(state).isfinite().all()):
        fastest = int((state.masses * state.velocities.square().sum(-1)).argmax())
        structure = int(hot.argmax())
        if state.step > 0:
            advice += "; equilibrate at a lower temperature before this one"
        text = (
            f"{where}the temperature is {float(hot[structure]):.0f} K, "
            f"{atom_name(system, fastest)} is the hottest atom{advice}"
        )
        return Breakdown("temperature", structure, (fastest,), float(hot[structure]), limit, text)
    return None


def _broken_cell(state: MDState, start: Cells) -> Breakdown | None:
    now = cells_of(state.system)
    volume = torch.where(start.volume > 0, now.volume / start.volume, 1.0)
    height = torch.where(start.height.isfinite(), now.height / start.height, 1.0)
    fine = (volume >= COLLAPSED) & (volume <= BLOWN_UP) & (height >= THINNED)
    if bool(fine.all()):
        return None
    b = int((~fine).nonzero()[0])
    of = f" of structure {b}" if state.system.n_structures > 1 else ""
    where = f"step {state.step} ({state.time:g} fs): the cell{of}"
    ratio, flat = float(volume[b]), float(height[b])
    if ratio > BLOWN_UP:
        text = (
            f"{where} has swollen to {ratio:.2f} times its volume at the start (limit {BLOWN_UP:g}): the sample "
            "evaporates or the pressure is too low; equilibrate at constant volume first, check temperature, pressure "
            "and the barostat's time constant (a longer one is gentler)"
        )
        return Breakdown("cell", b, (), ratio, BLOWN_UP, text)
    if ratio < COLLAPSED or not ratio >= 0.0:
        text = (
            f"{where} has collapsed to {ratio:.2f} of its volume at the start (limit {COLLAPSED:g}); start nearer to "
            "the final density, check the pressure, use a longer time constant of the barostat, or doubt the model here"
        )
        return Breakdown("cell", b, (), ratio, COLLAPSED, text)
    text = (
        f"{where} has become flat: its least height is {float(now.height[b]):.2f} Å, {flat:.2f} of that at the start "
        f"(limit {THINNED:g}); liquids need an isotropic barostat, solids a longer time constant"
    )
    return Breakdown("cell", b, (), flat, THINNED, text)


@dataclass(frozen=True)
class _Contact:
    atoms: tuple[int, int]
    names: str
    distance: float
    limit: float


def _worst_contact(state: MDState, pairs: Neighbors) -> _Contact | None:
    """The pair closest relative to its limit."""
    if pairs.n_edges == 0:
        return None
    d, limits = lengths(state.system, pairs, CONTACT)
    limits = limits.clamp_min(CONTACT_FLOOR)
    edge = int((d / limits).nan_to_num(nan=torch.inf).argmin())
    atoms = (int(pairs.i[edge]), int(pairs.j[edge]))
    names = " and ".join(atom_name(state.system, k) for k in atoms)
    return _Contact(atoms, names, float(d[edge]), float(limits[edge]))
