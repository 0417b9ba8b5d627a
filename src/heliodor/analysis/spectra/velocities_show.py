"""Vibrational densities of states for people."""

from __future__ import annotations

import numpy as np

from heliodor.analysis.liquids.conditions import PARTIAL, other_masses
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.analysis.spectra.sampling import fastest, folding
from heliodor.analysis.spectra.velocities import ATOMS, VelocityPower, by_element, read_groups, velocity_power
from heliodor.analysis.spectra.welch import integral
from heliodor.errors import InputError
from heliodor.trajectory.parallel import Progress
from heliodor.trajectory.trajectory import Trajectory

WEIGHTINGS = ("mass", "none")

MARGIN = 1.1
"""The axis ends at this times the fastest vibrations."""


def show(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    weighting: str = "mass",
    resolution: float | None = None,
    groups: str | None = None,
    atoms: int = ATOMS,
) -> Shown:
    """Power spectrum of the velocities (vibrational density of states) with the shares of elements or groups.

    Args:
        weighting: of the picture: "mass" (modes per wavenumber) or "none" (velocities alike); tables have both.
        resolution: in cm⁻¹; by default 10, coarser for runs shorter than about 20 ps.
        groups: selections with semicolons between, "water; protein"; by default elements.
        atoms: used at most, evenly spaced.
    """
    if weighting not in WEIGHTINGS:
        raise InputError(f"weighting must be mass or none, not {weighting!r}")
    topology = trajectory.topology
    found = velocity_power(
        trajectory,
        by_element(topology) if groups is None else read_groups(topology, groups),
        resolution=resolution,
        atoms=atoms,
        progress=progress,
        processes=processes,
    )
    nu = found.wavenumber
    shares, errors = (found.weighted, found.weighted_error) if weighting == "mass" else (found.plain, found.plain_error)
    total = shares.sum(0)
    curves = [Curve("all", nu, total)] if len(found.groups) > 1 else []
    curves += [
        Curve(name, nu, share, share - error, share + error)
        for name, share, error in zip(found.groups, shares, errors, strict=True)
    ]
    words = "weighted with masses" if weighting == "mass" else "plain, every atom's velocity alike"
    table: dict[str, np.ndarray] = {"wavenumber_per_cm": nu}
    for name, mass, plain in zip(found.groups, found.weighted, found.plain, strict=True):
        word = "".join(letter if letter.isalnum() else "_" for letter in name)
        table |= {f"mass_weighted_{word}_cm": mass, f"plain_{word}_cm": plain}
    areas = integral(found.weighted, nu)
    return Shown(
        name="vdos",
        title="Power spectrum of the velocities",
        panels=(
            Panel(
                f"{words}; lines {found.resolution:.3g} cm⁻¹ wide",
                Axis("wavenumber", "cm⁻¹", 0.0, float(min(nu[-1], MARGIN * fastest(trajectory)))),
                Axis("density of states" if weighting == "mass" else "power, same area", "modes per cm⁻¹", 0.0),
                tuple(curves),
            ),
        ),
        numbers=(
            Number("temperature of the velocities", found.temperature, None, "K", _freedom(found)),
            *(
                Number(f"share of {name}", float(area / areas.sum()), None, "", "of the mass-weighted area")
                for name, area in zip(found.groups, areas, strict=True)
            ),
        ),
        notes=tuple(_notes(trajectory, found)),
        tables={"vdos": table},
    )


def _notes(trajectory: Trajectory, found: VelocityPower) -> list[str]:
    blocks = f"{found.blocks} block{'s' if found.blocks > 1 else ''}"
    notes = [
        f"Fourier transform of the velocity autocorrelation, from {blocks} under a Hann window, which makes a sharp "
        f"line {found.resolution:.3g} cm⁻¹ wide; no other smoothing. Classical nuclei, no quantum correction.",
        _area(found) + "; the plain one is scaled to the same area.",
    ]
    if trajectory.partial:
        notes.append(f"{PARTIAL[0].upper()}{PARTIAL[1:]}: the spectrum is of these.")
    if found.differences:
        notes.append("The file holds no velocities: they are differences of positions, their damping divided out.")
    if found.used < found.atoms:
        notes.append(f"{found.used} of {found.atoms} atoms are used, evenly spaced, and stand for the others.")
    if found.blocks == 1:
        notes.append("A single block: no error is given, and much of the structure in the lines is noise.")
    return notes + other_masses(trajectory) + folding(trajectory)


def _freedom(found: VelocityPower) -> str:
    if not found.counted:
        return "not known: there were constraints, which could not be counted"
    return "3N degrees of freedom" if found.modes == 3 * found.atoms else f"{found.modes} degrees of freedom"


def _area(found: VelocityPower) -> str:
    whole = 3 * found.atoms
    if not found.counted:
        return (
            f"Weighted with masses its area was set to 3N = {whole}, although constraints that could not be counted "
            "leave fewer modes"
        )
    if found.modes == whole:
        return f"Weighted with masses its area is 3N = {whole} modes"
    return (
        f"Weighted with masses its area is {found.modes} modes: 3N = {whole} less the bonds that were held and the "
        "atoms that were frozen"
    )
