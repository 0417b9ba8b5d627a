"""Cells relax to the lattice constants of scans and of ASE's filters, under pressure too, and never turn."""

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from scipy.optimize import minimize_scalar
from toys import LennardJones

from heliodor.dynamics import minimize
from heliodor.dynamics.relax.landscape import landscape, look
from heliodor.dynamics.relax.minimize import METHODS
from heliodor.dynamics.steps.coupling import COUPLINGS, project
from heliodor.engines.ase import Calculator
from heliodor.errors import InputError
from heliodor.potential import evaluate_system
from heliodor.system import System
from heliodor.units import BAR, GPA

TIGHT = {"fmax": 1e-4, "smax": 1e-4, "max_steps": 2000}


def pair_energy(d):
    """The toy's formula, written a second time."""
    epsilon, sigma, cutoff = 0.0104, 3.4, 7.5

    def well(r):
        return 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6)

    slope = 4 * epsilon * (-12 * (sigma / cutoff) ** 12 + 6 * (sigma / cutoff) ** 6) / cutoff
    return np.where(d < cutoff, well(d) - well(cutoff) - slope * (d - cutoff), 0.0)


def lattice_sum(vectors):
    """Energy of an atom of the Bravais lattice with these vectors."""
    axes = [np.arange(-6, 7)] * len(vectors)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(vectors)) @ vectors
    d = np.linalg.norm(points, axis=1)
    return 0.5 * pair_energy(d[d > 0]).sum()


def best_fcc(pressure):
    """Lattice constant and enthalpy per atom of the fcc crystal under a pressure in bar, by a scan."""
    primitive = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2

    def enthalpy(a):
        return lattice_sum(a * primitive) + pressure * BAR * a**3 / 4

    scan = np.linspace(4.6, 5.8, 61)
    a = scan[np.argmin([enthalpy(x) for x in scan])]
    found = minimize_scalar(enthalpy, bounds=(a - 0.03, a + 0.03), method="bounded", options={"xatol": 1e-7})
    return found.x, found.fun


def strained(size=0.04, seed=0, rattle=0.05, shear=True, a=5.0):
    """Four argon atoms in a cubic cell, pulled out of shape."""
    atoms = bulk("Ar", "fcc", a=a, cubic=True)
    strain = np.random.default_rng(seed).normal(0, size, (3, 3))
    strain = 0.5 * (strain + strain.T) if shear else np.diag(np.diag(strain))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.rattle(rattle, seed=seed)
    return atoms


@pytest.mark.parametrize("pressure", [0.0, 1e4])
@pytest.mark.parametrize("method", METHODS)
def test_a_strained_and_sheared_crystal_finds_its_lattice_constant(method, pressure):
    a, enthalpy = best_fcc(pressure)
    start = System.from_atoms(strained())
    result = minimize(start, LennardJones(), method=method, cell="triclinic", pressure=pressure, **TIGHT)
    assert result.converged.all()
    assert result.fmax[0] <= 1e-4
    assert result.stress_deviation[0] <= 1e-4
    torch.testing.assert_close(result.system.cell[0], a * torch.eye(3, dtype=torch.float64), atol=1e-3, rtol=0)
    assert float(result.enthalpy[0]) / 4 == pytest.approx(enthalpy, abs=1e-6)
    assert float(result.enthalpy[0] - result.energy[0]) == pytest.approx(
        pressure * BAR * float(result.system.volume[0])
    )
    # GPa into bar
    assert float(result.pressure[0]) == pytest.approx(pressure, abs=1.0)
    assert result.enthalpy[0] < result.enthalpies[0, 0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [0, 1, 2, 5, 20])
def test_the_enthalpy_never_rises_above_the_start(steps, method):
    starts = System.from_atoms([strained(seed=1), strained(seed=2, a=5.6), strained(seed=3, a=4.8)])
    result = minimize(starts, LennardJones(), method=method, cell="triclinic", pressure=5e3, max_steps=steps)
    assert (result.enthalpy <= result.enthalpies[0] + 1e-6).all()
    torch.testing.assert_close(result.enthalpy, result.enthalpies.amin(0), atol=2e-6, rtol=0)


def test_couplings_leave_the_rest_of_the_cell_alone():
    start = System.from_atoms(strained(shear=False, rattle=0.0))
    before = start.cell[0].diagonal()
    for coupling in COUPLINGS:
        result = minimize(start, LennardJones(), cell=coupling, **TIGHT)
        assert result.converged.all()
        after = result.system.cell[0]
        factors = after.diagonal() / before
        if coupling != "triclinic":
            torch.testing.assert_close(after, after.diagonal().diag(), atol=1e-12, rtol=0)
        if coupling in ("isotropic", "semi-isotropic", "in-plane"):
            assert float(factors[0]) == pytest.approx(float(factors[1]), abs=1e-12)
            assert float(factors[0]) != pytest.approx(1.0, abs=1e-3)
        if coupling == "isotropic":
            assert float(factors[2]) == pytest.approx(float(factors[0]), abs=1e-12)
        if coupling == "in-plane":
            assert float(factors[2]) == 1.0


def test_semi_isotropic_keeps_a_square_square():
    atoms = strained(shear=False)
    atoms.set_cell([5.0, 5.0, 5.6], scale_atoms=True)
    result = minimize(System.from_atoms(atoms), LennardJones(), cell="semi-isotropic", **TIGHT)
    a, enthalpy = best_fcc(0.0)
    assert result.converged.all()
    lengths = result.system.cell[0].diagonal()
    assert lengths[0] == lengths[1]
    assert lengths.tolist() == pytest.approx([a] * 3, abs=2e-3)
    assert float(result.energy[0]) / 4 == pytest.approx(enthalpy, abs=1e-6)


def test_a_layer_that_is_open_along_z():
    found = minimize_scalar(lambda a: lattice_sum(a * np.eye(2)), bounds=(3.3, 4.2), method="bounded")
    layer = ase.Atoms("Ar", [[0.0, 0.0, 1.0]], cell=[3.6, 3.6, 0.0], pbc=[True, True, False])
    result = minimize(System.from_atoms(layer), LennardJones(), cell="in-plane", **TIGHT)
    assert result.converged.all()
    assert result.pressure is None
    assert float(result.system.cell[0, 0, 0]) == pytest.approx(found.x, abs=1e-3)
    assert result.system.cell[0, 2].tolist() == [0.0, 0.0, 0.0]
    assert float(result.energy[0]) == pytest.approx(found.fun, abs=1e-6)
    with pytest.raises(InputError, match="a slab has not"):
        minimize(System.from_atoms(layer), LennardJones(), cell="in-plane", pressure=1.0)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_the_reported_stress_is_the_slope_of_the_enthalpy(coupling):
    pressure, h, potential = 2e4, 1e-5, LennardJones()
    start = System.from_atoms(strained(seed=4, shear=False))
    result = minimize(start, potential, cell=coupling, pressure=pressure, max_steps=0)

    def enthalpy(strain):
        there = start.deform(strain)
        return float(evaluate_system(potential, there).energy[0] + pressure * BAR * there.volume[0])

    slopes = torch.zeros(1, 3, 3, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            strain = torch.zeros(1, 3, 3, dtype=torch.float64)
            strain[0, i, j] += 0.5 * h
            strain[0, j, i] += 0.5 * h
            slopes[0, i, j] = (enthalpy(strain) - enthalpy(-strain)) / (2 * h)
    expected = project(slopes, coupling).abs().max() / start.volume[0] / GPA
    assert float(result.stress_deviation[0]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_the_pull_is_the_slope_of_the_enthalpy_far_from_the_start(coupling):
    potential = LennardJones()
    start = System.from_atoms([strained(seed=5, shear=False), strained(seed=6, shear=False, a=5.5)])
    land, rows = landscape(start, coupling=coupling, pressure=1e4 * BAR)
    generator = torch.Generator().manual_seed(0)

    def somewhere(size):
        direction = size * torch.randn(rows.shape, generator=generator, dtype=torch.float64)
        strain = direction[-6:].view(2, 3, 3)
        direction[-6:] = project(strain + strain.mT, coupling).reshape(-1, 3)
        return direction

    rows = rows + somewhere(0.15)
    direction, h = somewhere(1.0), 1e-5
    lists = potential.neighbors(start, 1.0)
    here = look(land, rows, potential, lists)[0]
    up, down = (look(land, rows + s * h * direction, potential, lists)[0].enthalpy for s in (1, -1))
    slopes = torch.stack([(here.pull * direction)[land.owner == b].sum() for b in range(2)])
    torch.testing.assert_close(-(up - down) / (2 * h), slopes, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_its_structures_one_by_one(method):
    relaxed = minimize(System.from_atoms(strained()), LennardJones(), cell="triclinic", fmax=1e-5, smax=1e-5).system
    large = strained(0.02, seed=8) * (2, 1, 1)
    large.rattle(0.05, seed=8)
    frames = [strained(0.02, seed=7), relaxed.to_atoms()[0], large]
    options = {"method": method, "cell": "triclinic", "pressure": 0.0, "max_steps": 400}
    together = minimize(System.from_atoms(frames), LennardJones(), **options)
    assert together.converged.all()
    for b, frame in enumerate(frames):
        alone = minimize(System.from_atoms(frame), LennardJones(), **options)
        mine = together.system.batch == b
        torch.testing.assert_close(together.system.positions[mine], alone.system.positions, atol=1e-6, rtol=0)
        torch.testing.assert_close(together.system.cell[b], alone.system.cell[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(together.enthalpy[b], alone.enthalpy[0], atol=1e-9, rtol=0)
    # what is converged from the start is not touched
    assert torch.equal(together.system.positions[together.system.batch == 1], relaxed.positions)
    assert torch.equal(together.system.cell[1], relaxed.cell[0])


def test_the_minimum_of_ase():
    crystal = bulk("Ar", "fcc", a=5.2, cubic=True) * (2, 2, 1)
    del crystal[3]
    crystal.set_cell(crystal.cell.array @ (np.eye(3) + 0.03 * np.eye(3)[[1, 0, 2]]), scale_atoms=True)
    crystal.rattle(0.1, seed=0)
    pressure = 3e3
    result = minimize(System.from_atoms(crystal), LennardJones(), cell="triclinic", pressure=pressure, **TIGHT)
    assert result.converged.all()
    crystal.calc = Calculator(LennardJones())
    cell = FrechetCellFilter(crystal, scalar_pressure=pressure * BAR)
    assert BFGS(cell, logfile=None).run(fmax=1e-4, steps=500)
    enthalpy = crystal.get_potential_energy() + pressure * BAR * crystal.get_volume()
    assert float(result.enthalpy[0]) == pytest.approx(enthalpy, abs=1e-4)
    assert float(result.system.volume[0]) == pytest.approx(crystal.get_volume(), rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_that_runs_away_is_given_up_while_others_converge(method):
    frames = [strained(rattle=0.0), strained(rattle=0.0, a=9.0)]
    result = minimize(System.from_atoms(frames), LennardJones(), method=method, cell="isotropic", pressure=-500.0)
    assert result.converged.tolist() == [True, False]
    assert result.reason[0] == ""
    assert "runs away" in result.reason[1]
    assert result.system.positions.isfinite().all()
    assert float(result.system.volume[1] / 9.0**3) < 10.5
    assert result.enthalpy[1] < result.enthalpies[0, 1]


def test_what_a_cell_cannot_do():
    crystal, molecule = System.from_atoms(strained()), System.from_atoms(ase.Atoms("Ar2", [[0, 0, 0], [3, 0, 0]]))
    some = torch.tensor([True, False, False, False])
    with pytest.raises(InputError, match="release the atoms or keep the cell"):
        minimize(crystal, LennardJones(), cell="isotropic", frozen=some)
    with pytest.raises(InputError, match="pressure acts through the cell"):
        minimize(crystal, LennardJones(), pressure=1.0)
    with pytest.raises(InputError, match="a molecule has no cell"):
        minimize(molecule, LennardJones(), cell="isotropic")
    with pytest.raises(InputError, match="coupling must be one of"):
        minimize(crystal, LennardJones(), cell="round")
    with pytest.raises(InputError, match="finite"):
        minimize(crystal, LennardJones(), cell="isotropic", pressure=float("nan"))
