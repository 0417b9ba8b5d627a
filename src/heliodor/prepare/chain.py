"""Heavy atoms of a peptide chain at given backbone angles: PeptideBuilder's geometry, caps, side chains apart."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError, MissingExtraError
from heliodor.prepare.sequence import ONE_LETTER, STATES

LETTER = {name: letter for letter, name in ONE_LETTER.items()}

FOLDS: dict[str, tuple[float, float, float]] = {
    "extended": (180.0, 180.0, 180.0),
    "alpha": (-57.8, -47.0, 180.0),
    "310": (-49.0, -26.0, 180.0),
    "pi": (-57.1, -69.7, 180.0),
    "beta": (-139.0, 135.0, -178.0),
    "ppii": (-78.0, 149.0, 180.0),
}
"""Phi, psi and omega in degrees. Extended is flat, as "fully extended structure" in GEMS; the others are those of the
IUPAC-IUB commission, Biochemistry 9, 3471 (1970), the alpha helix refined by Arnott and Dover, J. Mol. Biol. 30, 209
(1967); beta is antiparallel, ppii polyproline II."""

PROLINE_PHI = -65.0
"""Degrees; the ring of proline leaves phi little room, so chains turn there whatever the fold."""

CARBOXYL = 1.25
"""Å, of C-O in carboxylate."""

CONTACT = 3.4
"""Å; side chains are turned until heavy atoms of different residues are farther apart, where they can be."""

CHI = {
    name: tuple(tuple(four.split("-")) for four in text.split())
    for name, text in {
        "ARG": "N-CA-CB-CG CA-CB-CG-CD", "ASN": "N-CA-CB-CG CA-CB-CG-OD1", "ASP": "N-CA-CB-CG CA-CB-CG-OD1",
        "CYS": "N-CA-CB-SG", "GLN": "N-CA-CB-CG CA-CB-CG-CD", "GLU": "N-CA-CB-CG CA-CB-CG-CD",
        "HIS": "N-CA-CB-CG CA-CB-CG-ND1", "ILE": "N-CA-CB-CG1 CA-CB-CG1-CD1", "LEU": "N-CA-CB-CG CA-CB-CG-CD1",
        "LYS": "N-CA-CB-CG CA-CB-CG-CD", "MET": "N-CA-CB-CG CA-CB-CG-SD", "PHE": "N-CA-CB-CG CA-CB-CG-CD1",
        "SER": "N-CA-CB-OG", "THR": "N-CA-CB-OG1", "TRP": "N-CA-CB-CG CA-CB-CG-CD1", "TYR": "N-CA-CB-CG CA-CB-CG-CD1",
        "VAL": "N-CA-CB-CG1",
    }.items()
}  # fmt: skip
"""Side chain dihedrals that are turned, the first two of each residue."""


@dataclass(frozen=True, eq=False)
class Unit:
    """One residue or cap: its name and the positions (Å) of its heavy atoms by name."""

    name: str
    atoms: dict[str, Float[np.ndarray, "3"]]


def heavy_chain(
    residues: Sequence[str],
    front: str | None,
    end: str | None,
    angles: Sequence[tuple[float, float]],
    omega: float = 180.0,
) -> list[Unit]:
    """Build a chain from its amino end to its carboxyl end.

    A cap is the half of a glycine that stands at its place, so that its peptide bond is as good as the others.

    Args:
        residues: three-letter names; protonation states count as their amino acid.
        front, end: caps; ``"NH2"`` is built as NME, whose methyl becomes hydrogen when hydrogens are there.
        angles: (phi, psi) in degrees of each residue.

    Raises:
        MissingExtraError: PeptideBuilder is not installed.
    """
    try:
        import PeptideBuilder
        from PeptideBuilder import Geometry
    except ImportError:
        raise MissingExtraError("PeptideBuilder", "prepare") from None
    names = ["GLY"] * (front is not None) + [STATES.get(name, name) for name in residues] + ["GLY"] * (end is not None)
    torsions = [(180.0, 180.0)] * (front is not None) + list(angles) + [(180.0, 180.0)] * (end is not None)
    structure: Any = None
    for k, name in enumerate(names):
        geometry = Geometry.geometry(LETTER[name])
        geometry.phi, geometry.omega = torsions[k][0], omega
        geometry.psi_im1 = torsions[k - 1][1] if k else 180.0
        if structure is None:
            structure = PeptideBuilder.initialize_res(geometry)
        else:
            structure = PeptideBuilder.add_residue(structure, geometry)
    units = [
        Unit(residue.get_resname(), {atom.get_name(): np.array(atom.get_coord(), dtype=np.float64) for atom in residue})
        for residue in structure[0]["A"]
    ]
    if front is not None:
        atoms = units[0].atoms
        units[0] = Unit("ACE", {"CH3": atoms["CA"], "C": atoms["C"], "O": atoms["O"]})
    if end is not None:
        units[-1] = Unit("NME", {"N": units[-1].atoms["N"], "C": units[-1].atoms["CA"]})
    else:
        _carboxyl(units[-1], torsions[-1][1])
    return _turned(units)


def _carboxyl(unit: Unit, psi: float) -> None:
    """Both oxygens of a free end, in the plane psi gives them."""
    n, ca, c = (unit.atoms[name] for name in ("N", "CA", "C"))
    unit.atoms["OXT"] = placed(n, ca, c, CARBOXYL, 117.0, psi)
    unit.atoms["O"] = placed(n, ca, c, CARBOXYL, 117.0, psi + 180.0)


def placed(
    a: Float[np.ndarray, "3"],
    b: Float[np.ndarray, "3"],
    c: Float[np.ndarray, "3"],
    length: float,
    angle: float,
    dihedral: float,
) -> Float[np.ndarray, "3"]:
    """The place of d where |cd| is ``length`` (Å), b-c-d is ``angle`` and a-b-c-d is ``dihedral`` (degrees)."""
    along = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, along)
    normal /= np.linalg.norm(normal)
    theta, phi = np.radians(angle), np.radians(dihedral)
    return c + length * (
        -np.cos(theta) * along
        + np.sin(theta) * np.cos(phi) * np.cross(normal, along)
        + np.sin(theta) * np.sin(phi) * normal
    )


def dihedral(points: Float[np.ndarray, "4 3"]) -> float:
    """Degrees, -180 to 180."""
    a, b, c, d = points
    axis = (c - b) / np.linalg.norm(c - b)
    u, v = a - b, d - c
    u, v = u - (u @ axis) * axis, v - (v @ axis) * axis
    return float(np.degrees(np.arctan2(np.cross(axis, u) @ v, u @ v)))


def _turned(units: list[Unit]) -> list[Unit]:
    """Side chains turned about chi1 and chi2 in steps of 120° until they meet others as little as they can."""
    names = [name for unit in units for name in unit.atoms]
    owner = np.repeat(np.arange(len(units)), [len(unit.atoms) for unit in units])
    here = np.array([position for unit in units for position in unit.atoms.values()])
    place = {(int(owner[k]), name): k for k, name in enumerate(names)}
    for _ in range(2):
        for k, unit in enumerate(units):
            fours = [[place[k, name] for name in four] for four in CHI.get(unit.name, ())]
            if not fours:
                continue
            side = np.array([place[k, name] for name in unit.atoms if name not in ("N", "CA", "C", "O", "OXT")])
            others = np.flatnonzero(owner != k)
            beyond = [side[side != place[k, "CB"]]]
            if len(fours) > 1:
                near = np.linalg.norm(here[side] - here[fours[1][1]], axis=1) < 1.7
                beyond.append(side[~near & (side != fours[1][2])])
            turns = [(x, y) for x in (0.0, 120.0, 240.0) for y in ((0.0, 120.0, 240.0) if len(fours) > 1 else (0.0,))]
            trials = []
            for turn in turns:
                trial = here.copy()
                for four, moving, angle in zip(fours, beyond, turn, strict=False):
                    trial[moving] = _rotated(trial[moving], trial[four[1]], trial[four[2]], angle)
                trials.append(trial)
            here = trials[int(np.argmin([_crowding(trial[side], trial[others]) for trial in trials]))]
    positions = iter(here)
    return [Unit(unit.name, {name: next(positions) for name in unit.atoms}) for unit in units]


def _rotated(
    points: Float[np.ndarray, "n 3"], start: Float[np.ndarray, "3"], end: Float[np.ndarray, "3"], angle: float
) -> Float[np.ndarray, "n 3"]:
    axis = (end - start) / np.linalg.norm(end - start)
    x, turn = points - end, np.radians(angle)
    along = (x @ axis)[:, None] * axis
    return end + along + np.cos(turn) * (x - along) + np.sin(turn) * np.cross(axis, x)


def _crowding(side: Float[np.ndarray, "n 3"], others: Float[np.ndarray, "m 3"]) -> float:
    d = np.linalg.norm(side[:, None] - others[None], axis=2)
    return float((np.clip(CONTACT - d, 0.0, None) ** 2).sum())


def as_pdb(units: Sequence[Unit]) -> io.StringIO:
    """The chain as a PDB file, through which OpenMM learns names and bonds."""
    lines: list[str] = []
    for number, unit in enumerate(units, start=1):
        for name, (x, y, z) in unit.atoms.items():
            if not all(-999.0 < value < 9999.0 for value in (x, y, z)):
                raise InputError("the chain is too long for a PDB file")
            lines.append(
                f"ATOM  {len(lines) + 1:5d}  {name:<3s} {unit.name:3s} A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
                f"  1.00  0.00          {name[0]:>2s}"
            )
    return io.StringIO("\n".join([*lines, "TER", "END"]) + "\n")
