"""Thermostats give the canonical ensemble: many independent structures at once, compared with theory in sigmas."""

import ase
import numpy as np
import pytest
import torch
from scipy import integrate, stats
from toys import Morse, Spring, Wells, cluster, dimers

from heliodor.dynamics import conserved, csvr_step, init, kinetic_energy, langevin_step, minimize, temperature
from heliodor.dynamics.steps.rescaling import rescaled
from heliodor.system import System
from heliodor.units import ACCELERATION, BOLTZMANN

T = 300.0
KT = BOLTZMANN * T


def sample(state, step, potential, dt, warm, keep, every, measure, **options):
    """One row per kept time, one column per structure."""
    rows = []
    for n in range(warm + keep * every):
        state = step(state, potential, dt, temperature=T, **options)
        if n >= warm and (n - warm) % every == every - 1:
            rows.append(measure(state))
    return torch.stack(rows).numpy(), state


def sigmas(rows, expected):
    """Deviation of the mean over everything; the structures are independent, the times need not be."""
    means = rows.mean(0)
    return (means.mean() - expected) / (means.std(ddof=1) / len(means) ** 0.5)


def stretch(state):
    r = state.system.positions.view(-1, 2, 3)
    return (r[:, 1] - r[:, 0]).norm(dim=-1)


def test_langevin_positions_are_exact_in_harmonic_wells_at_a_large_step():
    # ω dt = 1: BAOAB's configurational averages of a harmonic well have no step-size error at all
    k, mass = 2.0, 12.011
    dt = (mass / (k * ACCELERATION)) ** 0.5
    centers = torch.as_tensor(cluster(40).positions)
    potential = Wells(centers.repeat(4, 1), k)
    system = System.from_atoms([cluster(40)] * 4)
    system = system.replace(positions=potential.centers.detach().clone())
    state = init(system, potential, temperature=T, seed=4, fixed_center=False)

    def squares(state):
        return (state.system.positions - potential.centers.detach()).square().flatten()

    rows, _ = sample(state, langevin_step, potential, dt, 60, 250, 1, squares, friction=20.0)
    assert abs(sigmas(rows, KT / k)) < 4
    assert abs(rows.mean() / (KT / k) - 1) < 0.03


def test_langevin_dimers_are_canonical():
    k, d0 = 1.0, 2.0
    potential = Spring(k, d0)
    state = init(System.from_atoms(dimers(250)), potential, temperature=T, seed=7, rotating=True)

    def measure(state):
        return torch.stack([(stretch(state) - d0).square(), kinetic_energy(state), kinetic_energy(state).square()], -1)

    rows, state = sample(state, langevin_step, potential, 3.0, 250, 60, 8, measure, friction=15.0)

    def weight(r):
        return r**2 * np.exp(-0.5 * k * (r - d0) ** 2 / KT)

    expected = integrate.quad(lambda r: (r - d0) ** 2 * weight(r), 0, 6)[0] / integrate.quad(weight, 0, 6)[0]
    assert abs(sigmas(rows[..., 0], expected)) < 4
    # three degrees of freedom: <K> = 3/2 kT, <K²> = (3/2)(5/2) (kT)²; a step-size error of a percent is allowed for
    assert abs(rows[..., 1].mean() / (1.5 * KT) - 1) < 0.03
    assert abs(rows[..., 2].mean() / (3.75 * KT**2) - 1) < 0.06
    assert abs(sigmas(rows[..., 1], 1.5 * KT)) < 4


def test_rescaled_dimers_are_canonical():
    k, d0 = 1.0, 2.0
    potential = Spring(k, d0)
    state = init(System.from_atoms(dimers(250)), potential, temperature=T, seed=8)
    assert state.degrees_of_freedom[0] == 1

    def measure(state):
        return torch.stack([(stretch(state) - d0).square(), kinetic_energy(state), kinetic_energy(state).square()], -1)

    rows, state = sample(state, csvr_step, potential, 2.0, 200, 80, 8, measure, time_constant=30.0)
    assert abs(sigmas(rows[..., 0], KT / k)) < 4
    assert abs(sigmas(rows[..., 1], 0.5 * KT)) < 4
    assert abs(sigmas(rows[..., 2], 0.75 * KT**2)) < 4


@pytest.mark.parametrize("n", [2, 3, 8])
def test_rescaling_alone_has_the_gamma_distribution_as_its_fixed_point(n):
    atoms = cluster(n)
    potential = Morse()
    state = init(System.from_atoms([atoms] * 1200), potential, temperature=1.5 * T, seed=n)
    free = float(state.degrees_of_freedom[0])
    for _ in range(12):
        state = rescaled(state, 50.0, temperature=T, time_constant=100.0)
    result = stats.kstest(kinetic_energy(state).numpy(), stats.gamma(free / 2, scale=KT).cdf)
    # relaxed to exp(-6): 0.25 % of the start is left
    assert result.pvalue > 1e-3


def test_rescaling_relaxes_exponentially():
    state = init(System.from_atoms([cluster(30)] * 300), Morse(), temperature=2 * T, seed=1)
    state = rescaled(state, 25.0, temperature=T, time_constant=50.0)
    assert abs(float(temperature(state).mean()) / T - (1 + np.exp(-0.5))) < 0.02


@pytest.mark.parametrize(
    ("step", "options"), [(langevin_step, {"friction": 10.0}), (csvr_step, {"time_constant": 50.0})]
)
def test_the_conserved_quantity_stays_while_the_energy_moves(step, options):
    potential = Morse()
    state = init(
        System.from_atoms([cluster(5), cluster(8)]), potential, temperature=T, seed=2, rotating=step is langevin_step
    )
    start, energies, constants = conserved(state), [], []
    for _ in range(500):
        state = step(state, potential, 0.5, temperature=T, **options)
        energies.append(conserved(state) - state.bath)
        constants.append(conserved(state))
    wander = (torch.stack(energies) - start).abs().amax(0)
    error = (torch.stack(constants) - start).abs().amax(0)
    assert (wander > 0.05).all()
    assert (error < 0.01 * wander).all()


@pytest.mark.parametrize(
    ("step", "options"), [(langevin_step, {"friction": 50.0}), (csvr_step, {"time_constant": 20.0})]
)
def test_each_structure_can_have_its_own_temperature(step, options):
    potential = Morse()
    target = torch.tensor([100.0, 400.0], dtype=torch.float64).repeat(30)
    relaxed = minimize(System.from_atoms(cluster(6)), potential).system.to_atoms()
    state = init(System.from_atoms(relaxed * 60), potential, temperature=target, seed=3, rotating=step is langevin_step)
    means = []
    for n in range(150):
        state = step(state, potential, 2.0, temperature=target, **options)
        if n >= 50:
            means.append(temperature(state))
    found = torch.stack(means).mean(0).view(30, 2).mean(0)
    assert abs(found[0] / 100 - 1) < 0.1
    assert abs(found[1] / 400 - 1) < 0.1


def test_structures_at_rest_or_alone_survive_the_thermostats():
    system = System.from_atoms([ase.Atoms("He"), cluster(4)])
    for step, options in ((langevin_step, {"friction": 10.0}), (csvr_step, {"time_constant": 20.0})):
        state = init(system, Morse(), temperature=0.0)
        for _ in range(20):
            state = step(state, Morse(), 1.0, temperature=T, **options)
        assert state.velocities.isfinite().all()
        assert (state.velocities[0] == 0).all()
