"""Brownian motion of known diffusion, free flight, and MDAnalysis on the same paths."""

from __future__ import annotations

import warnings
from functools import partial

import ase
import numpy as np
import pytest

from heliodor.analysis.liquids import paths as paths_module
from heliodor.analysis.liquids.conditions import cubic
from heliodor.analysis.liquids.diffusion import (
    finite_size_correction,
    mean_square_displacement,
    self_diffusion,
)
from heliodor.analysis.liquids.diffusion_show import show
from heliodor.analysis.liquids.paths import Paths, follow
from heliodor.errors import InputError
from heliodor.trajectory import Trajectory
from heliodor.trajectory.parallel import over_blocks
from memory_trajectories import in_memory
from trajectories import waters

TRUE = 0.23
"""Å²/ps."""


def brownian(seed: int, molecules: int = 20, frames: int = 2000, interval: float = 50.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    steps = rng.normal(scale=np.sqrt(2.0 * TRUE * 1e-3 * interval), size=(frames, molecules, 3))
    return np.cumsum(steps, axis=0)


def as_paths(centres: np.ndarray, interval: float = 50.0) -> Paths:
    count = centres.shape[1]
    return Paths(interval, centres, np.arange(count), np.ones(count), None)


def argon(positions: np.ndarray, edge: float, wrapped: bool, **fields: object) -> Trajectory:
    atoms = ase.Atoms(f"Ar{positions.shape[1]}", cell=[edge] * 3, pbc=True)
    return in_memory(atoms, positions % edge if wrapped else positions, 50.0, **fields)


def test_brownian_motion_is_found_within_its_own_errors() -> None:
    found = [self_diffusion(as_paths(brownian(seed))) for seed in range(40)]
    deviations = np.array([(item.coefficient - TRUE) / item.error for item in found])
    assert abs(deviations.mean()) < 3.0 / np.sqrt(40)
    # of fifteen values Student's t; 40 squares scatter by a quarter about 7/6
    assert 0.6 < np.square(deviations).mean() < 2.0
    assert np.mean([item.coefficient for item in found]) == pytest.approx(TRUE, rel=0.02)
    exponents = np.array([item.exponent for item in found])
    assert exponents.mean() == pytest.approx(1.0, abs=3.0 * exponents.std() / np.sqrt(40))


def test_free_flight_grows_with_the_square_of_time() -> None:
    rng = np.random.default_rng(0)
    velocities = rng.normal(size=(7, 3))
    centres = 1e4 + velocities * 10.0 * np.arange(60)[:, None, None]
    found = self_diffusion(as_paths(centres, 10.0))
    np.testing.assert_allclose(found.msd, np.square(velocities).sum(1).mean() * found.lag**2, rtol=1e-9)
    assert found.exponent == pytest.approx(2.0)


def test_mdanalysis_finds_the_same() -> None:
    centres = brownian(3, molecules=5, frames=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mda = pytest.importorskip("MDAnalysis")
        from MDAnalysis.analysis.msd import EinsteinMSD

        universe = mda.Universe.empty(5, trajectory=True)
        universe.load_new(centres.astype(np.float32))
        other = EinsteinMSD(universe, fft=False).run().results.timeseries
    np.testing.assert_allclose(mean_square_displacement(centres, 300).sum(1), other, rtol=1e-4)


def test_each_lag_is_the_mean_over_all_origins() -> None:
    centres = brownian(4, molecules=3, frames=50)
    found = mean_square_displacement(centres, 50)
    for lag in (0, 1, 7, 49):
        moved = centres[lag:] - centres[: len(centres) - lag]
        np.testing.assert_allclose(found[lag], np.square(moved).mean((0, 1)), atol=1e-12)


@pytest.mark.parametrize("limit", [5000, 130])
def test_wrapped_paths_are_continued(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths_module, "FRAMES", limit)
    # blocks of seven frames
    monkeypatch.setattr(paths_module, "over_blocks", partial(over_blocks, memory=7 * 6 * 24))
    positions = 5.0 + brownian(5, molecules=6, frames=401)
    wrapped = follow(argon(positions, 6.0, True))
    # a file of heliodor's is taken as it is
    plain = follow(argon(positions, 6.0, False, settings={"model": "x"}))
    assert wrapped.interval == plain.interval == (50.0 if limit == 5000 else 200.0)
    np.testing.assert_allclose(wrapped.centres - wrapped.centres[0], plain.centres - plain.centres[0], atol=1e-9)
    assert np.ptp(plain.centres, axis=0).max() > 6.0


def test_molecules_in_pieces_are_followed_by_their_centres() -> None:
    rng = np.random.default_rng(6)
    box = waters(2, 3.2)
    moved = np.cumsum(np.repeat(rng.normal(scale=0.15, size=(200, 8, 3)), 3, axis=1), axis=0)
    whole = box.positions + moved
    bonds = in_memory(box, whole).topology.bonds
    masses = box.get_masses()
    wrapped = follow(in_memory(box, whole % 6.4, bonds=bonds), drift_removed=False)
    for k in range(8):
        here = slice(3 * k, 3 * k + 3)
        centre = np.einsum("a,tai->ti", masses[here], whole[:, here]) / masses[here].sum()
        np.testing.assert_allclose(wrapped.centres[:, k] - wrapped.centres[0, k], centre - centre[0], atol=1e-9)


def test_the_drift_of_the_whole_is_removed_or_not() -> None:
    positions = brownian(7, molecules=10, frames=200)
    wind = 0.002 * 50.0 * np.arange(200)[:, None, None] * np.array([1.0, 0.0, 0.0])
    at_rest, blown = (
        self_diffusion(follow(argon(x, 30.0, False, settings={"a": 1}))) for x in (positions, positions + wind)
    )
    np.testing.assert_allclose(at_rest.msd, blown.msd, atol=1e-9)
    with_wind = self_diffusion(follow(argon(positions + wind, 30.0, False, settings={"a": 1}), drift_removed=False))
    assert with_wind.msd[-1] > 2.0 * blown.msd[-1]


def test_thinned_molecules_keep_the_drift_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    positions = brownian(8, molecules=9, frames=100)
    every = follow(argon(positions, 30.0, False, settings={"a": 1}))
    monkeypatch.setattr(paths_module, "MOLECULES", 3)
    some = follow(argon(positions, 30.0, False, settings={"a": 1}))
    assert some.molecules.tolist() == [0, 4, 8]
    np.testing.assert_allclose(some.centres, every.centres[:, [0, 4, 8]])


def test_the_correction_for_the_cell() -> None:
    # in SI units: water at 298 K, a cell of 20 Å
    expected = 2.837297 * 1.380649e-23 * 298.15 / (6.0 * np.pi * 0.89e-3 * 20e-10)
    assert finite_size_correction(298.15, 0.89, 20.0) == pytest.approx(expected * 1e8, rel=1e-6)
    with pytest.raises(InputError, match="must be positive"):
        finite_size_correction(298.15, 0.0, 20.0)
    tilted = np.eye(3) * 10.0
    tilted[1, 0] = 3.0
    assert cubic(np.eye(3)[None] * 7.0)
    assert not cubic(tilted[None]) and not cubic(np.diag([10.0, 10.0, 11.0])[None])


def test_what_is_shown() -> None:
    rng = np.random.default_rng(9)
    box = waters(2, 3.2)
    moved = np.cumsum(np.repeat(rng.normal(scale=0.2, size=(300, 8, 3)), 3, axis=1), axis=0)
    settings = {"ensemble": "nvt", "temperature_K": "300", "model": "x"}
    shown = show(in_memory(box, box.positions + moved, 100.0, settings=settings))
    in_cell, corrected = shown.numbers[0], shown.numbers[2]
    edge = 6.4
    viscosity = 0.8538  # mPa s at 300 K, IAPWS
    assert corrected.value - in_cell.value == pytest.approx(finite_size_correction(300.0, viscosity, edge), rel=2e-3)
    assert corrected.reference == pytest.approx(0.24, abs=0.005) and in_cell.reference is None
    assert shown.numbers[3].value == pytest.approx(10.0 * corrected.value)
    assert "msd_H2O" in shown.tables
    assert any("begins before 1 ps" in note for note in shown.notes)
    flat = box.copy()
    flat.cell[2, 2] = 8.0
    uncorrected = show(in_memory(flat, box.positions + moved, 100.0, settings=settings))
    assert len(uncorrected.numbers) == 2
    assert any("the formula is for cubic ones" in note for note in uncorrected.notes)


def test_what_gives_no_diffusion_is_refused() -> None:
    paths = as_paths(brownian(1, 4, 100))
    with pytest.raises(InputError, match="fewer than 3 lags"):
        self_diffusion(paths, start=100.0, end=150.0)
    with pytest.raises(InputError, match="must begin before it ends"):
        self_diffusion(paths, start=200.0, end=150.0)
    with pytest.raises(InputError, match="cannot end beyond a fifth of the run, 950 fs"):
        self_diffusion(paths, end=1000.0)
    with pytest.raises(InputError, match="anything along time needs two"):
        follow(argon(brownian(1, 4, 1), 9.0, False))
