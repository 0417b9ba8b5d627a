"""Martyna, Tobias & Klein's barostat: constant pressure or enthalpy by deterministic, time-reversible motion."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.state import MDState, evaluated, kinetic_energy
from heliodor.dynamics.steps.cell_rescaling import check_strain, transformed
from heliodor.dynamics.steps.coupling import AXES, DIMENSIONS
from heliodor.dynamics.steps.extended import Piston
from heliodor.dynamics.steps.integrators import mobility
from heliodor.dynamics.steps.nose_hoover import chain_at_rest, chain_energy, propagated, thermostatted, with_chain
from heliodor.dynamics.steps.pressure import Barostat, pull, work
from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.units import BOLTZMANN


def mtk_step(
    state: MDState,
    potential: Potential,
    dt: float,
    *,
    temperature: float | Float[Tensor, "B"],
    barostat: Barostat,
    time_constant: float | None,
) -> MDState:
    """One step at constant pressure, palindromic: chains, piston, kick, drift with the cell, kick, piston, chains.

    Martyna, Tobias & Klein, J. Chem. Phys. 101, 4177 (1994); the splitting of Tuckerman, Alejandre, López-Rendón,
    Jochim & Martyna, J. Phys. A 39, 5629 (2006) and Yu et al., Chem. Phys. 370, 294 (2010), for any symmetric strain
    rate within the coupling. All energies of chains and piston, and the work against the pressure, are in
    ``state.bath``, so `conserved` is the extended Hamiltonian.

    Args:
        dt: fs.
        temperature: K, one or one per structure; at constant enthalpy it only sets the mass of the piston.
        time_constant: fs, of the thermostat chains; None for constant enthalpy (no thermostat).

    Raises:
        InputError: rigid bonds or frozen atoms, which need another algorithm.
    """
    state = with_piston(state, barostat)
    hot = temperature if time_constant is not None else None
    if time_constant is not None:
        state = _piston_thermostatted(with_chain(state), 0.5 * dt, temperature, barostat)
        state = thermostatted(state, 0.5 * dt, temperature=temperature, time_constant=time_constant)
    state = _accelerated(state, 0.5 * dt, temperature, barostat, hot)
    state = _kicked(state, 0.5 * dt)
    state = _drifted(state, dt, barostat, hot)
    state = evaluated(state, potential, step=state.step + 1, time=state.time + dt)
    state = _kicked(state, 0.5 * dt)
    state = _accelerated(state, 0.5 * dt, temperature, barostat, hot)
    if time_constant is not None:
        state = thermostatted(state, 0.5 * dt, temperature=temperature, time_constant=time_constant)
        state = _piston_thermostatted(state, 0.5 * dt, temperature, barostat)
    return state


def with_piston(state: MDState, barostat: Barostat) -> MDState:
    """The state with a piston at rest, if it has none."""
    if state.rigid is not None or state.frozen is not None:
        raise InputError(
            "the mtk barostat moves every atom by itself: with rigid bonds take the scr barostat, with frozen atoms "
            "constant volume"
        )
    if state.piston is not None:
        return state
    if not bool((state.degrees_of_freedom > 0).all()):
        raise InputError("the Martyna-Tobias-Klein barostat needs more than one atom a cell: take the scr barostat")
    return replace(state, piston=Piston(torch.zeros_like(state.system.cell), chain_at_rest(state.energy)))


def _piston_mass(state: MDState, temperature: float | Float[Tensor, "B"], barostat: Barostat) -> Float[Tensor, "B"]:
    """(f + d) kT τ²/d in eV fs², so that W tr(g²)/2 is W_isotropic (dε/dt)²/2 for equal strains along d axes."""
    axes = AXES[barostat.coupling]
    thermal = torch.as_tensor(BOLTZMANN * temperature, dtype=state.energy.dtype, device=state.energy.device)
    return (state.degrees_of_freedom + axes) * thermal * barostat.time_constant**2 / axes


def _accelerated(
    state: MDState,
    dt: float,
    temperature: float | Float[Tensor, "B"],
    barostat: Barostat,
    hot: float | Float[Tensor, "B"] | None,
) -> MDState:
    """The piston's rate after the pull on the cell has acted for dt."""
    assert state.piston is not None
    mass = _piston_mass(state, temperature, barostat)
    force = pull(state, barostat, hot) + _equal(2.0 * kinetic_energy(state) / state.degrees_of_freedom, barostat)
    rate = state.piston.rate + (dt / mass).view(-1, 1, 1) * force
    check_strain(2.0 * dt * rate, 2.0 * dt)
    gained = 0.5 * mass * (_square(rate) - _square(state.piston.rate))
    return replace(state, piston=replace(state.piston, rate=rate), bath=state.bath + gained)


def _kicked(state: MDState, dt: float) -> MDState:
    """v' = F/m - v (g + tr g/f) solved exactly for constant force and rate."""
    assert state.piston is not None
    rate = state.piston.rate
    trace = torch.diagonal(rate, dim1=-2, dim2=-1).sum(-1)
    identity = torch.eye(3, dtype=rate.dtype, device=rate.device)
    drag = rate + (trace / state.degrees_of_freedom).view(-1, 1, 1) * identity
    value, turn = torch.linalg.eigh(drag * dt)
    decay = _function(turn, torch.exp(-value))
    mean = _function(turn, torch.exp(-0.5 * value) * _sinhc(0.5 * value))
    pushed = transformed(state.forces * mobility(state, dt), mean, state)
    return replace(state, velocities=transformed(state.velocities, decay, state) + pushed)


def _drifted(state: MDState, dt: float, barostat: Barostat, hot: float | Float[Tensor, "B"] | None) -> MDState:
    """R' = v + R g and h' = h g solved exactly for constant velocity and rate."""
    assert state.piston is not None
    strain = state.piston.rate * dt
    value, turn = torch.linalg.eigh(strain)
    stretch = _function(turn, torch.exp(value))
    mean = _function(turn, torch.exp(0.5 * value) * _sinhc(0.5 * value))
    system = state.system
    positions = transformed(system.positions, stretch, state) + dt * transformed(state.velocities, mean, state)
    done = work(system, barostat, strain)
    if hot is not None and state.fixed_center:
        thermal = torch.as_tensor(BOLTZMANN * hot, dtype=done.dtype, device=done.device)
        # the pull that stands for the centre of mass does work too; only along the axes that move
        done = done - thermal * torch.diagonal(strain, dim1=-2, dim2=-1).sum(-1)
    return replace(
        state, system=system.replace(positions=positions, cell=system.cell @ stretch), bath=state.bath + done
    )


def _piston_thermostatted(
    state: MDState, dt: float, temperature: float | Float[Tensor, "B"], barostat: Barostat
) -> MDState:
    """The piston's own chain, acting for dt."""
    assert state.piston is not None
    piston, tau = state.piston, barostat.time_constant
    thermal = BOLTZMANN * torch.as_tensor(temperature, dtype=state.energy.dtype, device=state.energy.device)
    thermal = thermal.expand_as(state.energy)
    mass = _piston_mass(state, temperature, barostat)
    free = torch.full_like(state.energy, float(DIMENSIONS[barostat.coupling]))
    chain, scale = propagated(piston.chain, mass * _square(piston.rate), free, thermal, tau, dt)
    gained = chain_energy(chain, free, thermal, tau) - chain_energy(piston.chain, free, thermal, tau)
    rate = piston.rate * scale.view(-1, 1, 1)
    gained = gained + 0.5 * mass * (_square(rate) - _square(piston.rate))
    return replace(state, piston=Piston(rate, chain), bath=state.bath + gained)


def _equal(value: Float[Tensor, "B"], barostat: Barostat) -> Float[Tensor, "B 3 3"]:
    """The same along every axis the coupling can stretch."""
    axes = value.new_tensor([1.0, 1.0, 1.0 if AXES[barostat.coupling] == 3 else 0.0])
    return value.view(-1, 1, 1) * torch.diag(axes)


def _square(rate: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B"]:
    return rate.square().sum((-2, -1))


def _function(turn: Float[Tensor, "B 3 3"], values: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3 3"]:
    return (turn * values.unsqueeze(-2)) @ turn.mT


def _sinhc(x: Tensor) -> Tensor:
    """sinh(x)/x."""
    small = x.abs() < 1e-4
    safe = torch.where(small, 1.0, x)
    return torch.where(small, 1.0 + x.square() / 6.0, torch.sinh(safe) / safe)
