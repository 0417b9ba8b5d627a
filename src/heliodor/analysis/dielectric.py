"""Infrared and Raman spectra from dipoles and polarizabilities along a trajectory.

Line shapes come from the classical autocorrelation functions of dμ/dt and dα/dt, by the Wiener-Khinchin theorem from
the power spectra of these series. Their heights are those of the harmonic quantum correction βħω/(1-exp(-βħω)): a
harmonic mode then absorbs and scatters exactly as much as a quantum oscillator, and the area under a line is what
`heliodor vib` gives for that mode. Anharmonic shifts are the classical ones. Ramírez, López-Ciudad, Kumar & Marx,
J. Chem. Phys. 121, 3973 (2004); Thomas, Brehm, Fligg, Vöhringer & Kirchner, Phys. Chem. Chem. Phys. 15, 6608 (2013).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
from jaxtyping import Float

from heliodor.analysis.spectra.welch import LIGHT as LIGHT
from heliodor.analysis.spectra.welch import (
    Spectrum,
    absorption,
    averaged,
    check_temperature,
    per_wavenumber,
    rate_power,
)
from heliodor.analysis.vibrations import Vibrations
from heliodor.errors import InputError
from heliodor.potential import Potential, check_distances, warn_about
from heliodor.response import ResponseDerivatives, evaluate_response
from heliodor.system import System
from heliodor.units import BOLTZMANN, INFRARED, INVERSE_CM, POLARIZABILITY_VOLUME

CROSS_SECTION = (2.0 * math.pi) ** 4 / 45.0 * 1e36 * 6.62607015e-34 / (8.0 * math.pi**2 * 299792458.0)
CROSS_SECTION *= 1e6 * 1e-40 / 1.66053906660e-27
"""1e-36 m²/sr for (ν₀-ν)⁴/ν in cm⁻³ times an activity in Å⁴/amu; h/(8π²cν) is <Q²> of a mode in its ground state."""

ISOTROPIC, ANISOTROPIC = 45.0, 10.5
"""Of 45 a'² + 7 γ'²; Placzek's γ'² is 3/2 of the squares of all nine elements without trace."""

Progress = Callable[[int, int], object]
"""Called with the number of frames done and of all frames."""


@dataclass(frozen=True)
class ResponseSeries:
    """Dipole and polarizability of one structure at T evenly spaced times.

    Attributes:
        time: fs.
        dipole: e·Å.
        polarizability: e²Å²/eV; None of models without.
    """

    time: Float[np.ndarray, "T"]
    dipole: Float[np.ndarray, "T 3"]
    polarizability: Float[np.ndarray, "T 3 3"] | None = None

    @property
    def interval(self) -> float:
        """fs between frames."""
        return float(self.time[1] - self.time[0])


def response_series(
    potential: Potential,
    frames: Sequence[ase.Atoms],
    *,
    interval: float | None = None,
    charge: float | None = None,
    spin: int | None = None,
    batch_atoms: int = 2000,
    progress: Progress | None = None,
) -> ResponseSeries:
    """Dipole and polarizability along a trajectory, by any model that has a dipole.

    Of fully periodic frames the molecules of the first one are made whole and the paths of all atoms continued across
    the faces of the cell: the dipole then has no jumps. No atom may go further than half a cell between two frames.

    Args:
        frames: of one structure, such as `heliodor.dynamics.read_trajectory` gives them.
        interval: fs between frames; None: from ``info["time_fs"]``.
        charge, spin: override ``atoms.info``.
        batch_atoms: atoms evaluated at once, about.

    Raises:
        InputError: fewer than two frames, different atoms, times that are missing or uneven.
        ModelError: a model without dipoles; what it cannot evaluate, naming the atom.
    """
    frames = list(frames)
    time = _times(frames, interval)
    frames = _continued(frames)
    size = max(1, batch_atoms // max(len(frames[0]), 1))
    dipoles, polarizabilities = [], []
    for first in range(0, len(frames), size):
        some = frames[first : first + size]
        system = System.from_atoms(some, charge=charge, spin=spin, device=potential.device)
        potential.check(system)
        if first == 0:
            warn_about(potential, system)
        neighbors = potential.neighbors(system)
        check_distances(system, neighbors, first)
        p = evaluate_response(potential, system, neighbors).detached("cpu")
        assert p.dipole is not None
        dipoles.append(p.dipole.numpy())
        if p.polarizability is not None:
            polarizabilities.append(p.polarizability.numpy())
        if progress is not None:
            progress(first + len(some), len(frames))
    alpha = np.concatenate(polarizabilities) if polarizabilities else None
    return ResponseSeries(time, np.concatenate(dipoles), alpha)


def infrared(series: ResponseSeries, temperature: float, resolution: float = 10.0) -> Spectrum:
    """Absorption N_A ω² / (6 ε₀ c k_B T) ∫ <μ(0)·μ(t)> exp(-iωt) dt in km/mol per cm⁻¹.

    That is the molar napierian absorption coefficient of the whole structure times the index of refraction; a line's
    area is its infrared intensity in km/mol. Divided by N_A and the volume it is an absorption coefficient.

    Args:
        temperature: K, of the trajectory.
        resolution: cm⁻¹; sets the length of the blocks that are averaged.

    Raises:
        InputError: a temperature or resolution that is none; a trajectory too short for the resolution.
    """
    return absorption(series.dipole, series.interval, temperature, resolution)


def raman(series: ResponseSeries, temperature: float, resolution: float = 10.0) -> tuple[Spectrum, Spectrum]:
    """Isotropic and anisotropic Raman activity, 45 a'² and 7 γ'² of each mode, in Å⁴/amu per cm⁻¹.

    Their sum is what light polarised perpendicular to the direction of observation gives (at 90°, both polarisations
    counted); the intensity in a spectrometer follows with `stokes`. Arguments and errors as `infrared`.

    Raises:
        InputError: a series without polarizabilities.
    """
    if series.polarizability is None:
        raise InputError("Raman spectra need polarizabilities, and this model predicts dipoles only")
    mean, rest = _parts(POLARIZABILITY_VOLUME * series.polarizability)
    factor = per_wavenumber(temperature)
    spectra = []
    for name, values, weight in (("isotropic", mean, ISOTROPIC), ("anisotropic", rest, ANISOTROPIC)):
        power, width = rate_power(values, series.interval, resolution)
        label = f"{name} Raman activity (Å⁴/amu per cm⁻¹)"
        spectra.append(averaged(weight * factor * power, series.interval, label, width))
    return spectra[0], spectra[1]


def stokes(activity: Spectrum, temperature: float, laser: float = 532.0) -> Spectrum:
    """Differential Stokes cross-section (2π)⁴/45 (ν₀-ν)⁴ h/(8π²cν) S/(1-exp(-hcν/k_BT)) in 1e-36 m²/sr per cm⁻¹.

    Args:
        activity: of `raman`, a part or the sum of both.
        temperature: K.
        laser: nm.

    Raises:
        InputError: a temperature or wavelength that is none.
    """
    if not 0.0 < laser < math.inf:
        raise InputError(f"the laser's wavelength must be positive (nm), not {laser!r}")
    check_temperature(temperature)
    nu = activity.wavenumber
    factor = np.zeros_like(nu)
    # nothing is scattered without a shift, nor beyond the laser's own energy
    real = (nu > 0.0) & (nu < 1e7 / laser)
    bose = -np.expm1(-INVERSE_CM * nu[real] / (BOLTZMANN * temperature))
    factor[real] = CROSS_SECTION * (1e7 / laser - nu[real]) ** 4 / nu[real] / bose
    label = f"Raman cross-section at {laser:g} nm (10⁻³⁶ m²/sr per cm⁻¹)"
    return Spectrum(
        nu, factor * activity.intensity, factor * activity.error, label, activity.resolution, activity.blocks
    )


def harmonic_intensities(
    modes: Vibrations, derivatives: ResponseDerivatives
) -> tuple[Float[np.ndarray, "M"], Float[np.ndarray, "M"], Float[np.ndarray, "M"]]:
    """Intensities of normal modes, which may be those of another model: what the areas of the spectra go to.

    Returns:
        Infrared intensity in km/mol, isotropic and anisotropic Raman activity in Å⁴/amu (zero without polarizability).

    Raises:
        InputError: derivatives of a structure with another number of atoms.
    """
    if len(derivatives.born_charges) != len(modes.atoms):
        raise InputError(f"modes of {len(modes.atoms)} atoms, derivatives of {len(derivatives.born_charges)}")
    along = modes.modes / np.sqrt(modes.reduced_masses)[:, None, None]
    dipole = np.einsum("iac,mic->ma", derivatives.born_charges, along)
    absorbed = INFRARED * np.square(dipole).sum(1)
    if derivatives.raman_tensor is None:
        return absorbed, np.zeros(len(along)), np.zeros(len(along))
    mean, rest = _parts(POLARIZABILITY_VOLUME * np.einsum("iabc,mic->mab", derivatives.raman_tensor, along))
    return absorbed, ISOTROPIC * np.square(mean).sum(1), ANISOTROPIC * np.square(rest).sum(1)


def plot_spectra(spectra: Sequence[Spectrum], path: str | Path, title: str, limit: float = 4000.0) -> None:
    """Write a PNG, one panel for each spectrum, up to ``limit`` cm⁻¹; errors are shaded where there are any."""
    # imported here: it takes half a second, and no global state of pyplot is touched
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 0.8 + 2.7 * len(spectra)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(spectra), 1, sharex=True, squeeze=False)[:, 0]
    for number, (axes, item) in enumerate(zip(panels, spectra, strict=True)):
        shown = item.wavenumber <= limit
        nu, y, error = item.wavenumber[shown], item.intensity[shown], item.error[shown]
        if item.blocks > 1:
            axes.fill_between(nu, y - error, y + error, color=f"C{number}", alpha=0.3, lw=0)
        axes.plot(nu, y, color=f"C{number}", lw=1.0)
        axes.set_ylabel("\n(".join(item.label.split(" (", 1)), fontsize=9)
        axes.set_ylim(bottom=0.0)
        axes.set_xlim(0.0, float(nu[-1]))
        axes.grid(alpha=0.25)
    panels[-1].set_xlabel("wavenumber (cm⁻¹)")
    first = spectra[0]
    count = f"{first.blocks} block{'s' if first.blocks > 1 else ''}"
    panels[0].set_title(f"{title}; lines {first.resolution:.3g} cm⁻¹ wide, {count}", fontsize=10)
    figure.savefig(path, dpi=140, format="png")


def _parts(alpha: Float[np.ndarray, "T 3 3"]) -> tuple[Float[np.ndarray, "T 1"], Float[np.ndarray, "T 9"]]:
    """A third of the trace, and what is left."""
    mean = np.trace(alpha, axis1=1, axis2=2) / 3.0
    return mean[:, None], (alpha - mean[:, None, None] * np.eye(3)).reshape(len(alpha), 9)


def _times(frames: list[ase.Atoms], interval: float | None) -> Float[np.ndarray, "T"]:
    if len(frames) < 2:
        raise InputError(f"a trajectory has at least two frames, not {len(frames)}")
    numbers = frames[0].numbers
    if not all(len(frame) == len(numbers) and (frame.numbers == numbers).all() for frame in frames):
        raise InputError("the frames are not of one structure: their atoms differ")
    if interval is not None:
        if not 0.0 < interval < math.inf:
            raise InputError(f"the interval between frames must be positive (fs), not {interval!r}")
        return interval * np.arange(len(frames), dtype=np.float64)
    if any("time_fs" not in frame.info for frame in frames):
        raise InputError("the frames do not say their time (info['time_fs']): give the interval between them in fs")
    time = np.array([frame.info["time_fs"] for frame in frames], dtype=np.float64)
    steps = np.diff(time)
    if not steps[0] > 0.0 or np.abs(steps - steps[0]).max() > 1e-3 * steps[0]:
        raise InputError("the frames are not evenly spaced in time: spectra need a trajectory without gaps")
    return time


def _continued(frames: list[ase.Atoms]) -> list[ase.Atoms]:
    """Periodic frames with molecules in one piece and paths without jumps."""
    if not frames[0].pbc.any():
        return frames
    last = frames[0].get_scaled_positions(wrap=False) + _whole(frames[0])
    periodic = frames[0].pbc
    continued = []
    for frame in frames:
        here = frame.get_scaled_positions(wrap=False)
        last = here - periodic * np.round(here - last)
        moved = frame.copy()
        moved.set_scaled_positions(last)
        continued.append(moved)
    return continued


def _whole(frame: ase.Atoms) -> Float[np.ndarray, "N 3"]:
    """Lattice translations that put molecules into one piece; none where bonds have no end or the cell is open."""
    from heliodor.crystal.molecules import find_molecules

    shifts = np.zeros((len(frame), 3))
    if frame.pbc.all():
        try:
            for found in find_molecules(frame):
                shifts[found.indices] = found.shifts
        except InputError:
            return np.zeros((len(frame), 3))
    return shifts
