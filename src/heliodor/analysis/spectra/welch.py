"""Power spectra of series by blocks and Hann windows (Welch's method), in wavenumbers.

P. D. Welch, IEEE Trans. Audio Electroacoust. 15, 70 (1967). By the Wiener-Khinchin theorem the power of a series is the
Fourier transform of its autocorrelation function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError
from heliodor.units import ACCELERATION, BOLTZMANN, HBAR, INFRARED, INVERSE_CM

LIGHT = INVERSE_CM / (2.0 * math.pi * HBAR)
"""Speed of light in cm/fs (2.9979e-5): frequency of 1 cm⁻¹ in 1/fs."""

HANN_WIDTH = 1.44
"""Full width at half maximum of a line under the square of a Hann window's transform, in inverse lengths of it."""

PADDING = 4
"""Zeros are added to this times the length, so that a line has several points."""

LEAST = 8
"""Values in a block."""


@dataclass(frozen=True)
class Spectrum:
    """A spectrum on an even grid of wavenumbers from zero to the Nyquist limit.

    Attributes:
        wavenumber: cm⁻¹.
        intensity: by its `label`.
        error: standard error over the blocks, in the same unit; not a number with fewer than two blocks.
        label: what is drawn, with its unit.
        resolution: cm⁻¹; full width at half maximum of an infinitely sharp line (Hann window).
        blocks: how many were averaged.
    """

    wavenumber: Float[np.ndarray, "G"]
    intensity: Float[np.ndarray, "G"]
    error: Float[np.ndarray, "G"]
    label: str
    resolution: float
    blocks: int

    def area(self, low: float, high: float) -> float:
        """Integral of the intensity between two wavenumbers, cm⁻¹."""
        inside = (self.wavenumber >= low) & (self.wavenumber <= high)
        return float(self.intensity[inside].sum() * self.wavenumber[1])


def block_length(count: int, interval: float, resolution: float, *, differences: bool = False) -> int:
    """Values in a block, of ``count`` in a series ``interval`` fs apart, for a resolution in cm⁻¹.

    Args:
        differences: the values are of neighbouring frames, of which there is one more.

    Raises:
        InputError: no resolution, a series too short for it, or one that is coarser than a block can be.
    """
    if not 0.0 < resolution < math.inf:
        raise InputError(f"the resolution must be positive (cm⁻¹), not {resolution!r}")
    length = math.ceil(HANN_WIDTH / (LIGHT * resolution * interval))
    if length > count:
        best = reached(count, interval)
        # up, so that what is asked for can be had
        digit = 10.0 ** (math.floor(math.log10(best)) - 2)
        best = math.ceil(best / digit) * digit
        raise InputError(
            f"{count + differences} frames {interval:g} fs apart are too few for a resolution of {resolution:g} cm⁻¹: "
            f"ask for {best:.3g} cm⁻¹ or coarser, or simulate longer"
        )
    if length < LEAST:
        raise InputError(f"a resolution of {resolution:g} cm⁻¹ is coarser than frames every {interval:g} fs can show")
    return length


def reached(length: int, interval: float) -> float:
    """Resolution in cm⁻¹ of blocks of ``length`` values ``interval`` fs apart."""
    return HANN_WIDTH / (LIGHT * interval * length)


def grid(length: int, interval: float) -> Float[np.ndarray, "G"]:
    """Wavenumbers in cm⁻¹ of `windowed_power`, from zero to the Nyquist limit."""
    return np.linspace(0.0, 0.5 / (interval * LIGHT), PADDING * length // 2 + 1)


def integral(values: Float[np.ndarray, "*n G"], wavenumber: Float[np.ndarray, "G"]) -> Float[np.ndarray, "*n"]:
    """Over all wavenumbers, by trapezoids: exactly the mean square of the series for what `windowed_power` gives."""
    ends = 0.5 * (values[..., 0] + values[..., -1])
    return np.asarray((values.sum(-1) - ends) * wavenumber[1])


def windowed_power(blocks: Float[np.ndarray, "B L K"], interval: float) -> Float[np.ndarray, "B G K"]:
    """∫ <x(0) x(t)> exp(-iωt) dt of each of K series in each of B blocks, under a Hann window."""
    length = blocks.shape[1]
    window = np.hanning(length + 2)[1:-1]
    waves = np.fft.rfft(window[:, None] * blocks, n=PADDING * length, axis=1)
    power: np.ndarray = np.square(np.abs(waves)) * interval / np.square(window).sum()
    return power


def restored(points: int) -> Float[np.ndarray, "G"]:
    """What the power of differences of neighbours is to be multiplied with to be that of the derivative.

    The difference of a wave is known, so this is exact up to the Nyquist limit.
    """
    half = 0.5 * np.pi * np.linspace(0.0, 1.0, points)
    factors: np.ndarray = np.square(1.0 / np.sinc(half / np.pi))
    return factors


def rate_power(
    values: Float[np.ndarray, "T K"], interval: float, resolution: float
) -> tuple[Float[np.ndarray, "B G"], float]:
    """∫ <ẋ(0) ẋ(t)> exp(-iωt) dt of each block, summed over the K components, and the resolution that was reached.

    Differences of neighbours stand for the derivative, without error. Slow, large motion, such as a rotation, then
    does not leak through the window into faint lines.
    """
    rates = np.diff(values, axis=0) / interval
    length = block_length(len(rates), interval, resolution, differences=True)
    count = len(rates) // length
    power = windowed_power(rates[: count * length].reshape(count, length, -1), interval).sum(-1)
    return power * restored(power.shape[1]), reached(length, interval)


def per_wavenumber(temperature: float) -> float:
    """2c/k_BT in cm fs/(amu Å²): makes of the power of dx/dt of a mode in equilibrium its (dx/dQ)² per cm⁻¹.

    Raises:
        InputError: a temperature that is none.
    """
    check_temperature(temperature)
    return 2.0 * LIGHT / (BOLTZMANN * temperature * ACCELERATION)


def check_temperature(temperature: float) -> None:
    """Refuse what is no temperature in K."""
    if not 0.0 < temperature < math.inf:
        raise InputError(f"the temperature must be positive (K), not {temperature!r}")


def averaged(power: Float[np.ndarray, "B G"], interval: float, label: str, resolution: float) -> Spectrum:
    """Mean and standard error over blocks."""
    count = len(power)
    wavenumber = np.linspace(0.0, 0.5 / (interval * LIGHT), power.shape[1])
    error = power.std(0, ddof=1) / math.sqrt(count) if count > 1 else np.full(power.shape[1], np.nan)
    return Spectrum(wavenumber, power.mean(0), error, label, resolution, count)


def absorption(dipole: Float[np.ndarray, "T 3"], interval: float, temperature: float, resolution: float) -> Spectrum:
    """N_A ω² / (6 ε₀ c k_B T) ∫ <μ(0)·μ(t)> exp(-iωt) dt in km/mol per cm⁻¹: see `heliodor.analysis.dielectric`.

    Args:
        dipole: e·Å, evenly spaced in time.
        interval: fs.
        temperature: K.
        resolution: cm⁻¹.

    Raises:
        InputError: a temperature or resolution that is none; a series too short for the resolution.
    """
    power, width = rate_power(dipole, interval, resolution)
    factor = INFRARED * per_wavenumber(temperature)
    return averaged(factor * power, interval, "infrared absorption (km/mol per cm⁻¹)", width)
