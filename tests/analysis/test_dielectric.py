"""Spectra of synthetic trajectories, whose lines and intensities are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import molecule
from ase.geometry import wrap_positions

import heliodor
from dielectric_model import polarizable_model
from heliodor.analysis.dielectric import (
    LIGHT,
    ResponseSeries,
    harmonic_intensities,
    infrared,
    plot_spectra,
    raman,
    response_series,
    stokes,
)
from heliodor.analysis.vibrations import vibrations
from heliodor.errors import InputError
from heliodor.response import response_derivatives
from heliodor.units import ACCELERATION, BOLTZMANN, HBAR, INFRARED, INVERSE_CM, POLARIZABILITY_VOLUME

TEMPERATURE = 300.0
MODES = {
    700.0: (np.array([0.5, 0.2, -0.1]), np.diag([0.3, 0.3, 0.3])),
    1800.0: (np.array([0.0, 0.05, 0.0]), np.array([[0.5, 0.2, 0.0], [0.2, -0.3, 0.1], [0.0, 0.1, -0.2]])),
    3600.0: (np.array([0.1, 0.3, 0.7]), np.array([[0.1, 0.2, 0.0], [0.2, 0.4, 0.1], [0.0, 0.1, 0.2]])),
}
"""∂μ/∂Q (e/√amu) and ∂α/∂Q (e²Å/eV/√amu) by wavenumber."""


def oscillators(steps: int, interval: float = 1.0, rotation: float = 0.0) -> ResponseSeries:
    """Harmonic modes with the mean energy of a classical oscillator in each, on top of a slowly turning dipole."""
    time = interval * np.arange(steps)
    rng = np.random.default_rng(5)
    turning = 2.0 * np.pi * LIGHT * 8.0 * time
    dipole = rotation * np.stack([np.cos(turning), np.sin(turning), np.zeros(steps)], axis=1)
    alpha = np.tile(np.diag([1.0, 2.0, 3.0]), (steps, 1, 1))
    for nu, (dmu, dalpha) in MODES.items():
        omega = 2.0 * np.pi * LIGHT * nu
        size = np.sqrt(2.0 * BOLTZMANN * TEMPERATURE * ACCELERATION) / omega
        q = size * np.cos(omega * time + rng.uniform(0.0, 2.0 * np.pi))
        dipole += q[:, None] * dmu
        alpha += q[:, None, None] * dalpha
    return ResponseSeries(time, dipole, alpha)


@pytest.mark.parametrize("rotation", [0.0, 3.0])
def test_lines_lie_where_they_should_and_have_the_intensity_of_harmonic_modes(rotation: float) -> None:
    series = oscillators(30_000, rotation=rotation)
    absorbed = infrared(series, TEMPERATURE)
    isotropic, anisotropic = raman(series, TEMPERATURE)
    assert absorbed.wavenumber[-1] == pytest.approx(0.5 / LIGHT)
    for nu, (dmu, dalpha) in MODES.items():
        near = np.abs(absorbed.wavenumber - nu) < 100.0
        peak = absorbed.wavenumber[near][absorbed.intensity[near].argmax()]
        assert peak == pytest.approx(nu, abs=absorbed.wavenumber[1])
        mean = np.trace(dalpha) / 3.0
        rest = dalpha - mean * np.eye(3)
        found = [item.area(nu - 100.0, nu + 100.0) for item in (absorbed, isotropic, anisotropic)]
        expected = [
            INFRARED * np.square(dmu).sum(),
            45.0 * (POLARIZABILITY_VOLUME * mean) ** 2,
            7.0 * 1.5 * POLARIZABILITY_VOLUME**2 * np.square(rest).sum(),
        ]
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_anisotropy_is_placzeks() -> None:
    # γ'² of 45 a'² + 7 γ'² written out
    a = MODES[1800.0][1]
    rest = a - np.trace(a) / 3.0 * np.eye(3)
    squares = (a[0, 0] - a[1, 1]) ** 2 + (a[1, 1] - a[2, 2]) ** 2 + (a[2, 2] - a[0, 0]) ** 2
    off = a[0, 1] ** 2 + a[1, 2] ** 2 + a[2, 0] ** 2
    assert 1.5 * np.square(rest).sum() == pytest.approx(0.5 * squares + 3.0 * off)


def test_the_resolution_is_the_width_of_a_line() -> None:
    for wanted in (5.0, 20.0):
        item = infrared(oscillators(20_000), TEMPERATURE, resolution=wanted)
        assert item.resolution == pytest.approx(wanted, rel=5e-3)
        near = np.abs(item.wavenumber - 3600.0) < 60.0
        nu, y = np.linspace(3540.0, 3660.0, 20_001), item.intensity[near]
        high = np.interp(nu, item.wavenumber[near], y) > 0.5 * y.max()
        assert np.ptp(nu[high]) == pytest.approx(wanted, rel=0.05)


def test_errors_come_from_blocks() -> None:
    rng = np.random.default_rng(1)
    noise = np.cumsum(rng.normal(size=(40_001, 3)), axis=0)
    item = infrared(ResponseSeries(np.arange(40_001.0), noise), TEMPERATURE, resolution=100.0)
    assert item.blocks == 83
    # white noise in dμ/dt: each block's power is spread exponentially, as wide as its mean for one component of three
    inner = slice(20, 400)
    flat = np.sinc(np.linspace(0.0, 0.5, len(item.wavenumber))) ** 2
    ratio = (flat * item.error)[inner].mean() / (flat * item.intensity)[inner].mean()
    assert ratio == pytest.approx(1.0 / np.sqrt(3.0 * 83.0), rel=0.15)
    alone = infrared(oscillators(2000), TEMPERATURE, resolution=30.0)
    assert alone.blocks == 1 and np.isnan(alone.error).all()


def test_stokes_lines_have_their_cross_section() -> None:
    # nitrogen's vibration: 45 a'² + 7 γ'² of some 23 Å⁴/amu give the measured 4.3e-35 m²/sr at 532 nm
    total = raman(oscillators(30_000), TEMPERATURE)[0]
    scattered = stokes(total, TEMPERATURE)
    activity, found = (item.area(3500.0, 3700.0) for item in (total, scattered))
    laser = 1e7 / 532.0
    planck, light, amu = 6.62607015e-34, 299792458.0, 1.66053906660e-27
    factor = (2 * np.pi) ** 4 / 45 * (100.0 * (laser - 3600.0)) ** 4 * planck / (8 * np.pi**2 * light * 360_000.0)
    assert found == pytest.approx(1e36 * factor * activity * 1e-40 / amu, rel=1e-3)
    nitrogen = 1e36 * (2 * np.pi) ** 4 / 45 * (100.0 * (laser - 2330.0)) ** 4
    nitrogen *= planck / (8 * np.pi**2 * light * 233_000.0) * 23.0 * 1e-40 / amu
    assert nitrogen == pytest.approx(43.0, rel=0.05)
    assert scattered.intensity[0] == 0.0 and (scattered.intensity >= 0.0).all()
    cold = stokes(total, 1.0).area(600.0, 800.0)
    warm = stokes(total, TEMPERATURE).area(600.0, 800.0)
    assert warm / cold == pytest.approx(1.0 / (1.0 - np.exp(-INVERSE_CM * 700.0 / (BOLTZMANN * 300.0))), rel=1e-3)


def test_light_is_that_of_the_units() -> None:
    assert pytest.approx(2.99792458e-5, rel=1e-12) == LIGHT
    assert 2.0 * np.pi * LIGHT * HBAR == pytest.approx(INVERSE_CM)


def test_what_cannot_be_a_spectrum_is_refused() -> None:
    series = oscillators(500)
    with pytest.raises(InputError, match=r"500 frames 1 fs apart are too few .*: ask for 96.3 cm⁻¹"):
        infrared(series, TEMPERATURE)
    with pytest.raises(InputError, match="temperature must be positive"):
        infrared(series, 0.0, resolution=100.0)
    with pytest.raises(InputError, match="resolution must be positive"):
        infrared(series, TEMPERATURE, resolution=0.0)
    with pytest.raises(InputError, match="coarser than frames"):
        infrared(series, TEMPERATURE, resolution=1e4)
    with pytest.raises(InputError, match="predicts dipoles only"):
        raman(ResponseSeries(series.time, series.dipole), TEMPERATURE)
    with pytest.raises(InputError, match="wavelength must be positive"):
        stokes(raman(series, TEMPERATURE, 200.0)[0], TEMPERATURE, laser=0.0)


@pytest.fixture(scope="module")
def mini() -> heliodor.Potential:
    return heliodor.load("heliodor-mini", device="cpu", dtype="float64")


def moving(frames: int, pbc: bool = False) -> list[ase.Atoms]:
    """Two methanols drifting apart and through the faces of a cell."""
    rng = np.random.default_rng(2)
    atoms = molecule("CH3OH") + molecule("CH3OH")
    # hydrogens lie outside the cell, the carbon that each molecule is put together around does not
    atoms.positions[:6] += (0.5, 0.3, 0.2)
    atoms.positions[6:] += (0.5, 4.0, 0.3)
    if pbc:
        atoms.cell, atoms.pbc = [8.5, 9.0, 8.0], True
    velocities = np.repeat([[0.9, 0.3, 0.2], [0.9, 0.35, 0.2]], 6, axis=0)
    made = []
    for k in range(frames):
        frame = atoms.copy()
        frame.positions += k * velocities + rng.normal(scale=0.01, size=velocities.shape)
        frame.info["time_fs"] = 100.0 + 2.0 * k
        made.append(frame)
    return made


def test_series_are_what_evaluate_says(mini: heliodor.Potential) -> None:
    frames, seen = moving(7), []
    series = response_series(mini, frames, batch_atoms=30, progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(series.dipole, heliodor.evaluate(mini, frames).dipole.numpy(), atol=1e-12)
    assert series.polarizability is None
    assert series.interval == 2.0 and series.time[0] == 100.0
    assert seen == [(2, 7), (4, 7), (6, 7), (7, 7)]


def test_paths_are_continued_across_the_faces_of_a_cell(mini: heliodor.Potential) -> None:
    frames = moving(30, pbc=True)
    wrapped = []
    for frame in frames:
        copy = frame.copy()
        copy.positions = wrap_positions(copy.positions, copy.cell, pbc=True)
        wrapped.append(copy)
    smooth, cut = response_series(mini, frames), response_series(mini, wrapped)
    np.testing.assert_allclose(cut.dipole, smooth.dipole, atol=1e-9)
    naive = heliodor.evaluate(mini, wrapped).dipole.numpy()
    assert np.abs(np.diff(smooth.dipole - naive, axis=0)).max() > 0.5


def test_frames_without_time_or_of_other_atoms_are_refused(mini: heliodor.Potential) -> None:
    frames = moving(4)
    with pytest.raises(InputError, match="at least two frames"):
        response_series(mini, frames[:1])
    with pytest.raises(InputError, match="not evenly spaced"):
        response_series(mini, [frames[0], frames[1], frames[3]])
    with pytest.raises(InputError, match="their atoms differ"):
        response_series(mini, [frames[0], molecule("H2O")])
    del frames[2].info["time_fs"]
    with pytest.raises(InputError, match="do not say their time"):
        response_series(mini, frames)
    assert response_series(mini, frames, interval=0.5).interval == 0.5
    with pytest.raises(InputError, match="interval between frames must be positive"):
        response_series(mini, frames, interval=-1.0)


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    series = oscillators(12_000)
    spectra = [infrared(series, TEMPERATURE), *raman(series, TEMPERATURE)]
    plot_spectra(spectra, tmp_path / "spectra.png", "three modes")
    assert (tmp_path / "spectra.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_trajectory_through_a_model_gives_its_harmonic_intensities(seed: int) -> None:
    # any orthonormal directions do for modes, and any wavenumbers; so small a motion that the model is linear in it
    rng, potential, temperature = np.random.default_rng(seed), polarizable_model(), 1e-3
    atoms = molecule("H2O")
    atoms.positions += (1.0, 2.0, 3.0)
    stiffness = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    modes = vibrations(stiffness @ np.diag(np.linspace(20.0, 60.0, 9)) @ stiffness.T, atoms)
    modes = replace(modes, frequencies=np.array([1100.0, 2300.0, 3700.0]))
    interval, steps = 1.5, 1300
    time, positions = interval * np.arange(steps), np.tile(atoms.positions, (steps, 1, 1))
    for nu, mode, mass in zip(modes.frequencies, modes.modes, modes.reduced_masses, strict=True):
        omega = 2.0 * np.pi * LIGHT * nu
        size = np.sqrt(2.0 * BOLTZMANN * temperature * ACCELERATION / mass) / omega
        positions += size * np.cos(omega * time + rng.uniform(0.0, 6.0))[:, None, None] * mode
    frames = [ase.Atoms(atoms.numbers, place) for place in positions]
    series = response_series(potential, frames, interval=interval)
    spectra = [infrared(series, temperature, 40.0), *raman(series, temperature, 40.0)]
    expected = harmonic_intensities(modes, response_derivatives(potential, atoms))
    for k, nu in enumerate(modes.frequencies):
        for item, of_mode in zip(spectra, expected, strict=True):
            assert item.area(nu - 100.0, nu + 100.0) == pytest.approx(of_mode[k], rel=5e-3, abs=1e-4 * of_mode.max())
