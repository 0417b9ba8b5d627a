"""X23: lattice energies of 23 molecular crystals against X23b (back-corrected experiment).

The folder holds `x23_crystals_b86bpbe-xdm.xyz`, `x23_molecules_gas.xyz` and `x23_reference.json` (kcal/mol per
molecule, positive: bound), made of github.com/aoterodelaroza/refdata. Single points are on crystals and molecules as
optimized with B86bPBE-XDM; relaxed rows start there and relax both with the model, cell included. The gas-phase
conformer is that of the reference in either case.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import ase
from ase.io import read

from heliodor.bench.result import KCAL, Row, Task
from heliodor.crystal import LatticeEnergy, lattice_energy
from heliodor.crystal.lattice import Progress
from heliodor.errors import HeliodorError, InputError
from heliodor.potential import Potential
from heliodor.units import KCAL_PER_MOL

FMAX, SMAX, STEPS = 0.01, 0.01, 1500
"""eV/Å, GPa, steps."""

CUTOFF = 12.0
"""Å, long-range, for models that have one; the energy without it follows."""

TITLE = "lattice energies of 23 molecular crystals"
LEVEL = "X23b, back-corrected experiment (Dolgonos et al. 2019)"


@dataclass(frozen=True, eq=False)
class Crystal:
    """A crystal of the set.

    Attributes:
        reference: lattice energy, kcal/mol per molecule (negative: bound).
        units: molecules in the cell.
        volume: of experiment, Å³ per molecule.
    """

    name: str
    crystal: ase.Atoms
    molecule: ase.Atoms
    reference: float
    units: int
    volume: float


def read_crystals(folder: Path) -> list[Crystal]:
    """All crystals, small cells first.

    Raises:
        InputError: a file is missing or lacks a crystal.
    """
    try:
        entries = json.loads((folder / "x23_reference.json").read_text())["entries"]
        crystals = {a.info["name"]: a for a in read(folder / "x23_crystals_b86bpbe-xdm.xyz", ":")}
        molecules = {a.info["name"]: a for a in read(folder / "x23_molecules_gas.xyz", ":")}
        found = [_crystal(entry, crystals, molecules) for entry in entries]
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder} does not hold X23 as it should be: {error}") from None
    # a run that is cut short has most of the table
    return sorted(found, key=lambda one: len(one.crystal))


def _crystal(entry: dict[str, Any], crystals: dict[str, ase.Atoms], molecules: dict[str, ase.Atoms]) -> Crystal:
    return Crystal(
        entry["name"],
        crystals[entry["name"]],
        molecules[entry["molecule"]],
        -float(entry["E_latt_X23b_kcal_per_mol"]),
        int(entry["Z"]),
        float(entry["V_expt_A3_per_molecule"]),
    )


def compute(potential: Potential, one: Crystal, relax: str = "none", progress: Progress | None = None) -> LatticeEnergy:
    """The lattice energy with this module's tolerances.

    Raises:
        HeliodorError: what the model cannot take.
    """
    found = lattice_energy(
        potential, one.crystal, relax=relax, molecules=[one.molecule], fmax=FMAX, smax=SMAX, max_steps=STEPS,
        progress=progress,
    )  # fmt: skip
    assert found.units == one.units, one.name
    return found


def energy_of(found: LatticeEnergy) -> float:
    """kcal/mol, without the long-range cutoff where that is known."""
    without = found.energy_without_cutoff
    return found.kcal_per_mol if without is None else without / KCAL_PER_MOL


def x23_task(folder: Path) -> Task:
    """Single points at the reference geometries."""
    crystals = {one.name: one for one in read_crystals(folder)}

    def rows(potential: Potential, items: Sequence[str]) -> Iterator[Row]:
        was = potential.long_range_cutoff
        if was == "auto":
            potential.long_range_cutoff = CUTOFF
        try:
            for name in items:
                try:
                    found = compute(potential, crystals[name])
                except HeliodorError as error:
                    yield Row(name, skipped=" ".join(str(error).split()))
                    continue
                yield Row(name, crystals[name].reference, energy_of(found), how="single points")
        finally:
            potential.long_range_cutoff = was

    digest = sha256()
    for path in ("x23_reference.json", "x23_crystals_b86bpbe-xdm.xyz", "x23_molecules_gas.xyz"):
        digest.update((folder / path).read_bytes())
    names = tuple(crystals)
    return Task(
        "x23", TITLE, LEVEL, KCAL, digest.hexdigest(), names, names[:2], rows,
        "single points at geometries of B86bPBE-XDM, kcal/mol per molecule", "minutes",
    )  # fmt: skip
