"""Ring polymers in harmonic and Morse wells against their exact energies, through i-PI."""

from __future__ import annotations

import numpy as np
import pytest
from path_fields import Field, discretised_energy, morse_energy

from heliodor.analysis.statistics import mean_with_error
from heliodor.paths import PathResult, PathSettings, run_paths
from heliodor.paths.gle import drift, frequencies, friction
from heliodor.paths.quantum import beads_for, harmonic_energy
from heliodor.paths.summary import summary
from heliodor.units import BOLTZMANN

MASS = 1.008
WARM = 300.0


def total(result: PathResult, start: float) -> tuple[float, float]:
    """Mean quantum energy of an atom (potential and centroid-virial kinetic), and its error, after so many fs."""
    both = result.properties["potential"] + result.properties["kinetic_virial"]
    mean, error = mean_with_error(both[result.time > start])
    assert error is not None
    return mean / len(result.atoms), error / len(result.atoms)


def test_both_estimators_agree_at_a_long_time_step(tmp_path):
    field = Field(300, 40.0)
    settings = PathSettings(
        WARM, 8, "70 fs", timestep=0.6, stride=1, bead_stride=0, seed=3, fixed_center=False, friction_time=10.0
    )
    result = run_paths(field, field.atoms(), tmp_path / "run", settings)
    exact = 0.5 * 3.0 * harmonic_energy(field.wavenumber(MASS), WARM, 8)
    # OBABO, i-PI's default, is off by +3.7 % (virial) and -2.0 % (primitive); BAOAB by +0.7 % and -0.4 %, as can be
    # worked out by linear algebra
    for name, step_error in (("kinetic_virial", 0.0072), ("kinetic_primitive", -0.0038), ("potential", 0.0072)):
        mean, error = mean_with_error(result.properties[name][result.time > 15.0] / 300)
        assert error is not None
        assert error < 0.006 * exact, name
        assert abs(mean - exact) < 4.0 * error + 0.003 * exact + abs(step_error) * exact, name
    virial, primitive = (
        result.properties[n][result.time > 15.0].mean() for n in ("kinetic_virial", "kinetic_primitive")
    )
    assert virial / primitive == pytest.approx(1.011, abs=0.012)


def test_harmonic_energy_is_that_of_so_many_beads(tmp_path):
    field = Field(100, 12.0)
    settings = PathSettings(
        WARM, 6, "90 fs", timestep=0.6, thermostat="gle", stride=2, seed=5, fixed_center=False, friction_time=15.0
    )
    result = run_paths(field, field.atoms(), tmp_path / "run", settings)
    found, error = total(result, 40.0)
    wave = field.wavenumber(MASS)
    exact = 3.0 * harmonic_energy(wave, WARM, 6)
    # the step's own error is (ω dt)²/8 of the energy: below 0.3 % here
    assert abs(found - exact) < 4.0 * error + 0.003 * exact
    assert error < 0.03 * exact
    # far from the classical value, and not yet the quantum one
    assert exact > 2.0 * 3.0 * BOLTZMANN * WARM
    assert harmonic_energy(wave, WARM) * 3.0 > 1.02 * exact
    # i-PI's own sum of the estimator is that of ours by atoms
    np.testing.assert_allclose(result.kinetic_atoms.sum(1), result.properties["kinetic_virial"], rtol=1e-6)
    temperature, spread = mean_with_error(result.properties["temperature"][result.time > 40.0])
    assert abs(temperature - WARM) < 4.0 * (spread or 0.0) + 0.01 * WARM


def test_morse_energy(tmp_path):
    depth, width, beads, warm = 4.8, 2.2, 8, 600.0
    field = Field(100, 12.0, depth, width)
    settings = PathSettings(
        warm, beads, "85 fs", timestep=0.3, stride=2, seed=2, fixed_center=False, friction_time=15.0
    )
    result = run_paths(field, field.atoms(), tmp_path / "run", settings)
    found, error = total(result, 40.0)
    grid = np.linspace(-0.6, 1.4, 500)
    well = lambda x: depth * (1.0 - np.exp(-width * x)) ** 2  # noqa: E731
    along = discretised_energy(well, MASS, warm, beads, grid)
    exact = along + 2.0 * harmonic_energy(field.wavenumber(MASS), warm, beads)
    assert abs(found - exact) < 4.0 * error + 0.003 * exact
    assert error < 0.03 * exact
    # the reference itself: many beads are the exact levels, which the eight here are near but not at
    assert discretised_energy(well, MASS, warm, 96, grid) == pytest.approx(morse_energy(4.8, 2.2, MASS, warm), rel=2e-3)
    assert 0.85 < along / morse_energy(4.8, 2.2, MASS, warm) < 0.95


def test_one_bead_is_classical(tmp_path):
    field = Field(400, 12.0)
    settings = PathSettings(WARM, 1, "140 fs", timestep=0.7, stride=3, fixed_center=False, friction_time=15.0, seed=9)
    result = run_paths(field, field.atoms(), tmp_path / "run", settings)
    warm, error = mean_with_error(result.properties["temperature"][result.time > 40.0])
    assert error is not None
    assert abs(warm - WARM) < 4.0 * error
    assert error < 0.02 * WARM
    np.testing.assert_allclose(result.kinetic_atoms, 1.5 * BOLTZMANN * WARM, rtol=1e-9)
    found, spread = mean_with_error(result.properties["potential"][result.time > 40.0])
    assert abs(found / 400 - 1.5 * BOLTZMANN * WARM) < 4.0 * (spread or 0.0) / 400
    numbers = {number.name: number for number in summary(result)}
    assert numbers["kinetic energy of H"].value == pytest.approx(1.5e3 * BOLTZMANN * WARM)
    assert abs(numbers["drift of the conserved quantity"].value) < 20.0


@pytest.mark.parametrize("wave", [300.0, 3700.0])
def test_many_beads_reach_the_quantum_energy(wave):
    assert harmonic_energy(wave, WARM, 1) == pytest.approx(BOLTZMANN * WARM)
    assert harmonic_energy(wave, WARM, 4096) == pytest.approx(harmonic_energy(wave, WARM), rel=1e-5)
    needed = beads_for(wave, WARM, 0.95)
    assert harmonic_energy(wave, WARM, needed) >= 0.95 * harmonic_energy(wave, WARM)
    assert harmonic_energy(wave, WARM, needed - 1) < 0.95 * harmonic_energy(wave, WARM)


def test_harmonic_beads_by_density_matrix():
    grid = np.linspace(-1.0, 1.0, 400)
    field = Field(1, 30.0)
    found = discretised_energy(lambda x: 15.0 * x**2, MASS, WARM, 6, grid)
    assert found == pytest.approx(harmonic_energy(field.wavenumber(MASS), WARM, 6), rel=1e-6)


def test_coloured_noise_damps_every_mode_critically():
    matrix = drift(WARM, 32, 100.0)
    omega = np.geomspace(1.0 / 100.0, frequencies(WARM, 32, 100.0)[-1] / 3.0, 60)
    np.testing.assert_allclose(friction(matrix, omega), 1.0 / 100.0 + 2.0 * omega, rtol=0.25)
    assert np.linalg.eigvalsh(matrix + matrix.T).min() > 0.0
