"""Biaryls: torsion drives of the Lahey-Rowley set against B3LYP-D3BJ/DZVP profiles (OpenFF).

The file is OpenFF_Rowley_Biaryl_v1-0.sdf (github.com/Boehringer-Ingelheim/TorsionProfiler, biaryl_set: geometries,
mapped atoms of the torsion, reference profiles in hartree). The CCSD(T) barriers of Lahey, Thien Phuc & Rowley, J.
Chem. Inf. Model. 60, 6258 (2020), are not in it. The molecules have no stereocentres, so E(-x) = E(x): 0 to 180 degrees
are driven, both ways, and mirrored.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import ase
import numpy as np

from heliodor.bench.result import KCAL, Row, Task
from heliodor.errors import HeliodorError, InputError
from heliodor.potential import Potential
from heliodor.scan import Axis, Profile, Scan, compare, torsion_scan
from heliodor.scan.profile import Comparison, profile_of_points
from heliodor.units import HARTREE, KCAL_PER_MOL

STEP = 15.0
"""Degrees."""

FILE = "OpenFF_Rowley_Biaryl_v1-0.sdf"
TITLE = "torsion barriers of biaryls, relaxed by the model"
LEVEL = "B3LYP-D3BJ/DZVP"


@dataclass(frozen=True)
class Biaryl:
    """One molecule; the reference profile in eV."""

    name: str
    smiles: str
    atoms: ase.Atoms
    dihedral: tuple[int, ...]
    reference: Profile


def read_biaryls(path: Path) -> list[Biaryl]:
    """All molecules of the SDF file; the torsion is that of the atoms mapped 1 to 4.

    Raises:
        InputError: the file cannot be read as that.
    """
    try:
        return [_biaryl(number, text) for number, text in enumerate(path.read_text().split("$$$$\n")) if text.strip()]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (IndexError, KeyError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} is not the biaryl set's SDF file: {error}") from None


def _biaryl(number: int, text: str) -> Biaryl:
    lines = text.splitlines()
    count = int(lines[3][:3])
    rows = lines[4 : 4 + count]
    positions = [[float(row[k : k + 10]) for k in (0, 10, 20)] for row in rows]
    atoms = ase.Atoms([row[31:34].strip() for row in rows], positions)
    charges = [line.split()[4::2] for line in lines if line.startswith("M  CHG")]
    atoms.info["charge"] = sum(int(q) for line in charges for q in line)
    mapped = {int(row[60:63]): k for k, row in enumerate(rows) if int(row[60:63])}
    tags = {line.split("<")[1].split(">")[0]: lines[k + 1] for k, line in enumerate(lines) if line.startswith(">  <")}
    angles = np.array(ast.literal_eval(tags["Angles_QCArchive"]), dtype=float)
    energies = np.array(ast.literal_eval(tags["Energy_QCArchive"])) * HARTREE
    reference = profile_of_points((angles + 180.0) % 360.0 - 180.0, energies - energies.min())
    return Biaryl(f"{number:02d}", tags["SMILES_QCArchive"], atoms, tuple(mapped[k] for k in (1, 2, 3, 4)), reference)


def drive(
    one: Biaryl,
    potential: Potential,
    step: float = STEP,
    record: Path | None = None,
    stop: Callable[[], bool] | None = None,
) -> Scan:
    """The relaxed profile from 0 to 180 degrees; goes on from ``record`` where there is one."""
    return torsion_scan(
        one.atoms,
        potential,
        [one.dihedral],
        axes=Axis.over(0.0, 180.0, step),
        record=record,
        restart=record is not None,
        stop=stop,
    )


def against_reference(one: Biaryl, scan: Scan, step: float = STEP) -> Comparison:
    """The scan mirrored to a whole turn against the reference: highest minus lowest points, eV.

    Raises:
        HeliodorError: a profile with holes.
    """
    if scan.missing:
        raise InputError(f"no structure at {scan.missing}")
    angles, inner = Axis.over(0.0, 180.0, step).angles, slice(1, -1)
    profile = profile_of_points(np.append(angles, -angles[inner]), np.append(scan.relative, scan.relative[inner]))
    return compare(profile, one.reference)


def biaryl_task(folder: Path) -> Task:
    """Barriers of all molecules: highest minus lowest point of the relaxed profile."""
    path = folder / FILE
    molecules = {f"{one.name} {one.atoms.get_chemical_formula()}": one for one in read_biaryls(path)}
    names = tuple(molecules)

    def rows(potential: Potential, items: Sequence[str]) -> Iterator[Row]:
        for name in items:
            one = molecules[name]
            group = "charged" if one.atoms.info["charge"] else "neutral"
            try:
                found = against_reference(one, drive(one, potential))
            except HeliodorError as error:
                yield Row(name, group=group, skipped=" ".join(str(error).split()))
                continue
            yield Row(
                name, found.reference_height / KCAL_PER_MOL, found.height / KCAL_PER_MOL, group, how="relaxed scan"
            )

    key = sha256(path.read_bytes() + f"{STEP}".encode()).hexdigest()
    return Task(
        "biaryls", TITLE, LEVEL, KCAL, key, names, (), rows,
        "a profile is driven from 0 to 180 degrees by 15, both ways", "hours",
    )  # fmt: skip
