"""The ASE calculator inside ASE's own machinery."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.mep import NEB
from ase.optimize import BFGS, LBFGS
from ase.vibrations import Vibrations

import heliodor
from heliodor.errors import InputError, ModelError
from heliodor.potential import ModelWarning


@pytest.fixture
def calculator() -> heliodor.Calculator:
    # 6 Å instead of 12 keep the image sums of the small cell cheap
    return heliodor.Calculator("so3lr", device="cpu", dtype="float64", long_range_cutoff=6.0)


def ice(scale: float = 1.0) -> ase.Atoms:
    """Two waters in a small, skewed box: every atom sees several images of every other."""
    atoms = molecule("H2O") + molecule("H2O")
    atoms.positions[3:] += [0.3, 1.4, 2.6]
    atoms.set_cell(np.array([[4.4, 0, 0], [0.5, 4.7, 0], [0.2, -0.4, 5.1]]) * scale)
    atoms.pbc = True
    return atoms


def test_forces_and_stress_are_derivatives_of_the_energy(calculator: heliodor.Calculator) -> None:
    atoms = ice()
    atoms.calc = calculator
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=2e-6)
    np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-7)


def test_the_calculator_agrees_with_evaluate(calculator: heliodor.Calculator) -> None:
    atoms = ice()
    atoms.calc = calculator
    p = heliodor.evaluate(calculator.potential, atoms)
    assert atoms.get_potential_energy() == pytest.approx(float(p.energy[0]), abs=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), p.forces, atol=1e-12)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), p.stress[0], atol=1e-14)
    np.testing.assert_allclose(atoms.get_charges(), p.charges, atol=1e-14)
    assert sum(calculator.results["terms"].values()) == pytest.approx(atoms.get_potential_energy())


def test_one_calculator_serves_structures_of_any_size(calculator: heliodor.Calculator) -> None:
    energies = []
    for name in ("H2O", "CH4", "H2O", "CH3CH2OH"):
        atoms = molecule(name)
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
    assert energies[0] == energies[2]
    assert len(set(energies)) == 3


def test_lists_kept_by_the_skin_give_what_fresh_lists_give() -> None:
    kept = heliodor.Calculator("so3lr", dtype="float64", skin=0.6, long_range_cutoff=6.0)
    fresh = heliodor.Calculator(kept.potential, skin=0.0)
    atoms, rng, rebuilt, last = ice(), np.random.default_rng(1), 0, None
    for step in range(12):
        atoms.positions += rng.normal(scale=0.04, size=atoms.positions.shape)
        if step in (4, 9):
            atoms.set_cell(atoms.cell * 1.004, scale_atoms=True)
        found = [calc.get_forces(atoms.copy()) for calc in (kept, fresh)]
        np.testing.assert_allclose(found[0], found[1], atol=1e-11)
        rebuilt += kept._evaluator.lists_built != last
        last = kept._evaluator.lists_built
    assert 1 < rebuilt < 12


def test_charge_and_spin_invalidate_the_cache(calculator: heliodor.Calculator) -> None:
    atoms = molecule("NH3")
    atoms.calc = calculator
    neutral = atoms.get_potential_energy()
    atoms.info.update(charge=1, spin=1)
    assert abs(atoms.get_potential_energy() - neutral) > 1e-3
    atoms.info.update(charge=0, spin=0)
    assert atoms.get_potential_energy() == neutral
    atoms.info["charge"] = 1
    with pytest.raises(InputError, match="unpaired"):
        atoms.get_potential_energy()


def test_optimisers_cell_filters_and_vibrations(calculator: heliodor.Calculator, tmp_path: object) -> None:
    water = molecule("H2O")
    water.calc = calculator
    assert BFGS(water, logfile=None).run(fmax=1e-3, steps=60)
    vibrations = Vibrations(water, name=f"{tmp_path}/vib")
    vibrations.run()
    wavenumbers = np.sort(vibrations.get_frequencies().real)[-3:]
    # harmonic water: bend near 1600, stretches between 3600 and 4000 1/cm
    assert 1500 < wavenumbers[0] < 1750
    assert 3500 < wavenumbers[1] < wavenumbers[2] < 4100

    crystal = ice(1.05)
    crystal.calc = calculator
    energy, volume = crystal.get_potential_energy(), crystal.get_volume()
    LBFGS(FrechetCellFilter(crystal), logfile=None).run(fmax=0.1, steps=25)
    assert crystal.get_potential_energy() < energy - 0.1
    assert crystal.get_volume() < 0.97 * volume, "two waters in a loose box draw together"


def test_a_band_of_images_shares_one_calculator(calculator: heliodor.Calculator) -> None:
    first = molecule("NH3")
    last = first.copy()
    last.positions[1:, 2] = 2 * first.positions[0, 2] - first.positions[1:, 2]
    images = [first, *(first.copy() for _ in range(3)), last]
    band = NEB(images, allow_shared_calculator=True, method="improvedtangent")
    band.interpolate()
    for image in images:
        image.calc = calculator
    energies = [image.get_potential_energy() for image in images]
    assert energies[2] == max(energies)
    assert energies[0] == pytest.approx(energies[4], abs=1e-9)
    assert np.isfinite(band.get_forces()).all()


def test_what_the_model_cannot_do_is_refused_or_said(calculator: heliodor.Calculator) -> None:
    salt = ase.Atoms("NaCl", [(0, 0, 0), (2.4, 0, 0)], calculator=calculator)
    with pytest.raises(ModelError, match="Na"):
        salt.get_potential_energy()
    charged = ice()
    charged.info["charge"] = 2
    charged.calc = calculator
    with pytest.warns(ModelWarning, match="charged or open-shell periodic cell"):
        charged.get_potential_energy()
