"""Dihedrals of a molecule: which can be turned, turning them, the bonds they hang on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from ase.data import covalent_radii

from heliodor.errors import InputError, MissingExtraError

BONDED, BROKEN, FORMED = 1.3, 1.6, 1.1
"""Distances over the sum of covalent radii: bonded at the start; later too far for an old bond, near enough for a new
one. Hydrogen bonds and crowded contacts of a strained conformer lie well above the last."""

LINEAR = 170.0
"""Degrees; around an angle wider than this a dihedral means nothing."""

MATCH = 3.0
"""Degrees by which the dihedrals of a reference geometry may miss those of a grid point."""

Dihedral = tuple[int, int, int, int]


@dataclass(frozen=True)
class Rotor:
    """A dihedral that can be turned.

    Attributes:
        atoms: a, b, c, d, from 0; b-c is the axis.
        moving: atoms that turn with d, those on the axis left out.
    """

    atoms: Dihedral
    moving: tuple[int, ...]

    @property
    def name(self) -> str:
        return "-".join(map(str, self.atoms))


def bonds_of(atoms: ase.Atoms) -> np.ndarray:
    """[N, N] whether bonded: closer than `BONDED` times the sum of covalent radii (Cordero 2008, as in ASE)."""
    bonds = _reduced(atoms) < BONDED
    np.fill_diagonal(bonds, False)
    return bonds


def changed_bond(atoms: ase.Atoms, bonds: np.ndarray) -> str | None:
    """The first bond that broke or formed, in words; None where the molecule is still the same."""
    reduced = _reduced(atoms)
    for a in range(len(atoms)):
        for b in range(a):
            what = None
            if bonds[a, b]:
                what = "broke" if reduced[a, b] > BROKEN else None
            elif reduced[a, b] < FORMED:
                what = "formed"
            if what:
                return f"a bond {what} between atoms {b} ({atoms[b].symbol}) and {a} ({atoms[a].symbol})"
    return None


def rotor(atoms: ase.Atoms, dihedral: Sequence[int], bonds: np.ndarray) -> Rotor:
    """A dihedral, checked.

    Args:
        dihedral: four atoms, counted from 0, bonded one to the next.
        bonds: from `bonds_of`.

    Raises:
        InputError: repeated atoms or atoms that do not exist, are not bonded, in a ring, or in a line.
    """
    name = "-".join(map(str, dihedral))
    if len(dihedral) != 4:
        raise InputError(f"a dihedral has four atoms, {name} has {len(dihedral)}")
    a, b, c, d = (int(atom) for atom in dihedral)
    for atom in (a, b, c, d):
        if not 0 <= atom < len(atoms):
            raise InputError(
                f"dihedral {name}: there is no atom {atom}; {len(atoms)} atoms are counted from 0 to {len(atoms) - 1}"
            )
    if len({a, b, c, d}) != 4:
        raise InputError(f"dihedral {name} names an atom twice")
    for first, second in ((a, b), (b, c), (c, d)):
        if not bonds[first, second]:
            raise InputError(
                f"dihedral {name}: atoms {first} and {second} are not bonded "
                f"({atoms.get_distance(first, second):.2f} Å apart); name four atoms along a chain (counted from 0)"
            )
    for ends in ((a, b, c), (b, c, d)):
        angle = atoms.get_angle(*ends)
        if angle > LINEAR:
            raise InputError(
                f"dihedral {name}: atoms {ends[0]}, {ends[1]}, {ends[2]} lie in a line ({angle:.1f}°), so that it has "
                "no definite value; take atoms beyond the linear part"
            )
    side = _beyond(bonds, b, c)
    if b in side:
        raise InputError(f"dihedral {name}: the bond {b}-{c} is in a ring and cannot be turned")
    return Rotor((a, b, c, d), tuple(sorted(side - {c})))


def angles_of(atoms: ase.Atoms, rotors: Sequence[Rotor]) -> np.ndarray:
    """[number of dihedrals] degrees in [-180, 180), IUPAC sign."""
    values = np.array([atoms.get_dihedral(*r.atoms) for r in rotors])
    return (values + 180.0) % 360.0 - 180.0


def turned(atoms: ase.Atoms, rotors: Sequence[Rotor], angles: Sequence[float]) -> ase.Atoms:
    """A copy with dihedrals at given values (degrees); bonds, angles and all else inside the parts stay."""
    atoms = atoms.copy()
    for r, angle in zip(rotors, angles, strict=True):
        b, c = atoms.positions[r.atoms[1]], atoms.positions[r.atoms[2]]
        turn = np.radians(angle - angles_of(atoms, [r])[0])
        axis = (c - b) / np.linalg.norm(c - b)
        arms = atoms.positions[list(r.moving)] - c
        along = np.outer(arms @ axis, axis)
        # Rodrigues: right-handed about b->c is the positive sense of a dihedral
        new = along + np.cos(turn) * (arms - along) + np.sin(turn) * np.cross(axis, arms)
        atoms.positions[list(r.moving)] = c + new
    return atoms


def dihedral_around(atoms: ase.Atoms, bond: Sequence[int], bonds: np.ndarray) -> Dihedral:
    """The dihedral around a bond by its heaviest neighbours (of equal ones the first).

    Raises:
        InputError: no such bond, or an end with nothing else bonded to it.
    """
    if len(bond) != 2 or not all(0 <= atom < len(atoms) for atom in bond) or not bonds[bond[0], bond[1]]:
        raise InputError(f"there is no bond between atoms {' and '.join(map(str, bond))} (counted from 0)")
    b, c = (int(atom) for atom in bond)

    def neighbour(of: int, other: int) -> int:
        beside = [int(atom) for atom in np.flatnonzero(bonds[of]) if atom != other]
        if not beside:
            raise InputError(f"nothing but atom {other} is bonded to atom {of}: no dihedral around bond {b}-{c}")
        return min(beside, key=lambda atom: (-int(atoms.numbers[atom]), atom))

    return neighbour(b, c), b, c, neighbour(c, b)


def dihedral_of_smarts(atoms: ase.Atoms, smarts: str, charge: int = 0) -> Dihedral:
    """The first match of a SMARTS pattern of four atoms, or of the atoms mapped :1 to :4 in a longer one.

    Bond orders come from RDKit's reading of the geometry (Kim & Kim, Bull. Korean Chem. Soc. 36, 1769 (2015)).

    Raises:
        InputError: bad pattern, no match, bonds that cannot be found.
        MissingExtraError: RDKit is not installed.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdDetermineBonds
    except ImportError:
        raise MissingExtraError("rdkit", "prepare") from None
    with rdBase.BlockLogs():
        return _match(Chem, rdDetermineBonds, atoms, smarts, charge)


def _match(chem: Any, determine: Any, atoms: ase.Atoms, smarts: str, charge: int) -> Dihedral:
    pattern = chem.MolFromSmarts(smarts)
    if pattern is None:
        raise InputError(f"{smarts!r} is no SMARTS pattern")
    mapped = {atom.GetAtomMapNum(): atom.GetIdx() for atom in pattern.GetAtoms() if atom.GetAtomMapNum()}
    places = [mapped[k] for k in (1, 2, 3, 4)] if mapped.keys() == {1, 2, 3, 4} else list(range(pattern.GetNumAtoms()))
    if len(places) != 4:
        raise InputError(f"{smarts!r} must have four atoms, or four mapped as [*:1] to [*:4]")
    lines = [f"{a.symbol} {a.x:.8f} {a.y:.8f} {a.z:.8f}" for a in atoms]
    molecule = chem.MolFromXYZBlock("\n".join([str(len(atoms)), "", *lines]) + "\n")
    try:
        determine.DetermineBonds(molecule, charge=charge)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"RDKit finds no bonds for --smarts ({error}): name the atoms with --dihedral") from None
    match = molecule.GetSubstructMatch(pattern)
    if not match:
        raise InputError(f"{smarts!r} matches nothing in this molecule")
    a, b, c, d = (int(match[k]) for k in places)
    return a, b, c, d


def rmsd(atoms: ase.Atoms, reference: ase.Atoms) -> float:
    """Å over all atoms after the best superposition (Kabsch, Acta Cryst. A 32, 922 (1976)), without reflection.

    Raises:
        InputError: different atoms.
    """
    if not np.array_equal(atoms.numbers, reference.numbers):
        raise InputError("a reference geometry must have the same atoms in the same order")
    x, y = (frame.positions - frame.positions.mean(0) for frame in (atoms, reference))
    u, values, vt = np.linalg.svd(x.T @ y)
    values[-1] *= np.sign(np.linalg.det(u @ vt))
    square = (np.square(x).sum() + np.square(y).sum() - 2.0 * values.sum()) / len(atoms)
    return float(np.sqrt(max(square, 0.0)))


def _reduced(atoms: ase.Atoms) -> np.ndarray:
    radii = covalent_radii[atoms.numbers]
    return np.asarray(atoms.get_all_distances() / (radii[:, None] + radii[None, :]))


def _beyond(bonds: np.ndarray, b: int, c: int) -> set[int]:
    """Atoms reached from c without the bond b-c."""
    reached, front = {c}, [c]
    while front:
        atom = front.pop()
        new = [int(k) for k in np.flatnonzero(bonds[atom]) if k not in reached and (atom, int(k)) != (c, b)]
        reached.update(new)
        front.extend(new)
    return reached
