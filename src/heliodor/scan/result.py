"""What a scan found."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.io
import numpy as np

from heliodor.errors import InputError
from heliodor.scan.geometry import MATCH, Rotor, angles_of, rmsd
from heliodor.scan.grid import Axis, points_of
from heliodor.scan.record import Relaxation, frame_of
from heliodor.units import KCAL_PER_MOL, KJ_PER_MOL


@dataclass(frozen=True)
class Scan:
    """The lowest relaxed structure of each grid point, and all that were found.

    Attributes:
        rotors: the one or two dihedrals.
        axes: the grid along each.
        lowest: number (in ``relaxations``) of the lowest of each grid point, [n] or [n, m]; -1 where there is none.
        relaxations: all, in the order they were done.
        complete: False where the scan was stopped before its end.
    """

    rotors: tuple[Rotor, ...]
    axes: tuple[Axis, ...]
    lowest: np.ndarray
    relaxations: tuple[Relaxation, ...]
    complete: bool

    @staticmethod
    def of(rotors: Sequence[Rotor], axes: Sequence[Axis], done: Sequence[Relaxation], complete: bool) -> Scan:
        """From relaxations in the order they were done; failed ones do not count, of equal ones the first does."""
        lowest = np.full([len(axis.angles) for axis in axes], -1)
        for number, one in enumerate(done):
            if one.failure is not None or one.energy is None:
                continue
            before = done[int(lowest[one.point])].energy if lowest[one.point] >= 0 else None
            if before is None or one.energy < before:
                lowest[one.point] = number
        return Scan(tuple(rotors), tuple(axes), lowest, tuple(done), complete)

    @property
    def angles(self) -> np.ndarray:
        """[points, dihedrals] degrees, the last dihedral running fastest."""
        columns = [[axis.angles[k] for axis, k in zip(self.axes, p, strict=True)] for p in points_of(self.axes)]
        return np.array(columns)

    @property
    def energies(self) -> np.ndarray:
        """eV, model's own zero, [n] or [n, m]; not a number where no relaxation came to an end."""
        found = [self.relaxations[k].energy if k >= 0 else None for k in self.lowest.ravel()]
        return np.array([np.nan if e is None else e for e in found]).reshape(self.lowest.shape)

    @property
    def relative(self) -> np.ndarray:
        """eV above the lowest point, [n] or [n, m]."""
        energies = self.energies
        return energies - np.nanmin(energies) if np.isfinite(energies).any() else energies

    @property
    def structures(self) -> list[ase.Atoms | None]:
        """Of each point, the last dihedral running fastest, with energy and forces attached."""
        return [frame_of(self.relaxations[k]) if k >= 0 else None for k in self.lowest.ravel()]

    @property
    def missing(self) -> list[tuple[float, ...]]:
        """Degrees of the points that have no structure."""
        return [tuple(map(float, a)) for a, k in zip(self.angles, self.lowest.ravel(), strict=True) if k < 0]

    @property
    def failures(self) -> list[Relaxation]:
        return [one for one in self.relaxations if one.failure is not None]

    def rmsd(self, references: Sequence[ase.Atoms]) -> np.ndarray:
        """Å, over all atoms after superposition, between each point and the reference geometry at its dihedrals.

        Args:
            references: their dihedrals are measured; the nearest within `MATCH` degrees counts.

        Returns:
            Of each point, [n] or [n, m]; not a number where no reference is near.

        Raises:
            InputError: other atoms, or references that are near no point.
        """
        found = np.full(self.lowest.size, np.nan)
        for reference in references:
            if len(reference) != len(self.relaxations[0].atoms):
                raise InputError("a reference geometry must have the same atoms in the same order")
        measured = [angles_of(reference, self.rotors) for reference in references]
        for k, (angles, structure) in enumerate(zip(self.angles, self.structures, strict=True)):
            off = [float(np.abs((m - angles + 180.0) % 360.0 - 180.0).max()) for m in measured]
            if structure is not None and off and min(off) <= MATCH:
                found[k] = rmsd(structure, references[int(np.argmin(off))])
        if not np.isfinite(found).any():
            raise InputError(f"no reference geometry has its dihedrals within {MATCH:g}° of a grid point")
        return found.reshape(self.lowest.shape)

    def write_structures(self, path: Path) -> None:
        """The lowest of each point as extended xyz, with dihedral, energy (eV), forces (eV/Å); whole or not at all."""
        frames = [frame for frame in self.structures if frame is not None]
        part = path.with_name(f".{path.stem}.part{path.suffix}")
        try:
            ase.io.write(part, frames, format="extxyz")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def write_table(self, path: Path) -> None:
        """CSV: dihedrals in degrees, relative energy in three units; points without a structure have empty fields."""
        names = [f"dihedral_{r.name}_deg" for r in self.rotors]
        units = {"eV": 1.0, "kcal_per_mol": KCAL_PER_MOL, "kJ_per_mol": KJ_PER_MOL}
        part = path.with_name(f".{path.stem}.part{path.suffix}")
        try:
            with part.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow([*names, *(f"relative_energy_{unit}" for unit in units)])
                for angles, energy in zip(self.angles, self.relative.ravel(), strict=True):
                    values = [f"{energy / unit:.6f}" if np.isfinite(energy) else "" for unit in units.values()]
                    writer.writerow([*(f"{a:g}" for a in angles), *values])
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
