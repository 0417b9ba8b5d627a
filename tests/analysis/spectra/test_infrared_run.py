"""Infrared spectra from charges along a run."""

from __future__ import annotations

import ase
import numpy as np
import pytest

from heliodor.analysis.dielectric import ResponseSeries, infrared
from heliodor.analysis.spectra.infrared import infrared_spectrum, show
from heliodor.analysis.spectra.welch import LIGHT
from heliodor.errors import InputError
from heliodor.trajectory import Trajectory
from heliodor.units import ACCELERATION, BOLTZMANN, INFRARED
from memory_trajectories import in_memory
from trajectories import waters

TEMPERATURE = 300.0
SETTINGS = {"ensemble": "nvt", "temperature_K": "300"}


def diatomic(nu: float, flux: float, frames: int = 8000) -> Trajectory:
    """HCl that vibrates with an energy of k_BT, its charges ±0.2 e and ``flux`` e/Å along the bond."""
    pair = ase.Atoms("ClH", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.3]])
    heavy, light = pair.get_masses()
    omega = 2.0 * np.pi * LIGHT * nu
    stretch = np.sqrt(2.0 * BOLTZMANN * TEMPERATURE * ACCELERATION * (1 / heavy + 1 / light)) / omega
    stretch *= np.cos(2.0 * omega * np.arange(frames))
    positions = np.tile(pair.positions, (frames, 1, 1))
    positions[:, :, 2] += stretch[:, None] * np.array([-light, heavy]) / (heavy + light)
    charges = (0.2 + flux * stretch)[:, None] * np.array([-1.0, 1.0])
    return in_memory(pair, positions, 2.0, values={"charges": charges}, settings=SETTINGS)


@pytest.mark.parametrize("flux", [0.0, 0.3])
def test_a_harmonic_diatomic_absorbs_what_its_mode_does(flux: float) -> None:
    spectrum, _ = infrared_spectrum(diatomic(2500.0, flux))
    # dμ/dr = q + r dq/dr; dr/dQ = 1/√(reduced mass)
    slope = 0.2 + 1.3 * flux
    expected = INFRARED * slope**2 * (1.0 / 35.45 + 1.0 / 1.008)
    assert spectrum.area(2400.0, 2600.0) == pytest.approx(expected, rel=2e-3)
    assert spectrum.wavenumber[spectrum.intensity.argmax()] == pytest.approx(2500.0, abs=spectrum.wavenumber[1])


def test_it_is_that_of_the_same_series_elsewhere() -> None:
    rng = np.random.default_rng(1)
    water = waters(1, 8.0)
    water.pbc = False
    positions = water.positions + np.cumsum(rng.normal(scale=0.01, size=(1500, 3, 3)), axis=0)
    charges = np.array([-0.8, 0.4, 0.4]) + rng.normal(scale=0.01, size=(1500, 1)) * np.array([-2.0, 1.0, 1.0])
    bonds = np.array([[0, 1], [0, 2]])
    trajectory = in_memory(water, positions, 2.0, values={"charges": charges}, bonds=bonds)
    ours, _ = infrared_spectrum(trajectory, temperature=250.0, resolution=40.0)
    series = ResponseSeries(trajectory.time, np.einsum("ta,tai->ti", charges, positions))
    theirs = infrared(series, 250.0, 40.0)
    np.testing.assert_allclose(ours.intensity, theirs.intensity, rtol=1e-6)
    np.testing.assert_allclose(ours.error, theirs.error, rtol=1e-6)


def test_a_liquid_gives_the_same_whatever_images_are_written() -> None:
    rng = np.random.default_rng(2)
    box = waters(2, 3.2)
    wandering = np.cumsum(np.repeat(rng.normal(scale=0.05, size=(400, 8, 3)), 3, axis=1), axis=0)
    positions = box.positions + wandering + rng.normal(scale=0.02, size=(400, 24, 3))
    charges = np.tile([-0.8, 0.4, 0.4], 8) + rng.normal(scale=0.02, size=(400, 24))
    whole = in_memory(box, positions, 4.0, values={"charges": charges}, settings=SETTINGS)
    bonds = whole.topology.bonds
    wrapped = in_memory(box, positions % 6.4, 4.0, values={"charges": charges}, bonds=bonds, settings=SETTINGS)
    one, two = (infrared_spectrum(run, resolution=60.0)[0] for run in (whole, wrapped))
    np.testing.assert_allclose(one.intensity, two.intensity, rtol=1e-6)
    shown, each = show(whole, resolution=60.0), show(whole, resolution=60.0, per_molecule=True)
    assert shown.numbers[1].value == pytest.approx(8.0 * each.numbers[1].value)
    assert any("flows" in note for note in shown.notes)


def test_what_has_no_infrared_spectrum_is_refused() -> None:
    run = diatomic(2500.0, 0.0, 300)
    with pytest.raises(InputError, match="too few for a resolution"):
        infrared_spectrum(run, resolution=5.0)
    unknown = in_memory(run.atoms(), np.zeros((300, 2, 3)), values={"charges": np.zeros((300, 2))})
    with pytest.raises(InputError, match="temperature of the run is not known"):
        infrared_spectrum(unknown)
    with pytest.raises(InputError, match="temperature must be positive"):
        infrared_spectrum(run, temperature=-1.0)
