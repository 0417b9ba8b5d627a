"""Deterministic thermostats and barostats: the way back, the order of the error, and ASE's trajectories."""

from functools import partial

import ase.units
import numpy as np
import pytest
import torch
from ase.md import nose_hoover_chain
from solvable import Crystal, hydrostatic, start, thermal
from toys import Morse, cluster

from heliodor.dynamics import conserved, csvr_step, init, langevin_step, nve_step, temperature
from heliodor.dynamics.steps.cell_rescaling import cell_rescaling_step
from heliodor.dynamics.steps.coupling import COUPLINGS
from heliodor.dynamics.steps.mtk import mtk_step
from heliodor.dynamics.steps.nose_hoover import nose_hoover_step
from heliodor.dynamics.steps.pressure import Barostat
from heliodor.engines.ase import Calculator
from heliodor.errors import InputError
from heliodor.system import System
from heliodor.units import ACCELERATION, BOLTZMANN

T = 60.0
PRESSURE = torch.tensor([[0.002, 0.001, 0.003]], dtype=torch.float64)

pytestmark = pytest.mark.usefixtures("unchecked")


def barostat(coupling):
    # the area is a function of xx and yy strains only where xz and yz are held
    tension = 0.002 if coupling in ("in-plane", "semi-isotropic") else 0.0
    return Barostat(PRESSURE, coupling, 500.0, tension, compressibility=15.0)


STEPS = {
    "nve": nve_step,
    "nose-hoover": partial(nose_hoover_step, temperature=T, time_constant=60.0),
    **{f"mtk {c}": partial(mtk_step, temperature=T, barostat=barostat(c), time_constant=60.0) for c in COUPLINGS},
    "mtk enthalpy": partial(mtk_step, temperature=T, barostat=barostat("triclinic"), time_constant=None),
}
CRYSTAL = Crystal(radial=True)


def beginning(copies=4):
    """Strained crystals at about 2T, chains and pistons in motion, so that everything acts on everything."""
    state = start(CRYSTAL.copies(copies, 2 * T), CRYSTAL, 2 * T, seed=2)
    return thermal(state, barostat("triclinic"), T, 60.0, seed=3)


def within(state, coupling):
    """The state with a piston that moves only as the coupling allows."""
    return thermal(state, barostat(coupling), T, 60.0, seed=3)


def advanced(state, step, steps, dt):
    for _ in range(steps):
        state = step(state, CRYSTAL, dt)
    return state


def turned(state):
    chain, piston = state.chain, state.piston
    back = {"velocities": -chain.velocities}
    own = type(chain)(-piston.chain.velocities, piston.chain.heat)
    return state.replace(
        velocities=-state.velocities, chain=type(chain)(**back, heat=chain.heat), piston=type(piston)(-piston.rate, own)
    )


@pytest.mark.parametrize("name", STEPS)
def test_going_back_leads_to_the_start(name):
    coupling = name.split()[-1] if name.split()[-1] in COUPLINGS else "triclinic"
    begun = within(beginning(), coupling)
    there = advanced(begun, STEPS[name], 40, 4.0)
    assert (there.system.positions - begun.system.positions).abs().max() > 0.1
    back = turned(advanced(turned(there), STEPS[name], 40, 4.0))
    for a, b in (
        (back.system.positions, begun.system.positions),
        (back.system.cell, begun.system.cell),
        (back.velocities, begun.velocities),
        (back.chain.velocities, begun.chain.velocities),
        (back.piston.rate, begun.piston.rate),
        (back.piston.chain.velocities, begun.piston.chain.velocities),
        (conserved(back), conserved(begun)),
    ):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)
    if name.startswith("mtk"):
        assert (there.system.cell - begun.system.cell).abs().max() > 0.005


@pytest.mark.parametrize("name", ["nve", "nose-hoover", "mtk in-plane", "mtk triclinic", "mtk enthalpy"])
def test_conserved_quantity_errs_as_the_square_of_the_timestep(name):
    """At the end of the same stretch, where the error is c dt² with one c for all three timesteps."""
    begun = within(beginning(), "in-plane" if "plane" in name else "triclinic")
    steps = np.array([4.0, 2.0, 1.0])
    errors = [
        float((conserved(advanced(begun, STEPS[name], round(64 / dt), dt)) - conserved(begun)).norm()) for dt in steps
    ]
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert abs(slope - 2.0) < 0.1


@pytest.mark.parametrize(
    ("step", "options"),
    [
        (langevin_step, {"friction": 20.0}),
        (csvr_step, {"time_constant": 50.0}),
        (cell_rescaling_step, {"friction": 20.0, "barostat": barostat("triclinic")}),
        (cell_rescaling_step, {"time_constant": 50.0, "barostat": barostat("isotropic")}),
    ],
)
def test_conserved_quantity_of_stochastic_motion_hardly_moves(step, options):
    # a slow barostat: booking its virial by the trapezoidal rule is what is looked at, not its noise
    state, begun = beginning(), conserved(beginning())
    energies, constants = [], []
    for _ in range(150):
        state = step(state, CRYSTAL, 1.0, temperature=T, **options)
        energies.append(conserved(state) - state.bath)
        constants.append(conserved(state) - begun)
    wander = torch.stack(energies).std(0)
    assert (torch.stack(constants).abs().amax(0) < 0.02 * wander).all()


def in_ase(state, atoms, potential):
    """ASE's view of the same state, its velocities in its own unit of time."""
    atoms = atoms.copy()
    atoms.calc = Calculator(potential)
    atoms.positions = state.system.positions.numpy()
    atoms.set_velocities(state.velocities.numpy() / ACCELERATION**0.5)
    return atoms


def ase_options(dt, tdamp, hot=T):
    """Units of ASE hold older constants; these arguments are the same numbers inside."""
    return {
        "timestep": dt * ACCELERATION**0.5,
        "temperature_K": hot * BOLTZMANN / ase.units.kB,
        "tdamp": tdamp * ACCELERATION**0.5,
    }


def test_trajectory_is_ases_nose_hoover_chain():
    """The same equations where no momentum is held back: positions after 150 steps agree to rounding."""
    potential, atoms = Morse(), cluster(6)
    state = init(System.from_atoms(atoms), potential, temperature=400.0, seed=1, fixed_center=False)
    dynamics = nose_hoover_chain.NoseHooverChainNVT(in_ase(state, atoms, potential), **ase_options(1.0, 25.0, 300.0))
    begun = conserved(state)
    for _ in range(150):
        state = nose_hoover_step(state, potential, 1.0, temperature=300.0, time_constant=25.0)
        dynamics.step()
    np.testing.assert_allclose(state.system.positions, dynamics.atoms.positions, rtol=0, atol=1e-8)
    gained = (
        dynamics.get_conserved_energy() - dynamics.atoms.get_potential_energy() - dynamics.atoms.get_kinetic_energy()
    )
    np.testing.assert_allclose(state.bath, gained, atol=1e-8)
    assert (conserved(state) - begun).abs() < 1e-3 < float(state.bath.abs())


@pytest.mark.parametrize("coupling", ["isotropic", "anisotropic", "triclinic"])
def test_trajectory_is_ases_martyna_tobias_klein(coupling):
    """Likewise under pressure. ASE counts nine strains of a triclinic cell, rotations too, and nine for one; there its
    chain of the cell is given our count.
    """
    kinds = {"isotropic": "IsotropicMTKNPT", "anisotropic": "MaskedMTKNPT", "triclinic": "MTKNPT"}
    kind = getattr(nose_hoover_chain, kinds[coupling], None)
    if kind is None:
        pytest.skip(f"this ASE has no {kinds[coupling]}")
    atoms = CRYSTAL.unit
    state = init(System.from_atoms(atoms), CRYSTAL, temperature=80.0, seed=1, fixed_center=False, virial=True)
    cell_options = {"mask": (True, True, True)} if coupling == "anisotropic" else {}
    dynamics = kind(
        in_ase(state, atoms, CRYSTAL), pressure_au=0.003, pdamp=150.0 * ACCELERATION**0.5, **ase_options(2.0, 40.0),
        **cell_options,
    )  # fmt: skip
    own = dynamics._barostat
    own._R[0] = own._R[1] * {"isotropic": 1, "anisotropic": 3, "triclinic": 6}[coupling]
    own._cell_dof = 6
    if coupling == "anisotropic":
        own._cell_dof = 3
    target = Barostat(hydrostatic(0.003), coupling, 150.0)
    for _ in range(60):
        state = mtk_step(state, CRYSTAL, 2.0, temperature=T, barostat=target, time_constant=40.0)
        dynamics.step()
    assert (state.system.cell - torch.as_tensor(atoms.cell.array)).abs().max() > 0.05
    np.testing.assert_allclose(state.system.positions, dynamics.atoms.positions, rtol=0, atol=1e-8)
    np.testing.assert_allclose(state.system.cell[0], dynamics.atoms.cell.array, rtol=0, atol=1e-8)


def test_chains_need_a_temperature():
    state = init(System.from_atoms(cluster(3)), Morse(), temperature=100.0)
    with pytest.raises(InputError, match="above zero"):
        nose_hoover_step(state, Morse(), 1.0, temperature=0.0, time_constant=20.0)
    frozen = start(CRYSTAL.copies(1, T), CRYSTAL, T, frozen=torch.tensor([True, False, False, False]))
    with pytest.raises(InputError, match="moves every atom"):
        STEPS["mtk isotropic"](frozen, CRYSTAL, 1.0)
    assert float(temperature(state)) > 0
