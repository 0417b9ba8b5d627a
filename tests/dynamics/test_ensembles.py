"""Ensembles by the physical_validation package: kinetic energies, equipartition, ratios at two state points.

Merz & Shirts, PLoS ONE 13, e0202764 (2018). A test's trajectory is many independent copies at a few times far apart,
so its samples are uncorrelated. It gives deviations in standard errors, here of temperatures and pressures.
"""

import warnings
from functools import partial

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk
from solvable import Crystal, sampled, sigmas, start, thermal
from toys import LennardJones, Spring

from heliodor.dynamics import csvr_step, kinetic_energy, langevin_step
from heliodor.dynamics.steps.cell_rescaling import cell_rescaling_step
from heliodor.dynamics.steps.mtk import mtk_step
from heliodor.dynamics.steps.nose_hoover import nose_hoover_step
from heliodor.dynamics.steps.pressure import Barostat
from heliodor.system import System
from heliodor.units import BAR, BOLTZMANN, KJ_PER_MOL

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pv = pytest.importorskip("physical_validation")
    from physical_validation import data

pytestmark = pytest.mark.usefixtures("unchecked")

UNITS = data.UnitData(
    kb=BOLTZMANN,
    energy_conversion=1.0 / KJ_PER_MOL,
    length_conversion=0.1,
    volume_conversion=1e-3,
    temperature_conversion=1.0,
    pressure_conversion=1.0 / BAR,
    time_conversion=1e-3,
)
"""eV, Å, Å³, K, eV/Å³, fs."""

THERMOSTATS = {
    "langevin": (langevin_step, {"friction": 20.0}),
    "velocity rescaling": (csvr_step, {"time_constant": 60.0}),
    "nose-hoover": (nose_hoover_step, {"time_constant": 60.0}),
}
ATOMS, COPIES = 4, 400
HOT, COLD = 44.0, 36.0
HIGH, LOW = 1500.0 * BAR, 600.0 * BAR
DT = 8.0
TEMPERATURE = torch.tensor([HOT, COLD], dtype=torch.float64).repeat_interleave(COPIES)
PRESSURE = torch.tensor([HIGH, LOW], dtype=torch.float64).repeat_interleave(COPIES)
ARGON = LennardJones(cutoff=5.8)


def advanced(state, step, count, **options):
    for _ in range(count):
        state = step(state, ARGON, DT, **options)
    return state


@pytest.fixture(scope="module")
def crystals():
    """Elementary cells of solid argon at two temperatures and pressures, in equilibrium."""
    system = System.from_atoms([bulk("Ar", "fcc", a=5.3, cubic=True)] * (2 * COPIES))
    state = start(system, ARGON, TEMPERATURE, skin=1.4)
    return advanced(state, langevin_step, 80, temperature=TEMPERATURE, friction=20.0)


def observed(states, which, ensemble):
    """What physical_validation wants to know of one state point."""
    mine = slice(0, COPIES) if which == 0 else slice(COPIES, 2 * COPIES)

    def rows(quantity):
        return torch.stack([quantity(state)[mine] for state in states]).flatten().numpy()

    kinetic, potential = rows(kinetic_energy), rows(lambda state: state.energy)
    temperature = (HOT, COLD)[which]
    conditions = {"volume": 1.0} if ensemble == "NVT" else {"pressure": (HIGH, LOW)[which]}
    return data.SimulationData(
        units=UNITS,
        system=data.SystemData(natoms=ATOMS, nconstraints=0, ndof_reduction_tra=3, ndof_reduction_rot=0),
        ensemble=data.EnsembleData(ensemble, natoms=ATOMS, temperature=temperature, **conditions),
        observables=data.ObservableData(
            kinetic_energy=kinetic,
            potential_energy=potential,
            total_energy=kinetic + potential,
            volume=rows(lambda state: state.system.volume),
        ),
    )


def deviations(states, ensemble):
    """Of temperature (and pressure) between the state points, in standard errors."""
    one, two = (observed(states, which, ensemble) for which in (0, 1))
    return np.abs(pv.ensemble.check(one, two, verbosity=0, data_is_uncorrelated=True))


def kinetic(states, ensemble):
    """p of the Kolmogorov-Smirnov test, and deviations of mean and width in standard errors, of both points."""
    points = [observed(states, which, ensemble) for which in (0, 1)]
    options = {"verbosity": 0, "data_is_uncorrelated": True, "bootstrap_seed": 1}
    strict = min(pv.kinetic_energy.distribution(point, strict=True, **options) for point in points)
    loose = [pv.kinetic_energy.distribution(point, strict=False, **options) for point in points]
    return strict, np.abs(loose).max()


@pytest.mark.parametrize("name", THERMOSTATS)
def test_thermostats(name, crystals):
    step, options = THERMOSTATS[name]
    state = thermal(crystals, None, TEMPERATURE, 60.0, seed=5) if name == "nose-hoover" else crystals
    states = []
    for _ in range(4):
        state = advanced(state, step, 30, temperature=TEMPERATURE, **options)
        states.append(state)
    strict, loose = kinetic(states, "NVT")
    assert strict > 1e-3
    assert loose < 4
    assert deviations(states, "NVT").max() < 4


@pytest.mark.parametrize("name", THERMOSTATS)
def test_heat_capacity_of_a_harmonic_crystal(name):
    """<U> = f kT/2 and <δU²> = f (kT)²/2, the potential's half of the heat capacity f k of Dulong and Petit."""
    step, options = THERMOSTATS[name]
    crystal, temperature = Crystal(k=0.1), 100.0
    state = start(crystal.copies(800, temperature, seed=1), crystal, temperature, seed=2)
    state = thermal(state, None, temperature, 60.0, seed=3)
    rows = sampled(state, step, crystal, 4.0, 4, 25, lambda state: state.energy, temperature=temperature, **options)[0]
    half, kt = 0.5 * float(state.degrees_of_freedom[0]), BOLTZMANN * temperature
    assert abs(sigmas(rows, half * kt)) < 4
    assert abs(sigmas(np.square(rows - half * kt), half * kt**2)) < 4


def test_three_percent_too_much_noise_is_seen(crystals):
    """What the tests above are worth: the same length of the same run, noise and with it the temperature off."""
    states, state = [], crystals
    for _ in range(4):
        state = advanced(state, langevin_step, 30, temperature=1.03**2 * TEMPERATURE, friction=20.0)
        states.append(state)
    strict, loose = kinetic(states, "NVT")
    assert strict < 1e-3
    assert loose > 4


@pytest.mark.parametrize(("name", "coupling"), [("rescaling", "isotropic"), ("mtk", "triclinic")])
def test_barostats(name, coupling, crystals):
    states = pressed(name, coupling, crystals)
    strict, loose = kinetic(states, "NPT")
    assert strict > 1e-3
    assert loose < 4
    assert deviations(states, "NPT").max() < 4


def pressed(name, coupling, state, times=3):
    """States of a run under pressure, by cell rescaling until there is equilibrium."""
    target = PRESSURE.view(-1, 1).expand(-1, 3)
    soft = Barostat(target, coupling, 200.0, compressibility=80.0)
    rescale = partial(cell_rescaling_step, temperature=TEMPERATURE, friction=20.0, barostat=soft)
    state = advanced(state, rescale, 100)
    if name == "mtk":
        hard = Barostat(target, coupling, 800.0)
        state = thermal(state, hard, TEMPERATURE, 60.0, seed=5)
        step = partial(mtk_step, temperature=TEMPERATURE, time_constant=60.0, barostat=hard)
    else:
        step = rescale
    states = []
    for _ in range(times):
        state = advanced(state, step, 30)
        states.append(state)
    return states


def test_molecules_share_their_energy():
    """Translation, rotation and vibration of two triangles each have kT/2 for each degree of freedom."""
    copies, temperature, potential = 600, 300.0, Spring(5.0)
    triangle = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [1.0, 3.0**0.5, 0.0]])
    atoms = ase.Atoms("NOFNOF", np.concatenate([triangle, triangle + np.array([15.0, 0.0, 0.0])]))
    # a centre of mass at rest would tie the two translations together
    state = start(System.from_atoms([atoms] * copies), potential, temperature, fixed_center=False)
    for _ in range(150):
        state = langevin_step(state, potential, 2.0, temperature=temperature, friction=30.0)
    point = data.SimulationData(
        # this test of the package wants m v² to be an energy: nm/ps, kJ/mol
        units=data.UnitData(BOLTZMANN / KJ_PER_MOL, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
        system=data.SystemData(
            natoms=6,
            nconstraints=0,
            ndof_reduction_tra=0,
            ndof_reduction_rot=0,
            mass=state.masses[:6].numpy(),
            molecule_idx=np.array([0, 3]),
            nconstraints_per_molecule=np.zeros(2),
        ),
        ensemble=data.EnsembleData("NVT", natoms=6, volume=1.0, temperature=temperature),
        trajectory=data.TrajectoryData(
            0.1 * state.system.positions.view(copies, 6, 3).numpy(),
            100.0 * state.velocities.view(copies, 6, 3).numpy(),
        ),
    )
    options = {"verbosity": 0, "data_is_uncorrelated": True, "molec_groups": [np.array([0]), np.array([1])]}
    found = pv.kinetic_energy.equipartition(point, strict=True, **options)
    assert min(found) > 1e-3, found
