"""Soundness of a geometry: every bond of the graph is there, and no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float, Int

from heliodor.topology import BONDED

TEACHER = frozenset((1, 6, 7, 8, 9, 15, 16, 17))
"""Elements that SO3LR knows: H C N O F P S Cl."""

SHORTEST_BOND = 0.70
"""Times the sum of covalent radii; N2, the shortest for its radii, has 0.77."""

SHORTEST_ANGLE = 1.12
"""Times the sum of covalent radii, between atoms bonded to the same atom: S...S and P...P come to 1.3."""

LARGEST_ATOMIC_FORCE = 25.0
"""eV/Å; beyond this no label is used for training."""


@dataclass(frozen=True, eq=False)
class Shape:
    """Which distances N atoms may have.

    Attributes:
        numbers: atomic numbers.
        bonds: pairs of bonded atoms.
        low, high: Å, for pairs i < j; 0 and infinity elsewhere.
        charge: e.
    """

    numbers: Int[np.ndarray, "N"]
    bonds: Int[np.ndarray, "K 2"]
    low: Float[np.ndarray, "N N"]
    high: Float[np.ndarray, "N N"]
    charge: int

    def holds(self, positions: Float[np.ndarray, "N 3"]) -> bool:
        """Whether no bond is broken, crushed or made."""
        if not np.isfinite(positions).all():
            return False
        apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
        return bool((apart >= self.low).all() and (apart <= self.high).all())


def shape_of(mol: Any) -> Shape:
    """The shape of an ``rdkit.Chem.Mol`` with all hydrogens, of one molecule or several."""
    from rdkit import Chem

    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
    rows = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
    bonds = np.array(rows, dtype=np.int64).reshape(-1, 2)
    steps = Chem.GetDistanceMatrix(mol)
    radii = covalent_radii[numbers].astype(np.float64)
    sums = radii[:, None] + radii[None]
    low = np.where(steps < 1.5, SHORTEST_BOND, np.where(steps < 2.5, SHORTEST_ANGLE, BONDED)) * sums
    high = np.where(steps < 1.5, BONDED * sums, np.inf)
    upper = np.triu(np.ones_like(low, dtype=bool), 1)
    return Shape(numbers, bonds, np.where(upper, low, 0.0), np.where(upper, high, np.inf), Chem.GetFormalCharge(mol))


def fits_teacher(mol: Any) -> bool:
    """Elements of the teacher, closed shell, an even number of electrons."""
    from rdkit import Chem

    electrons = sum(atom.GetAtomicNum() for atom in mol.GetAtoms()) - Chem.GetFormalCharge(mol)
    return electrons % 2 == 0 and all(
        atom.GetAtomicNum() in TEACHER and not atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()
    )
