"""Infrared spectra from the charges that a model gave along a run."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from heliodor.analysis.liquids.conditions import kinds_of, other_masses, temperature_of
from heliodor.analysis.liquids.dipoles import Dipoles, molecular_dipoles
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.analysis.spectra.sampling import FEWEST, fastest, folding, usual_resolution
from heliodor.analysis.spectra.welch import Spectrum, absorption, integral
from heliodor.errors import InputError
from heliodor.trajectory.parallel import Progress
from heliodor.trajectory.trajectory import Trajectory

MARGIN = 1.1
"""The axis ends at this times the fastest vibrations."""

CHARGED = 0.5
"""e; molecules with larger net charges are ions, whose motion is missing."""

FLOWS = 0.02
"""e; net charges of molecules above are mentioned."""


def infrared_spectrum(
    trajectory: Trajectory,
    *,
    temperature: float | None = None,
    resolution: float | None = None,
    progress: Progress | None = None,
    processes: int = 1,
) -> tuple[Spectrum, Dipoles]:
    """Absorption of the whole structure in km/mol per cm⁻¹, and the dipoles it comes from.

    The dipole is that of `molecular_dipoles`: charges of each frame times positions, so that flux of charge along bonds
    counts; of periodic systems the sum of the molecules' own. Formula and quantum correction are those of
    `heliodor.analysis.dielectric`, where other models can be asked for the dipoles of a trajectory. Where charges of
    some frames are no numbers, the longest stretch without such frames is used.

    Args:
        temperature: K; None for that of the run.
        resolution: cm⁻¹; None: 10, coarser for short runs.

    Raises:
        InputError: no charges, a part of the atoms, endless networks, an unknown temperature, too few or uneven
            frames.
    """
    warm = temperature_of(trajectory) if temperature is None else temperature
    if warm is None:
        raise InputError("the temperature of the run is not known: give temperature=")
    interval, frames = trajectory.interval, trajectory.even
    dipoles = molecular_dipoles(trajectory, stop=frames, progress=progress, processes=processes)
    stretch = longest(dipoles.index)
    count = stretch.stop - stretch.start
    if count < FEWEST:
        raise InputError(
            f"{trajectory.path}: {dipoles.skipped} of {frames} frames hold charges that are no numbers, and the "
            f"longest stretch without is of {count} frames: {FEWEST} are the least for a spectrum"
        )
    width = usual_resolution(count - 1, interval) if resolution is None else resolution
    return absorption(dipoles.total[stretch], interval, warm, width), dipoles


def longest(index: Int[np.ndarray, "T"]) -> slice:
    """Of ascending numbers, the longest piece that ascends one by one."""
    edges = np.concatenate([[0], np.flatnonzero(np.diff(index) != 1) + 1, [len(index)]])
    k = int(np.diff(edges).argmax())
    return slice(int(edges[k]), int(edges[k + 1]))


def show(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    resolution: float | None = None,
    temperature: float | None = None,
    per_molecule: bool = False,
) -> Shown:
    """Infrared spectrum from the dipole along the run, with the harmonic quantum correction.

    Args:
        resolution: in cm⁻¹; by default 10, coarser for runs shorter than about 20 ps.
        temperature: in K; by default that of the run.
        per_molecule: divide by the number of molecules.
    """
    spectrum, dipoles = infrared_spectrum(
        trajectory, temperature=temperature, resolution=resolution, progress=progress, processes=processes
    )
    count = sum(len(kind.molecules) for kind in kinds_of(trajectory.topology)) if per_molecule else 1
    nu, y, error = spectrum.wavenumber, spectrum.intensity / count, spectrum.error / count
    unit = "km/mol of molecules per cm⁻¹" if per_molecule else "km/mol per cm⁻¹"
    top = float(min(nu[-1], MARGIN * fastest(trajectory)))
    strongest = float(nu[np.where(nu <= top, y, 0.0).argmax()])
    return Shown(
        name="infrared",
        title="Infrared spectrum",
        panels=(
            Panel(
                f"from the dipole along the run; lines {spectrum.resolution:.3g} cm⁻¹ wide",
                Axis("wavenumber", "cm⁻¹", 0.0, top),
                Axis("absorption", unit, 0.0),
                (Curve("", nu, y, y - error, y + error),),
            ),
        ),
        numbers=(
            Number("strongest absorption at", strongest, None, "cm⁻¹"),
            Number("whole absorption", float(integral(y, nu)), None, unit.removesuffix(" per cm⁻¹")),
        ),
        notes=tuple(_notes(trajectory, spectrum, dipoles)),
        tables={"infrared": {"wavenumber_per_cm": nu, "absorption_km_per_mol_cm": y, "error_km_per_mol_cm": error}},
    )


def _notes(trajectory: Trajectory, spectrum: Spectrum, dipoles: Dipoles) -> list[str]:
    blocks = f"{spectrum.blocks} block{'s' if spectrum.blocks > 1 else ''}"
    notes = [
        "Autocorrelation of the rate of the dipole (the model's charges of each frame times positions), classical "
        f"nuclei, harmonic quantum correction; {blocks} under a Hann window, no other smoothing. The area of a line is "
        "its infrared intensity in km/mol.",
    ]
    if dipoles.skipped:
        used = dipoles.index[longest(dipoles.index)]
        notes.append(
            f"{dipoles.skipped} frame(s) hold charges that are no numbers; the spectrum is of the longest stretch "
            f"without such, frames {used[0]} to {used[-1]}."
        )
    if spectrum.blocks == 1:
        notes.append("A single block: no error is given, and much of the structure in the lines is noise.")
    if trajectory.pbc.any():
        notes.append(
            "Periodic: the dipole is the sum of the molecules', each about its centre of mass, which does not depend "
            "on the images. Charge that flows from molecule to molecule and the motion of ions are not in it."
        )
        for item in dipoles.kinds:
            if item.charge > FLOWS:
                what = "an ion, whose motion is missing" if item.charge > CHARGED else "so far charge flows between"
                notes.append(f"Net charge of {item.kind.label}: {item.charge:.2f} e (root mean square): {what}.")
    return notes + other_masses(trajectory) + folding(trajectory)
