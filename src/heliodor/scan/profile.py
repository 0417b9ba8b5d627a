"""Profiles of one dihedral: minima, maxima, barriers, and how far one is from a reference."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq

from heliodor.errors import InputError
from heliodor.scan.result import Scan
from heliodor.units import HARTREE, KCAL_PER_MOL, KJ_PER_MOL

UNITS = {"kcal/mol": KCAL_PER_MOL, "kJ/mol": KJ_PER_MOL, "eV": 1.0, "hartree": HARTREE}

RIPPLE = 0.05 * KCAL_PER_MOL
"""eV; a minimum less deep than this is no minimum."""

SAMPLES = 32
"""Of the slope between two points of a profile."""


@dataclass(frozen=True)
class Extremum:
    """Angle in degrees, energy in eV."""

    angle: float
    energy: float


@dataclass(frozen=True)
class Barrier:
    """Between two neighbouring minima, by ascending angle.

    Attributes:
        start, top, end: the minima and the maximum between them; of a profile with one minimum both are that one.
    """

    start: Extremum
    top: Extremum
    end: Extremum

    @property
    def forward(self) -> float:
        """eV, from ``start``."""
        return self.top.energy - self.start.energy

    @property
    def backward(self) -> float:
        """eV, from ``end``."""
        return self.top.energy - self.end.energy


@dataclass(frozen=True)
class Profile:
    """Energy against one dihedral, interpolated.

    A cubic spline through all points, periodic where they go round; otherwise with not-a-knot ends. Extrema are where
    its slope changes sign; pairs less than `RIPPLE` apart in energy are left out; ends of an open range are none.

    Attributes:
        angles: [n] degrees, ascending.
        energies: [n] eV, any zero.
        periodic: whether the profile goes on at the other end.
    """

    angles: np.ndarray
    energies: np.ndarray
    periodic: bool

    @staticmethod
    def of(scan: Scan) -> Profile:
        """Of a scan of one dihedral; points without a structure are left out.

        Raises:
            InputError: two dihedrals, or fewer than four points.
        """
        if len(scan.axes) != 1:
            raise InputError("profiles are of one dihedral; this scan has two")
        known = np.isfinite(scan.energies)
        return Profile(scan.axes[0].angles[known], scan.relative[known], scan.axes[0].periodic).checked()

    def checked(self) -> Profile:
        """Itself.

        Raises:
            InputError: fewer than four points.
        """
        if len(self.angles) < 4:
            raise InputError(f"a profile needs at least four points, not {len(self.angles)}")
        return self

    @property
    def spline(self) -> CubicSpline:
        """Energy in eV over degrees."""
        if self.periodic:
            x, y = np.append(self.angles, self.angles[0] + 360.0), np.append(self.energies, self.energies[0])
            return CubicSpline(x, y, bc_type="periodic")
        return CubicSpline(self.angles, self.energies)

    def at(self, angles: np.ndarray) -> np.ndarray:
        """eV at any angles (degrees); not a number beyond the ends of an open range."""
        first, last = float(self.angles[0]), float(self.angles[-1])
        wrapped = first + (np.asarray(angles, dtype=np.float64) - first + 1e-9) % 360.0 - 1e-9
        energies = np.asarray(self.spline(wrapped))
        return energies if self.periodic else np.where(wrapped <= last + 1e-6, energies, np.nan)

    def extrema(self) -> tuple[list[Extremum], list[Extremum]]:
        """Minima and maxima, by ascending angle."""
        spline = self.spline
        slope = spline.derivative()
        first, last = float(spline.x[0]), float(spline.x[-1])
        spacing = (last - first) / (SAMPLES * len(self.angles))
        # off the grid's own angles, where symmetry puts the extrema
        fine = np.arange(first + spacing / 3.0, last, spacing)
        if self.periodic:
            fine = np.append(fine, fine[0] + 360.0)
        values = slope(fine)
        found = []
        for k in np.flatnonzero(values[:-1] * values[1:] < 0.0):
            x = float(brentq(slope, fine[k], fine[k + 1]))
            x -= 360.0 if self.periodic and x >= last else 0.0
            found.append((x, float(spline(x)), bool(values[k] < 0.0)))
        found.sort()
        kept = _without_ripples(found, self.periodic)
        minima, maxima = ([Extremum(x, e) for x, e, is_min in kept if is_min is which] for which in (True, False))
        return minima, maxima

    def barriers(self) -> list[Barrier]:
        """Between neighbouring minima; of a periodic profile also from the last to the first."""
        minima, maxima = self.extrema()
        if self.periodic and len(minima) == 1 and len(maxima) == 1:
            return [Barrier(minima[0], maxima[0], minima[0])]
        found = []
        pairs = list(zip(minima, [*minima[1:], *minima[:1]] if self.periodic else minima[1:], strict=False))
        for start, end in pairs:
            tops = [
                top
                for top in maxima
                if (
                    start.angle < top.angle < end.angle
                    if start.angle < end.angle
                    else not end.angle < top.angle < start.angle
                )
            ]
            found += [Barrier(start, max(tops, key=lambda top: top.energy), end)] if tops else []
        return found

    @property
    def height(self) -> float:
        """eV, the highest point of the interpolated profile above the lowest: the barrier to a full turn."""
        minima, maxima = self.extrema()
        energies = [*self.energies, *(e.energy for e in (*minima, *maxima))]
        return float(max(energies) - min(energies))


@dataclass(frozen=True)
class Comparison:
    """A profile against a reference; eV.

    Attributes:
        height: barrier to a full turn.
        reference_height: that of the reference.
        rmsd: over the profile's points after the offset that makes it smallest.
        offset: what to add to the profile for that.
        tops: for each maximum of the reference with one of the profile within 30°: angle (degrees), reference height
            and height, each above its own lowest point.
    """

    height: float
    reference_height: float
    rmsd: float
    offset: float
    tops: tuple[tuple[float, float, float], ...]

    @property
    def error(self) -> float:
        """eV, of the barrier to a full turn."""
        return self.height - self.reference_height


def compare(profile: Profile, reference: Profile) -> Comparison:
    """A profile against a reference over the same dihedral, interpolated where their angles differ.

    Raises:
        InputError: fewer than two common angles.
    """
    difference = reference.at(profile.angles) - profile.energies
    difference = difference[np.isfinite(difference)]
    if len(difference) < 2:
        raise InputError("the reference profile and the scan have fewer than two angles in common")
    offset = float(difference.mean())
    tops = []
    own = profile.extrema()[1]
    low, reference_low = (float(p.energies.min()) for p in (profile, reference))
    for top in reference.extrema()[1]:
        near = [(abs((mine.angle - top.angle + 180.0) % 360.0 - 180.0), mine) for mine in own]
        if near and min(off for off, _ in near) <= 30.0:
            mine = min(near, key=lambda pair: pair[0])[1]
            tops.append((top.angle, top.energy - reference_low, mine.energy - low))
    return Comparison(
        height=profile.height,
        reference_height=reference.height,
        rmsd=float(np.sqrt(np.square(difference - offset).mean())),
        offset=offset,
        tops=tuple(tops),
    )


def read_profile(path: Path, unit: str = "kcal/mol") -> Profile:
    """A CSV file with angle (degrees) and energy in its first two columns, in any order of angles; a header is skipped.

    The profile is periodic if its widest gap, the one over the ends included, is at most twice the narrowest.

    Raises:
        InputError: no such file, unknown unit, lines that are no numbers, fewer than four points.
    """
    if unit not in UNITS:
        raise InputError(f"the unit of a reference must be one of {', '.join(UNITS)}, not {unit!r}")
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    rows: dict[float, float] = {}
    with path.open(newline="") as file:
        for number, row in enumerate(csv.reader(file)):
            if not row or row[0].lstrip().startswith("#"):
                continue
            try:
                angle, energy = (float(x) for x in row[:2])
            except ValueError:
                if not rows and number == 0:
                    continue
                raise InputError(f"{path}, line {number + 1}: not an angle and an energy: {','.join(row)}") from None
            rows[(angle + 180.0) % 360.0 - 180.0] = energy * UNITS[unit]
    return profile_of_points(np.array(list(rows)), np.array(list(rows.values())))


def profile_of_points(angles: np.ndarray, energies: np.ndarray) -> Profile:
    """Points in any order as a profile; see `read_profile` for when it is periodic.

    Raises:
        InputError: fewer than four points.
    """
    order = np.argsort(angles)
    angles, energies = angles[order], energies[order]
    if len(angles) < 4:
        raise InputError(f"a profile needs at least four points, not {len(angles)}")
    gaps = np.append(np.diff(angles), angles[0] + 360.0 - angles[-1])
    if (periodic := bool(gaps.max() <= 2.0 * gaps.min() + 1e-6)) or gaps.argmax() == len(gaps) - 1:
        return Profile(angles, energies, periodic)
    # an open range over ±180: begin after the widest gap
    first = int(gaps.argmax()) + 1
    return Profile(
        np.append(angles[first:], angles[:first] + 360.0), np.append(energies[first:], energies[:first]), False
    )


def _without_ripples(found: list[tuple[float, float, bool]], periodic: bool) -> list[tuple[float, float, bool]]:
    """Extrema (angle, energy, is a minimum) without the neighbouring pairs that differ least, below `RIPPLE`."""
    kept = found
    while len(kept) > 1:
        pairs = [(k, (k + 1) % len(kept)) for k in range(len(kept) if periodic else len(kept) - 1)]
        steps = [abs(kept[b][1] - kept[a][1]) for a, b in pairs]
        least = int(np.argmin(steps))
        if steps[least] >= RIPPLE:
            return kept
        kept = [one for k, one in enumerate(kept) if k not in pairs[least]]
    return kept
