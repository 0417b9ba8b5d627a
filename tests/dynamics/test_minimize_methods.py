"""Methods against each other and against ASE; frozen atoms; potentials that fail or lie."""

from pathlib import Path

import ase.io
import pytest
import torch
from ase.constraints import FixAtoms
from ase.optimize import BFGS, LBFGS
from toys import LennardJones, Morse, Poisoned, Toy, Wells, cluster

import heliodor
from heliodor.dynamics import minimize
from heliodor.dynamics.relax.minimize import METHODS
from heliodor.engines.ase import Calculator
from heliodor.errors import InputError, SimulationError
from heliodor.system import System

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def mini():
    return heliodor.load("heliodor-mini", device="cpu", dtype="float64")


@pytest.fixture
def paracetamol():
    return ase.io.read(EXAMPLES / "paracetamol.xyz")


def test_lbfgs_needs_fewer_evaluations(mini, paracetamol):
    # from close to a minimum, so that both go to the same
    near = minimize(System.from_atoms(paracetamol), mini, method="lbfgs", fmax=2e-3)
    assert near.converged.all()
    atoms = near.system.to_atoms()[0]
    atoms.rattle(0.05, seed=0)
    start = System.from_atoms(atoms)
    fire, lbfgs = (minimize(start, mini, method=method, fmax=3e-3, max_steps=2000) for method in ("fire", "lbfgs"))
    assert fire.converged.all() and lbfgs.converged.all()
    assert lbfgs.steps < 0.6 * fire.steps
    assert float(lbfgs.energy[0]) == pytest.approx(float(fire.energy[0]), abs=2e-3)


@pytest.mark.parametrize("optimizer", [BFGS, LBFGS])
def test_the_minimum_of_ase(mini, paracetamol, optimizer):
    result = minimize(System.from_atoms(paracetamol), mini, fmax=1e-3)
    assert result.converged.all()
    paracetamol.calc = Calculator(mini)
    assert optimizer(paracetamol, logfile=None).run(fmax=1e-3, steps=500)
    assert float(result.energy[0]) == pytest.approx(paracetamol.get_potential_energy(), abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_float32_model_converges_tightly(method):
    model = heliodor.load("heliodor-mini", device="cpu", dtype="float32")
    water = ase.build.molecule("H2O")
    water.rattle(0.1, seed=1)
    result = minimize(System.from_atoms(water), model, method=method, fmax=1e-4)
    assert result.converged.all()
    assert (result.energy <= result.energies.amin(0) + 1e-4).all()


def test_lbfgs_on_a_parabola_needs_a_handful():
    centers = torch.tensor([[0.0, 0, 0], [2.0, 0, 0], [0, 2.0, 0]])
    start = System.from_atoms(ase.Atoms("Ar3", centers.numpy() + 0.3))
    result = minimize(start, Wells(centers), method="lbfgs", fmax=1e-6, max_displacement=1.0)
    assert result.converged.all()
    assert result.steps <= 5
    torch.testing.assert_close(result.system.positions, centers.double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_frozen_atoms_stay_and_do_not_count(method):
    whole = minimize(System.from_atoms(cluster(8, 3.6, "Ar")), LennardJones(), fmax=1e-5)
    atoms = whole.system.to_atoms()[0]
    atoms.rattle(0.03, seed=2)
    mask = torch.arange(8) < 3
    result = minimize(System.from_atoms(atoms), LennardJones(), method=method, fmax=1e-5, frozen=mask)
    assert result.converged.all()
    assert torch.equal(result.system.positions[:3], torch.as_tensor(atoms.positions[:3]))
    force = result.forces.norm(dim=-1)
    assert float(force[mask].max()) > 1e-3
    assert float(result.fmax[0]) == float(force[~mask].max())
    atoms.set_constraint(FixAtoms(mask=mask.numpy()))
    atoms.calc = Calculator(LennardJones())
    assert BFGS(atoms, logfile=None).run(fmax=1e-5, steps=500)
    assert float(result.energy[0]) == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
    held = minimize(System.from_atoms(atoms), LennardJones(), method=method, frozen=mask | True)
    assert held.converged.all() and held.steps == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_stops_giving_numbers(method):
    start = System.from_atoms(cluster(8, 2.4))
    with pytest.raises(SimulationError, match="not finite"):
        minimize(start, Poisoned(0), method=method)
    result = minimize(start, Poisoned(6), method=method, fmax=1e-6, max_steps=60)
    assert not result.converged.any()
    assert result.system.positions.isfinite().all()
    assert float(result.energy[0]) == float(result.energies[:6].min())
    again = heliodor.potential.evaluate_system(Morse(), result.system)
    torch.testing.assert_close(again.energy, result.energy)
    torch.testing.assert_close(again.forces, result.forces)


class Liar(Toy):
    """Forces that point uphill."""

    def pair(self, d, system, edges):
        true = 0.5 * (d - 2.0).square()
        return 2.0 * true.detach() - true


def test_lbfgs_gives_up_where_forces_and_energies_disagree():
    start = System.from_atoms(cluster(4, 2.5))
    result = minimize(start, Liar(), method="lbfgs", max_steps=1000)
    assert not result.converged.any()
    assert "disagree" in result.reason[0]
    assert result.steps < 1000
    assert float(result.energy[0]) <= float(result.energies[0, 0]) + 1e-5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spacing", [0.8, 1.0])
def test_atoms_almost_on_each_other_come_apart(method, spacing):
    result = minimize(System.from_atoms(cluster(8, spacing)), Morse(), method=method, fmax=1e-3, max_steps=2000)
    assert result.converged.all()
    # at least one of the minima of 8 Morse atoms, each bond being worth 0.4 eV
    assert float(result.energy[0]) < -15 * 0.4


def test_what_is_refused():
    start = System.from_atoms(cluster(4))
    for options, message in (
        ({"method": "newton"}, "method must be one of lbfgs, fire"),
        ({"fmax": 0.0}, "fmax must be a positive number"),
        ({"fmax": float("nan")}, "fmax must be a positive number"),
        ({"max_displacement": -1.0}, "max_displacement must be a positive number"),
        ({"smax": 0.0}, "smax must be a positive number"),
        ({"frozen": torch.tensor([True])}, "each of 4 atoms"),
    ):
        with pytest.raises(InputError, match=message):
            minimize(start, Morse(), **options)
