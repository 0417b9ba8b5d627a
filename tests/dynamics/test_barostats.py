"""Barostats give the isothermal-isobaric ensemble of ideal gases and harmonic crystals, known on paper.

Every run starts in equilibrium, chains and pistons included, and lasts several relaxation times: a barostat with
another ensemble leaves it. (Without collisions a deterministic barostat would not find its way there.)
"""

import numpy as np
import pytest
import torch
from scipy import stats
from solvable import Crystal, IdealGas, gas, hydrostatic, joined, sampled, sigmas, start, stretched, thermal

from heliodor.dynamics.steps import cell_rescaling
from heliodor.dynamics.steps.cell_rescaling import cell_rescaled, cell_rescaling_step
from heliodor.dynamics.steps.coupling import COUPLINGS
from heliodor.dynamics.steps.mtk import mtk_step
from heliodor.dynamics.steps.pressure import Barostat, area, pressure, pull
from heliodor.units import BOLTZMANN

ATOMS, COPIES = 4, 150
K = 0.05
BULK = 2**1.5 / 3.0 * K / 3.7
"""eV/Å³, of the crystal: V d²/dV² of N k d² |F - 1|²."""
TEMPERATURES = (200.0, 400.0)
TARGETS = (BULK, 0.5 * BULK)
"""eV/Å³, of the gases; the crystals have a twentieth."""

# step, barostat's time constant and timestep (fs), thermostat
BAROSTATS = {
    "rescaling": (cell_rescaling_step, 100.0, 2.0, {"friction": 50.0}),
    "rescaling of velocities too": (cell_rescaling_step, 100.0, 2.0, {"time_constant": 30.0}),
    "Martyna-Tobias-Klein": (mtk_step, 200.0, 5.0, {"time_constant": 80.0}),
    "constant enthalpy": (mtk_step, 200.0, 5.0, {"time_constant": None}),
}
CASES = [(name, coupling) for coupling in COUPLINGS for name in ("rescaling", "Martyna-Tobias-Klein")]
CASES += [("rescaling of velocities too", coupling) for coupling in ("isotropic", "triclinic")]


@pytest.fixture(autouse=True)
def _few_atoms_at_speed(monkeypatch, unchecked):
    # the guard protects users; a gas of four atoms changes its volume by half
    monkeypatch.setattr(cell_rescaling, "LARGEST_STRAIN", 2.0)


def run(name, system, potential, coupling, measure, *, temperature, target, tension=0.0, steps=120, every=30):
    """Rows of ``measure`` from thermal velocities, chains and pistons on."""
    step, tau, dt, options = BAROSTATS[name]
    barostat = Barostat(target, coupling, tau, tension, 1.0 / BULK)
    state = start(system, potential, temperature, seed=3)
    if step is mtk_step:
        state = thermal(state, barostat, temperature, options["time_constant"] or tau, seed=4)
    options = {**options, "temperature": temperature, "barostat": barostat}
    return sampled(state, step, potential, dt, steps // every, every, measure, **options)


def cubes(volumes):
    factors = torch.as_tensor(volumes / 1000.0).pow(1 / 3).view(-1, 1).expand(-1, 3)
    return stretched(gas(ATOMS, len(volumes), (10.0, 10.0, 10.0)), factors)


def films(areas, height, pbc=True):
    side = torch.as_tensor(areas / 100.0).sqrt()
    return stretched(gas(ATOMS, len(areas), (10.0, 10.0, height), pbc), torch.stack([side, side, side**0], -1))


def check_gamma(rows, shape, scale):
    """Mean and variance over all times, every quantile over the last."""
    assert abs(sigmas(rows, shape * scale)) < 4
    assert abs(sigmas(np.square(rows - shape * scale), shape * scale**2)) < 4
    assert stats.kstest(rows[-1], stats.gamma(shape, scale=scale).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("name", "coupling"), CASES)
def test_gases_and_crystals(name, coupling):
    """Gases: V^N exp(-PV/kT), a gamma distribution of N + 1, whichever lengths move; in-plane V is A times the height
    h and a surface tension is a lateral pressure less, A^N exp(-(P h - γ)A/kT). Crystals: mean and variance of every
    length. Two temperatures and two pressures at once.
    """
    height, tension = 2.0, (0.1 * BULK if coupling == "in-plane" else 0.0)
    crystal = Crystal(k=K)
    rng = np.random.default_rng(5)
    systems, expected = [], []
    for temperature, target in zip(TEMPERATURES, TARGETS, strict=True):
        kt = BOLTZMANN * temperature
        if coupling == "in-plane":
            scale = kt / (target - tension / height)
            begun = stats.gamma(ATOMS + 1, scale=scale / height).rvs(COPIES, random_state=rng)
            systems.append(films(begun, height))
        else:
            scale = kt / target
            systems.append(cubes(stats.gamma(ATOMS + 1, scale=scale).rvs(COPIES, random_state=rng)))
        grid, weight = crystal.strains(coupling, 0.05 * target, temperature, tension)
        begun = grid[rng.choice(len(grid), COPIES, p=weight)]
        systems.append(stretched(crystal.copies(COPIES, temperature, seed=6), torch.as_tensor(begun).exp()))
        expected += [scale, (grid, weight)]
    crystal.present = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64).repeat_interleave(COPIES).view(-1, 1)
    temperature = torch.tensor(TEMPERATURES, dtype=torch.float64).repeat_interleave(2 * COPIES)
    target = torch.tensor([part * p for p in TARGETS for part in (1.0, 0.05)], dtype=torch.float64)
    target = target.repeat_interleave(COPIES).view(-1, 1).expand(-1, 3)

    def measure(state):
        lengths = torch.diagonal(state.system.cell, dim1=1, dim2=2)
        return torch.cat([state.system.volume.view(-1, 1), lengths], -1)

    rows, _ = run(
        name, joined(systems), crystal, coupling, measure, temperature=temperature, target=target, tension=tension
    )
    for part, theory in enumerate(expected):
        mine = rows[:, part * COPIES : (part + 1) * COPIES]
        if part % 2 == 0:
            check_gamma(mine[..., 0], ATOMS + 1, theory)
        elif coupling != "triclinic":
            # turned springs are other springs, and shears along different ways turn the cell
            check_strains(np.log(mine[..., 1:] / crystal.unit.cell.lengths()), *theory)


def check_strains(rows, grid, weight):
    rows, grid = (np.concatenate([x, x.sum(-1, keepdims=True)], -1) for x in (rows, grid))
    mean = weight @ grid
    spread = weight @ np.square(grid - mean)
    free = spread > 1e-12
    assert np.abs(sigmas(rows[..., free], mean[free])).max() < 4
    assert np.abs(sigmas(np.square(rows - mean)[..., free], spread[free])).max() < 4
    assert np.abs((rows - mean)[..., ~free]).max(initial=0.0) < 1e-9


def test_noise_of_cell_rescaling_goes_with_its_drift():
    """One step of many boxes: fluctuation and dissipation have one mobility, and diagonal noise twice the variance."""
    copies, temperature = 4000, 300.0
    kt, system = BOLTZMANN * temperature, gas(2, copies, (10.0, 10.0, 10.0))
    state = start(system, IdealGas(), temperature, seed=9)
    barostat = Barostat(hydrostatic(BULK), "triclinic", 100.0, 0.0, 1.0 / BULK)
    # without temperature there is no noise, and no kT in place of the centre of mass
    _, drift = cell_rescaled(state, 0.1, temperature=0.0, barostat=barostat)
    _, strain = cell_rescaled(state, 0.1, temperature=temperature, barostat=barostat)
    mobility = drift[:, 0, 0] / pull(state, barostat, 0.0)[:, 0, 0]
    noise = (strain - drift - (mobility * kt).view(-1, 1, 1) * torch.eye(3)) / (2.0 * kt * mobility).sqrt().view(
        -1, 1, 1
    )
    on = torch.diagonal(noise, dim1=1, dim2=2).numpy()
    off = np.stack([noise[:, 0, 1], noise[:, 0, 2], noise[:, 1, 2]], -1)
    assert np.allclose(noise, noise.mT, rtol=0, atol=1e-12)
    for values, variance in ((on, 1.0), (off, 0.5)):
        spread = np.square(values).mean() / variance
        assert abs(spread - 1.0) < 4 * (2.0 / (3 * copies)) ** 0.5 < 0.053


@pytest.mark.parametrize("name", ["rescaling", "Martyna-Tobias-Klein"])
def test_area_of_a_slab(name):
    """Open along z there is no pressure; a negative tension alone holds the gas: A^N exp(γA/kT)."""
    kt = BOLTZMANN * 300.0
    areas = stats.gamma(ATOMS + 1, scale=kt / BULK).rvs(2 * COPIES, random_state=2)
    system = films(areas, 10.0, (True, True, False))
    rows, _ = run(
        name, system, IdealGas(), "in-plane", lambda state: area(state.system),
        temperature=300.0, target=hydrostatic(1.0), tension=-BULK,
    )  # fmt: skip
    check_gamma(rows, ATOMS + 1, kt / BULK)


@pytest.mark.parametrize("name", ["rescaling", "Martyna-Tobias-Klein", "constant enthalpy"])
def test_pressure_tensor_of_a_crystal(name):
    """The pressure tensor is on average what was asked, all six components, with three different normal ones.

    The cell neither grows nor shrinks for ever, so <p - P> = 0 where the strain follows the pull over V, and
    <(p - P)V> = -kT where the piston's rate follows it; 0 without a thermostat, where nothing stands for the centre.
    """
    crystal, temperature = Crystal(k=0.3, radial=True), 40.0
    target = torch.tensor([[0.001, 0.0, -0.001]], dtype=torch.float64)

    def measure(state):
        return torch.cat([pressure(state), state.system.volume.view(-1, 1, 1).expand(-1, 3, 3)], -1)

    def settled(name, system, steps):
        return run(
            name, system, crystal, "triclinic", measure, temperature=temperature, target=target, steps=steps, every=4
        )

    # a crystal let loose rings in step with all its copies
    _, state = settled("rescaling", crystal.copies(2 * COPIES, temperature), 120)
    rows, _ = settled(name, state.system, 160)
    p, volume = rows[..., :3], rows[..., 3:]
    off = (p - np.diag(target[0])) * volume / volume.mean()
    if name == "Martyna-Tobias-Klein":
        off = off + BOLTZMANN * temperature / volume.mean() * np.eye(3)
    elif name == "rescaling":
        off = p - np.diag(target[0])
    assert np.abs(sigmas(off, 0.0)).max() < 4
    # sharp enough to see a fifth of what the directions differ by
    assert (off.mean(0).std(0, ddof=1) / off.shape[1] ** 0.5).max() < 0.05 * 0.001
