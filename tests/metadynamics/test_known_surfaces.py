"""Metadynamics on energies whose free energies are known: one and two variables, distances and torsions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metad_toys import Chain, DoubleWells, Nothing, exact, pairs, zigzag

from heliodor.metadynamics import Result, Settings, Variable, distance, metadynamics, torsion
from heliodor.metadynamics.grids import between
from heliodor.metadynamics.samples import METHODS, Samples
from heliodor.metadynamics.surface import Surface, free_energy_basins, free_energy_surface
from heliodor.metadynamics.walker import Walker
from heliodor.units import BOLTZMANN, KJ_PER_MOL

pytest.importorskip("openmm")

KT = BOLTZMANN * 300.0
RARELY: dict[str, Any] = {"save_every": "50 ps", "checkpoint_every": "100 ps"}


def chi2(surface: Surface, known: np.ndarray, below: float) -> float:
    """Mean squared deviation in standard errors over bins that are low enough; only differences of F mean anything."""
    low = (known < below) & np.isfinite(surface.error)
    assert low.sum() > 8
    apart, weight = (surface.reweighted - known)[low], surface.error[low] ** -2.0
    return float((((apart - (apart * weight).sum() / weight.sum()) ** 2) * weight).mean())


def spread(found: np.ndarray, known: np.ndarray, below: float) -> float:
    """Standard deviation of the difference, in kT."""
    return float(np.std((found - known)[known < below])) / KT


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def of(known: DoubleWells | Chain, variables: list[Variable], settings: Settings) -> Result:
        monkeypatch.setattr("heliodor.metadynamics.walker.openmm_force", lambda *a, **k: known.force())
        atoms = pairs(len(known.wells)) if isinstance(known, DoubleWells) else zigzag(len(known.cosines) + 3)
        return metadynamics(Nothing(), atoms, variables, settings, output=tmp_path / "metad.h5")

    return of


def test_double_well_with_known_barrier(run: Callable[..., Result]) -> None:
    known = DoubleWells((0.2, 0.04))
    settings = Settings(
        time="480 ps", timestep=6.0, friction=10.0, stride=162.0, height=0.006, bias_factor=8.0, **RARELY
    )
    result = run(known, [distance((0, 1), 1.7, 3.35)], settings)
    surface, basins = result.surface, result.basins
    assert surface is not None and basins is not None
    truth = exact(known, KT, surface.centers)
    # the barrier of 0.2 eV is 7.8 kT, and seen
    assert 0.18 < truth[(surface.centers[0] > 2.3) & (surface.centers[0] < 2.7)].max() < 0.25
    assert chi2(surface, truth, 0.25) < 2.5
    assert spread(surface.reweighted, truth, 0.25) < 0.4
    assert spread(surface.from_bias, truth, 0.25) < 0.5
    # the basins' difference, by integrating the exact surface on both sides of the barrier
    fine = np.linspace(1.7, 3.35, 2001)
    profile = known.profile(0, fine, KT)
    ridge = fine[np.argmax(np.where(abs(fine - 2.5) < 0.3, profile, -np.inf))]
    weight = np.exp(-profile / KT)
    expected = -KT * np.log(weight[fine > ridge].sum() / weight[fine < ridge].sum())
    assert len(basins) == 2
    assert basins.places[:, 0] == pytest.approx([2.03, 2.99], abs=0.08)
    assert basins.error[1] < 0.5 * KT
    assert abs(basins.difference[1] - expected) < 3.0 * basins.error[1]
    assert abs(basins.from_bias[1] - expected) < 0.6 * KT
    assert basins.population.sum() == pytest.approx(1.0)
    assert basins.against_time.shape == (50, 2)
    assert basins.against_time[-1] == pytest.approx(basins.from_bias)
    # both ways of reweighting; without weights it is another surface
    for method in METHODS:
        assert spread(free_energy_surface(result.samples, method=method).reweighted, truth, 0.2) < 0.4
    # blocks of time do not know the error of the final bias, which all of them share: none is stated. The scatter of
    # 60 runs of this kind was 0.22 kT
    other = free_energy_basins(result.samples, method="final-bias")
    assert abs(other.difference[1] - expected) < 3.0 * 0.22 * KT
    assert np.isnan([*other.error, *other.population_error]).all()
    assert np.isnan(free_energy_surface(result.samples, method="final-bias").error).all()
    # beyond the walls are the springs' samples
    values = result.samples.values[:, 0]
    beyond = (values < 1.7) | (values > 3.35)
    assert 0 < beyond.sum() < 0.2 * len(values)
    np.testing.assert_array_equal(np.isinf(result.samples.log_weights(skip=0.0)), beyond)
    flat = np.histogram(result.samples.values[:, 0], result.samples.variables[0].edges)[0]
    assert spread(-KT * np.log(np.maximum(flat, 1.0)), truth, 0.25) > 1.0
    # fewer, longer blocks tell of about the same error: they are longer than the crossings take
    wide = free_energy_basins(result.samples, blocks=5)
    assert 0.3 < wide.error[1] / basins.error[1] < 3.0


def test_two_distances_each_with_its_own_wells(run: Callable[..., Result]) -> None:
    known = DoubleWells((0.06, 0.05), (0.12, -0.02))
    settings = Settings(
        time="240 ps",
        timestep=6.0,
        friction=10.0,
        stride=120.0,
        height=0.008,
        bias_factor=6.0,
        seed=1,
        **RARELY,
    )
    variables = [distance((0, 1), 1.7, 3.35, width=0.16), distance((2, 3), 1.65, 3.35, width=0.2)]
    surface = run(known, variables, settings).surface
    assert surface is not None
    truth = exact(known, KT, surface.centers)
    assert surface.reweighted.shape == truth.shape == (21, 17)
    assert chi2(surface, truth, 3.0 * KT) < 2.5
    # not with the axes exchanged
    swapped = DoubleWells(*reversed(known.wells))
    for found in (surface.reweighted, surface.from_bias):
        below = np.where(np.isfinite(found), truth, np.inf)
        assert spread(found, below, 4.0 * KT) < 0.6
        assert spread(found, np.where(below < np.inf, exact(swapped, KT, surface.centers), np.inf), 4.0 * KT) > 0.8


def test_one_periodic_torsion(run: Callable[..., Result]) -> None:
    known = Chain((0.2, 2, 20.0))
    settings = Settings(
        time="200 ps", timestep=2.0, friction=8.0, stride=100.0, height=0.01, bias_factor=8.0, seed=2, **RARELY
    )
    result = run(known, [torsion((0, 1, 2, 3))], settings)
    surface = result.surface
    assert surface is not None
    truth = exact(known, KT, surface.centers)
    assert len(truth) == 36
    assert chi2(surface, truth, 0.25) < 2.5
    assert spread(surface.from_bias, truth, 0.25) < 0.5
    assert spread(surface.reweighted, truth, 0.25) < 0.4
    # 180 and -180 are one point
    bias = result.samples.final_bias()
    assert bias[0] == pytest.approx(bias[-1], rel=1e-12)


def test_two_torsions(run: Callable[..., Result]) -> None:
    known = Chain((0.15, 2, 0.0), (0.15, 1, 60.0))
    settings = Settings(
        time="160 ps", timestep=2.0, friction=8.0, stride=200.0, height=0.03, bias_factor=6.0, seed=3, **RARELY
    )
    variables = [torsion((0, 1, 2, 3), width=30.0), torsion((1, 2, 3, 4), width=30.0)]
    surface = run(known, variables, settings).surface
    assert surface is not None
    truth = exact(known, KT, surface.centers)
    assert chi2(surface, truth, 4.0 * KT) < 2.5
    assert spread(surface.from_bias, truth, 5.0 * KT) < 0.8 < spread(surface.from_bias.T, truth, 5.0 * KT)


def test_our_sum_of_gaussians_is_openmms_bias_with_the_axes_the_right_way(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Chain((0.1, 1, 30.0), (0.2, 3, 0.0))
    monkeypatch.setattr("heliodor.metadynamics.walker.openmm_force", lambda *a, **k: known.force())
    settings = Settings(time="1 ps", timestep=2.0, stride=40.0, height=0.02, bias_factor=4.0)
    variables = (torsion((0, 1, 2, 3), width=25.0), torsion((1, 2, 3, 4), width=40.0))
    walker = Walker(Nothing(), zigzag(5), variables, settings)
    rows = [walker.advance() for _ in range(30)]
    values, bias, heights = (np.array([row[k] for row in rows]) for k in range(3))
    samples = Samples(variables, settings, 20 * np.arange(1, 31), values, bias, heights)
    ours = samples.final_bias()
    assert ours.shape == (73, 46)
    # OpenMM has the last variable first
    np.testing.assert_allclose(ours, walker.bias.T * KJ_PER_MOL, atol=2e-7)
    # what was felt at each sample is the table of the Gaussians before, but for splines
    assert bias[0] == 0.0 and bias[-1] > 0.02
    for k in (1, 10, 29):
        felt = between(variables, samples.final_bias(k), values[k : k + 1])
        assert felt[0] == pytest.approx(bias[k], abs=2e-5)
    np.testing.assert_allclose(heights, 0.02 * np.exp(-bias / (3.0 * settings.kt)), rtol=1e-12)
    # one Gaussian written down by hand, at grid points either side of ±180°
    one = samples.final_bias(1)
    for i, j in ((0, 0), (20, 30), (70, 3)):
        apart = np.array([variables[0].grid[i], variables[1].grid[j]]) - values[0]
        apart = (apart + 180.0) % 360.0 - 180.0
        assert one[i, j] == pytest.approx(0.02 * np.exp(-0.5 * ((apart / [25.0, 40.0]) ** 2).sum()), rel=1e-9)


def test_openmms_variables_and_walls_are_ours() -> None:
    """Signs and units: OpenMM's values are ASE's, its walls k/2 x²."""
    atoms = zigzag(5)
    variables = (torsion((0, 1, 2, 3)), torsion((1, 2, 3, 4)))
    walker = Walker(Nothing(), atoms, variables, Settings())
    assert walker.values() == pytest.approx([v.measure(atoms) for v in variables], abs=1e-9)
    assert min(abs(walker.values())) > 10.0
    both = (distance((0, 3), 1.0, 8.0), distance((1, 4), 1.0, 3.0))
    walker = Walker(Nothing(), atoms, both, Settings())
    assert walker.values() == pytest.approx([v.measure(atoms) for v in both], abs=1e-9)
    beyond = both[1].measure(atoms) - 3.0
    assert beyond > 0.5
    assert walker.energy({1}) == pytest.approx(0.5 * 20.0 * beyond**2, rel=1e-6)
    # the grid of the bias reaches over the walls
    assert both[0].grid[0] == pytest.approx(0.7) and both[0].grid[-1] == pytest.approx(8.3)
