"""Stochastic cell rescaling: constant pressure by a first-order, noisy barostat with exact volume fluctuations."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.constraints.rigid import scale_groups
from heliodor.dynamics.state import MDState, generator_at, kinetic_energy, per_atom
from heliodor.dynamics.steps.coupling import project
from heliodor.dynamics.steps.integrators import verlet_step
from heliodor.dynamics.steps.langevin import fluctuated
from heliodor.dynamics.steps.pressure import Barostat, pull, virial
from heliodor.dynamics.steps.rescaling import rescaled
from heliodor.errors import SimulationError
from heliodor.potential import Potential
from heliodor.units import BOLTZMANN

VOLUME_PER_ATOM = 10.0
"""Å³, about that of water and of organic crystals."""

LARGEST_STRAIN = 0.05
"""Of one step; beyond it the barostat is not following the system but destroying it."""


def cell_rescaling_step(
    state: MDState,
    potential: Potential,
    dt: float,
    *,
    temperature: float | Float[Tensor, "B"],
    barostat: Barostat,
    friction: float | None = None,
    time_constant: float | None = None,
) -> MDState:
    """One step at constant temperature and pressure; the cell is rescaled in the middle of the drift.

    Bernetti & Bussi, J. Chem. Phys. 153, 114107 (2020), isotropic and semi-isotropic; Del Tatto, Raiteri, Bernetti
    & Bussi, Appl. Sci. 12, 1139 (2022), anisotropic; see `cell_rescaled` for the equation. What the rescaling adds to
    the energy of the atoms is booked in ``state.bath``, the potential energy by the trapezoidal rule on the virial.

    Args:
        dt: fs.
        temperature: K, one or one per structure.
        friction: 1/ps, of a Langevin thermostat; or
        time_constant: fs, of stochastic velocity rescaling.
    """
    moved_by: list[Float[Tensor, "B 3 3"]] = []
    # that of positions and forces which belong together: in the middle the atoms have moved on
    before = virial(state)

    def middle(state: MDState) -> MDState:
        if friction is not None:
            state = fluctuated(state, dt, temperature=temperature, friction=friction)
        state, strain = cell_rescaled(state, dt, temperature=temperature, barostat=barostat, virial=before)
        moved_by.append(strain)
        return replace(state, bath=state.bath + 0.5 * _contract(before, strain))

    state = verlet_step(state, potential, dt, middle)
    state = replace(state, bath=state.bath + 0.5 * _contract(virial(state), moved_by[0]))
    if time_constant is not None:
        state = rescaled(state, dt, temperature=temperature, time_constant=time_constant)
    return state


def cell_rescaled(
    state: MDState,
    dt: float,
    *,
    temperature: float | Float[Tensor, "B"],
    barostat: Barostat,
    virial: Float[Tensor, "B 3 3"] | None = None,
) -> tuple[MDState, Float[Tensor, "B 3 3"]]:
    """Cell, positions and velocities after the barostat has acted for dt (fs), and the strain it made.

    dε = β/(3τV) G dt + (2 kT β/(3τV))^½ dW in the coupling's subspace, G being `pressure.pull`, β the compressibility
    and τ the time constant: R -> R exp(ε), v -> v exp(-ε), h -> h exp(ε). With ε measured as the logarithm, the drift
    that the volume dependence of the noise would add and the one of the measure dV cancel. Rigid groups move whole.

    Args:
        virial: eV, where the state's own is not of its positions.
    """
    system = state.system
    generator = generator_at(state)
    shape, dtype, device = system.cell.shape, system.cell.dtype, system.cell.device
    noise = torch.randn(shape, dtype=dtype, device=device, generator=generator)
    noise = project(0.5 * (noise + noise.mT), barostat.coupling)
    measure = system.volume
    thermal = torch.as_tensor(BOLTZMANN * temperature, dtype=dtype, device=device)
    force = pull(state, barostat, temperature, virial)
    if not bool(system.pbc.all()):
        # a slab has no volume and needs one for the barostat's speed only: that of condensed matter
        measure = torch.where(system.pbc.all(-1), measure, VOLUME_PER_ATOM * system.counts.to(dtype))
        # it does not change with the area, and so leaves nothing to cancel the kT of the measure dA
        missing = torch.where(system.pbc.all(-1), 0.0, thermal).view(-1, 1, 1)
        identity = torch.eye(3, dtype=dtype, device=device)
        force = force + project(missing * identity, barostat.coupling)
    rate = (barostat.compressibility * dt / (3.0 * barostat.time_constant)) / measure
    wander = (2.0 * thermal * rate).sqrt()
    strain = rate.view(-1, 1, 1) * force + wander.view(-1, 1, 1) * noise
    check_strain(strain, dt)

    before = kinetic_energy(state)
    if barostat.coupling == "triclinic":
        stretch, shrink = torch.linalg.matrix_exp(strain), torch.linalg.matrix_exp(-strain)
    else:
        along = torch.diagonal(strain, dim1=-2, dim2=-1)
        stretch, shrink = torch.diag_embed(along.exp()), torch.diag_embed((-along).exp())
    state = deformed(state, stretch, shrink)
    gained = kinetic_energy(state) - before
    return replace(state, bath=state.bath - gained, rng=generator.get_state()), strain


def deformed(state: MDState, stretch: Float[Tensor, "B 3 3"], shrink: Float[Tensor, "B 3 3"]) -> MDState:
    """Cell and positions times ``stretch``, velocities times ``shrink``; rigid groups by their centres."""
    system = state.system
    cell = system.cell @ stretch
    if state.rigid is None:
        positions = transformed(system.positions, stretch, state)
        velocities = transformed(state.velocities, shrink, state)
    else:
        positions = scale_groups(state.rigid, system.positions, state.masses, stretch, system)
        velocities = scale_groups(state.rigid, state.velocities, state.masses, shrink, system)
    return replace(state, system=system.replace(positions=positions, cell=cell), velocities=velocities)


def transformed(vectors: Float[Tensor, "N 3"], matrix: Float[Tensor, "B 3 3"], state: MDState) -> Float[Tensor, "N 3"]:
    """Row vectors of the atoms times their structure's matrix."""
    if state.system.n_structures == 1:
        return vectors @ matrix[0]
    return torch.bmm(vectors.unsqueeze(1), per_atom(matrix, state.system)).squeeze(1)


def _contract(a: Float[Tensor, "B 3 3"], b: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B"]:
    return (a * b).sum((-2, -1))


def check_strain(strain: Float[Tensor, "B 3 3"], dt: float) -> None:
    """Refuse to change the cell by more than `LARGEST_STRAIN` at once, or by what is not a number.

    Raises:
        SimulationError: with what to do about it.
    """
    largest = float(strain.abs().amax())
    if not largest < LARGEST_STRAIN:
        raise SimulationError(
            f"the barostat would change the cell by {100 * largest:.0f} % in one step of {dt:g} fs: the pressure is "
            "far from its target; equilibrate at constant volume first, minimise with the cell, or take a longer "
            "barostat time constant"
        )
