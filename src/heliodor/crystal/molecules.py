"""The molecules of a periodic crystal: bonds across cell boundaries, unwrapped, told apart by their graphs."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from hashlib import sha256

import ase
import numpy as np
from ase.neighborlist import natural_cutoffs, neighbor_list

from heliodor.errors import InputError

BOND_FACTOR = 1.2
"""Atoms closer than this times the sum of their covalent radii (Cordero 2008, as in ASE) are bonded.

Covalent bonds lie below 1.1, strained ones included; the shortest hydrogen bonds of X23 are at 1.5.
"""

SAME_SHAPE = 0.02
"""Å, root mean square over sorted interatomic distances: molecules of one graph closer than this are one conformer."""


@dataclass(frozen=True)
class Molecule:
    """A molecule of a crystal, in one piece.

    Attributes:
        indices: [n] its atoms in the crystal.
        shifts: [n, 3] lattice translations that bring them together.
        atoms: without cell, at crystal positions plus shifts; the atoms in the crystal's order.
        key: names element-labelled bond graphs up to isomorphism (as far as colour refinement can tell them apart).
    """

    indices: np.ndarray
    shifts: np.ndarray
    atoms: ase.Atoms
    key: str

    @property
    def formula(self) -> str:
        """In Hill order."""
        return str(self.atoms.get_chemical_formula("hill"))

    def at(self, crystal: ase.Atoms) -> ase.Atoms:
        """The same atoms of ``crystal`` (a relaxed one, not wrapped anew), without cell."""
        positions = crystal.positions[self.indices] + self.shifts @ crystal.cell.array
        return ase.Atoms(numbers=crystal.numbers[self.indices], positions=positions)


def find_molecules(crystal: ase.Atoms, bond_factor: float = BOND_FACTOR) -> list[Molecule]:
    """All molecules of a crystal, each in one piece, however the file cuts them at the cell's faces.

    Args:
        bond_factor: bonds are shorter than this times the sum of covalent radii.

    Raises:
        InputError: not periodic in three directions; a factor out of range; bonds that go on without end (metals,
            networks, salts).
    """
    if not crystal.pbc.all():
        raise InputError("a crystal is periodic in three directions and this structure is not: give it a cell")
    if not 0.8 <= bond_factor <= 1.6:
        raise InputError(f"the bond factor must lie between 0.8 and 1.6, not {bond_factor:g}")
    partners = _partners(crystal, bond_factor)
    place: dict[int, np.ndarray] = {}
    found = []
    for start in range(len(crystal)):
        if start in place:
            continue
        place[start] = np.zeros(3, dtype=int)
        queue, members = deque([start]), []
        while queue:
            i = queue.popleft()
            members.append(i)
            for j, shift in partners[i]:
                there = place[i] + shift
                if j not in place:
                    place[j] = there
                    queue.append(j)
                elif (place[j] != there).any():
                    _refuse_endless(crystal, i, j)
        members.sort()
        indices, shifts = np.array(members), np.array([place[k] for k in members])
        positions = crystal.positions[indices] + shifts @ crystal.cell.array
        atoms = ase.Atoms(numbers=crystal.numbers[indices], positions=positions)
        found.append(Molecule(indices, shifts, atoms, graph_key(atoms, bond_factor)))
    return found


def graph_key(molecule: ase.Atoms, bond_factor: float = BOND_FACTOR) -> str:
    """Formula and a hash of the bond graph of a structure without cell, the same for every order of its atoms.

    The hash is that of Weisfeiler and Lehman's colour refinement: it tells constitutional isomers apart but for
    some regular graphs, and knows nothing of stereochemistry.
    """
    partners = _partners(molecule, bond_factor)
    colours = [str(z) for z in molecule.numbers]
    kinds = len(set(colours))
    while True:
        words = [f"{colours[i]}({','.join(sorted(colours[j] for j, _ in partners[i]))})" for i in range(len(molecule))]
        colours = [sha256(word.encode()).hexdigest()[:16] for word in words]
        if len(set(colours)) == kinds:
            break
        kinds = len(set(colours))
    digest = sha256(" ".join(sorted(colours)).encode()).hexdigest()[:12]
    return f"{molecule.get_chemical_formula('hill')}:{digest}"


def conformers(molecules: list[Molecule], tolerance: float = SAME_SHAPE) -> list[list[int]]:
    """Indices of molecules grouped by shape: same graph, same distances; mirror images count as one.

    Args:
        tolerance: Å, root mean square over the sorted distances of each pair of elements.
    """
    groups: list[list[int]] = []
    prints = [_fingerprint(molecule.atoms) for molecule in molecules]
    for index, molecule in enumerate(molecules):
        for group in groups:
            first = group[0]
            if molecules[first].key == molecule.key and _apart(prints[first], prints[index]) <= tolerance:
                group.append(index)
                break
        else:
            groups.append([index])
    return groups


def is_linear(molecule: ase.Atoms) -> bool:
    """Whether all atoms lie within 0.05 Å (root sum of squares) of one line; false for a single atom."""
    if len(molecule) < 2:
        return False
    centred = molecule.positions - molecule.positions.mean(axis=0)
    return bool(np.linalg.svd(centred, compute_uv=False)[1] < 0.05)


def formula_unit(counts: Counter[str]) -> tuple[int, dict[str, int]]:
    """Formula units Z in a cell and the molecules of each key in one of them."""
    z = int(np.gcd.reduce(list(counts.values())))
    return z, {key: count // z for key, count in counts.items()}


def _partners(atoms: ase.Atoms, bond_factor: float) -> list[list[tuple[int, np.ndarray]]]:
    reach = natural_cutoffs(atoms, mult=bond_factor)
    i, j, shift = neighbor_list("ijS", atoms, reach)
    partners: list[list[tuple[int, np.ndarray]]] = [[] for _ in range(len(atoms))]
    for a, b, s in zip(i.tolist(), j.tolist(), shift, strict=True):
        partners[a].append((b, s))
    return partners


def _refuse_endless(crystal: ase.Atoms, i: int, j: int) -> None:
    names = " and ".join(f"{crystal.symbols[k]} (atom {k})" for k in dict.fromkeys((i, j)))
    raise InputError(
        f"no molecular crystal: bonds through {names} go on without end, as in a metal, a network or a salt; if these "
        "are contacts and no bonds, lower the bond factor (--bond-factor)"
    )


def _fingerprint(molecule: ase.Atoms) -> np.ndarray:
    """Sorted distances, pair of elements by pair of elements, Å."""
    n = len(molecule)
    i, j = np.triu_indices(n, 1)
    low = np.minimum(molecule.numbers[i], molecule.numbers[j])
    high = np.maximum(molecule.numbers[i], molecule.numbers[j])
    d = np.linalg.norm(molecule.positions[i] - molecule.positions[j], axis=1)
    order: np.ndarray = np.lexsort((d, high, low))
    return d[order]


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(a - b)))) if len(a) else 0.0
