"""Pressure: what a structure exerts, what a barostat aims at, and the pull on the cell that the two make together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.constraints.rigid import group_kinetic_tensor, group_virial
from heliodor.dynamics.state import MDState, per_structure
from heliodor.dynamics.steps.coupling import project
from heliodor.dynamics.steps.integrators import mobility
from heliodor.system import System
from heliodor.units import BAR, BOLTZMANN, KINETIC

COMPRESSIBILITY = 4.5e-5 / BAR
"""Å³/eV, of water at 300 K. Of a barostat by cell rescaling it sets the speed only, never the average."""


@dataclass(frozen=True)
class Barostat:
    """What a barostat aims at and how fast.

    Attributes:
        pressure: eV/Å³ along x, y and z, one row for all structures or one each (S is 1 or B).
        coupling: which strains are free, see `heliodor.dynamics.steps.coupling.COUPLINGS`.
        time_constant: fs, in which the volume relaxes.
        surface_tension: eV/Å² of the whole box, all its interfaces together (twice that of one for a film or a
            bilayer): the enthalpy is E + PV - γA with A the area in the xy plane.
        compressibility: Å³/eV; used by stochastic cell rescaling.
    """

    pressure: Float[Tensor, "S 3"]
    coupling: str = "isotropic"
    time_constant: float = 1000.0
    surface_tension: float = 0.0
    compressibility: float = COMPRESSIBILITY


def kinetic_tensor(state: MDState) -> Float[Tensor, "B 3 3"]:
    """Σ m v⊗v, eV; of the centres of rigidly bonded groups where there are any. Its trace is twice an energy."""
    system = state.system
    if state.rigid is not None:
        return group_kinetic_tensor(state.rigid, state.velocities, state.masses, system.batch, system.n_structures)
    weighted = (KINETIC * state.masses).unsqueeze(-1) * state.velocities
    if system.n_structures == 1:
        return (weighted.mT @ state.velocities).unsqueeze(0)
    return per_structure(weighted.unsqueeze(-1) * state.velocities.unsqueeze(-2), system)


def virial(state: MDState) -> Float[Tensor, "B 3 3"]:
    """-∂E/∂ε, eV, with rigidly bonded groups carried along whole."""
    assert state.virial is not None, "the state keeps no virial: init(..., virial=True)"
    if state.rigid is None:
        return state.virial
    return group_virial(state.rigid, state.virial, state.system.positions, state.forces, state.masses, state.system)


def pressure(state: MDState, timestep: float = 0.0) -> Float[Tensor, "B 3 3"]:
    """Instantaneous pressure tensor, eV/Å³, of fully periodic structures.

    (Σ m v⊗v + virial)/V, with the kinetic part that the motion of the centre of mass would add on average where
    that is held at rest, so that an ideal gas has N kT/V and not (N - 1) kT/V.

    Args:
        timestep: fs, of the steps that made the state. The kinetic part is then the mean of the half steps before and
            after, Σ m v⊗v + (dt²/4) Σ F⊗F/m, which balances the virial exactly for harmonic modes; with the
            velocities of whole steps the pressure comes out low by (ω dt)²/4 kT/V for each.
    """
    free = state.degrees_of_freedom.clamp_min(1.0)
    twice = kinetic_tensor(state)
    if timestep:
        half_kicks = state.forces * mobility(state, 0.5 * timestep)
        twice = twice + kinetic_tensor(state.replace(velocities=half_kicks))
    total = twice + virial(state)
    if state.fixed_center:
        # 2K/f is kT on average, of the ensemble without a thermostat too
        hot = KINETIC * per_structure(state.masses * state.velocities.square().sum(-1), state.system) / free
        total = total + hot.view(-1, 1, 1) * torch.eye(3, dtype=total.dtype, device=total.device)
    return total / state.system.volume.view(-1, 1, 1)


def pull(
    state: MDState,
    barostat: Barostat,
    temperature: float | Float[Tensor, "B"] | None,
    virial_then: Float[Tensor, "B 3 3"] | None = None,
) -> Float[Tensor, "B 3 3"]:
    """Generalised force on the strain of the cell, eV: Σ m v⊗v + virial - PV + γA, within the coupling.

    Of an ideal gas whose centre of mass is at rest, N - 1 velocities push; the missing kT is added, so that the
    volume is distributed as V^N exp(-PV/kT), which is what barostats that make Monte Carlo moves sample.

    Args:
        temperature: K; None where there is no thermostat, and nothing is added.
        virial_then: eV, where the state's own is not of its positions.
    """
    total = kinetic_tensor(state) + (virial(state) if virial_then is None else virial_then)
    identity = torch.eye(3, dtype=total.dtype, device=total.device)
    if temperature is not None and state.fixed_center:
        thermal = torch.as_tensor(BOLTZMANN * temperature, dtype=total.dtype, device=total.device)
        total = total + thermal.reshape(-1, 1, 1) * identity
    total = total - torch.diag_embed(barostat.pressure) * _volume(state.system).view(-1, 1, 1)
    if barostat.surface_tension:
        plane = torch.diag(identity.new_tensor([1.0, 1.0, 0.0]))
        total = total + (barostat.surface_tension * area(state.system)).view(-1, 1, 1) * plane
    return project(total, barostat.coupling)


def work(system: System, barostat: Barostat, strain: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B"]:
    """Work done against pressure and surface tension when the cell goes to cell · exp(strain), eV.

    ∫ V(s) P:ε ds along the straight way, which is P ΔV where the pressure is the same along all axes.
    """
    trace = torch.diagonal(strain, dim1=-2, dim2=-1)
    growth = trace.sum(-1)
    # (e^x - 1)/x
    mean = torch.where(growth.abs() < 1e-8, 1.0 + 0.5 * growth, torch.expm1(growth) / growth)
    done = _volume(system) * mean * (barostat.pressure * trace).sum(-1)
    if barostat.surface_tension:
        done = done - barostat.surface_tension * area(system) * torch.expm1(trace[:, 0] + trace[:, 1])
    return done


def area(system: System) -> Float[Tensor, "B"]:
    """Of the face that the first two lattice vectors span, Å²."""
    return torch.linalg.cross(system.cell[:, 0], system.cell[:, 1]).norm(dim=-1)


def _volume(system: System) -> Float[Tensor, "B"]:
    """Å³; zero for slabs and wires, on which no pressure acts from outside."""
    return torch.where(system.pbc.all(-1), system.volume, 0.0)
