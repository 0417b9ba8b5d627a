"""What is wrong with a crystal structure as it was handed in: missing hydrogens, ions."""

from __future__ import annotations

import ase
import numpy as np
from ase.neighborlist import natural_cutoffs, neighbor_list

from heliodor.crystal.molecules import BOND_FACTOR, Molecule
from heliodor.errors import InputError

TRIPLE = 1.24
"""Å; a carbon or nitrogen with one partner closer than this is that of a nitrile, isonitrile, CO or N2."""

CARBONYL = 1.32
"""Å; a C-O longer than this is a single bond, whose oxygen has a second partner."""

IMINE = 1.30
"""Å; a C-N longer than this, to a nitrogen without another partner, is an amine's or amide's."""


def unsaturated_atoms(molecule: ase.Atoms, bond_factor: float = BOND_FACTOR) -> list[int]:
    """Atoms of C, N and O that seem to lack hydrogens, from the number and directions of their bonds.

    X-ray structures often come without hydrogens. Told by: a carbon with no partner, with one that is not at the
    distance of a triple bond, with two at an angle below 150°, or with three of which it stands out; a nitrogen with
    one partner further than a double bond; an oxygen alone, or singly bonded to carbon only. What can be either
    (a pyridine or an amine without its hydrogen) is not told.
    """
    i, j, d, vectors = neighbor_list("ijdD", molecule, natural_cutoffs(molecule, mult=bond_factor))
    found = []
    for atom, element in enumerate(molecule.symbols):
        mine = i == atom
        lengths, ends = d[mine], [str(molecule.symbols[k]) for k in j[mine]]
        directions = vectors[mine] / lengths[:, None]
        if (
            (element == "C" and _carbon_lacks(lengths, directions))
            or (element == "N" and ends == ["C"] and lengths[0] > IMINE)
            or (element == "O" and (not ends or (ends == ["C"] and lengths[0] > CARBONYL)))
        ):
            found.append(atom)
    return found


def check_hydrogens(molecules: list[Molecule], bond_factor: float = BOND_FACTOR) -> list[str]:
    """Notes about atoms that seem to lack hydrogens.

    Raises:
        InputError: the crystal has no hydrogens at all and some atoms ask for them.
    """
    lacking = [(m, k) for m in molecules for k in unsaturated_atoms(m.atoms, bond_factor)]
    if not lacking:
        return []
    named = ", ".join(f"{m.atoms.symbols[k]} (atom {m.indices[k]})" for m, k in lacking[:3])
    named += f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    if not any((m.atoms.numbers == 1).any() for m in molecules):
        raise InputError(
            f"the crystal has no hydrogens, and {named} cannot do without: structures from X-rays often leave them "
            "out; take one that has them, or add them with a program such as Mercury or Open Babel"
        )
    return [f"valences look incomplete at {named}: are hydrogens missing?"]


def check_electrons(molecules: list[Molecule]) -> None:
    """Refuse molecules that cannot be neutral closed shells, as the ions of most salts.

    Raises:
        InputError: an odd number of electrons.
    """
    for molecule in molecules:
        if int(molecule.atoms.numbers.sum()) % 2:
            raise InputError(
                f"{molecule.formula} (with atom {molecule.indices[0]}) has an odd number of electrons when neutral: "
                "an ion of a salt or a radical, for which no lattice energy against neutral molecules is computed"
            )


def _carbon_lacks(lengths: np.ndarray, directions: np.ndarray) -> bool:
    if len(lengths) == 0:
        return True
    if len(lengths) == 1:
        return bool(lengths[0] > TRIPLE)
    cosines = directions @ directions.T
    if len(lengths) == 2:
        return bool(cosines[0, 1] > np.cos(np.deg2rad(150.0)))
    # of three unit vectors: 0 in a plane, 0.5 in the buckyball, 0.77 in a tetrahedron
    return len(lengths) == 3 and bool(abs(np.linalg.det(directions)) > 0.6)
