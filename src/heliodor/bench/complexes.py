"""Which atoms of a complex are which of its monomers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import ase
import numpy as np
from ase.neighborlist import natural_cutoffs, neighbor_list
from jaxtyping import Float, Int

from heliodor.bench.reactions import Reaction
from heliodor.system import read_charge, read_spin

BOND_FACTOR = 1.2
"""As for crystals: covalent bonds are shorter than this times the sum of covalent radii, hydrogen bonds longer."""

SAME_SHAPE = 0.002
"""Å, largest difference of sorted distances: what rounding of coordinates to 0.001 Å does; more is a deformation."""

MANY = 6
"""Fragments of one formula beyond which not every way to name them is tried."""


@dataclass(frozen=True, eq=False)
class Binding:
    """A reaction that is a complex made of its monomers.

    Attributes:
        complex: name of its structure.
        sign: the complex's coefficient; the reference times it is negative for what is bound.
        monomers: name of the structure of each fragment.
        fragments: fragment of each atom of the complex.
        charges: of each fragment, e.
        deformed: whether a fragment's shape in the complex differs from that of its monomer.
    """

    complex: str
    sign: float
    monomers: tuple[str, ...]
    fragments: Int[np.ndarray, "N"]
    charges: Float[np.ndarray, "G"]
    deformed: tuple[bool, ...]


def binding_of(reaction: Reaction, structures: Mapping[str, ase.Atoms]) -> Binding | None:
    """The reaction as a complex minus its monomers; None if it is something else or the atoms cannot be told apart."""
    parts = _parts(reaction, structures)
    if parts is None:
        return None
    whole, sign, names = parts
    atoms, monomers = structures[whole], [structures[name] for name in names]
    if read_spin(atoms) or any(read_spin(one) for one in monomers):
        return None
    labels = _as_listed(atoms, monomers, SAME_SHAPE)
    for close in (False, True):
        if labels is None:
            labels = _by_pieces(atoms, monomers, close)
    if labels is None:
        labels = _as_listed(atoms, monomers, None)
    if labels is None:
        return None
    deformed = tuple(_unlike(shape(atoms[labels == k]), shape(one)) > SAME_SHAPE for k, one in enumerate(monomers))
    charges = np.array([read_charge(one) for one in monomers])
    return Binding(whole, sign, names, labels, charges, deformed)


def _parts(reaction: Reaction, structures: Mapping[str, ase.Atoms]) -> tuple[str, float, tuple[str, ...]] | None:
    """Complex, its coefficient, and a name for each fragment."""
    whole, sign = max(reaction.terms, key=lambda term: len(structures[term[0]]))
    names: list[str] = []
    for name, coefficient in reaction.terms:
        if name == whole:
            continue
        count = -coefficient * sign
        if count < 1 or count != int(count):
            return None
        names += [name] * int(count)
    if abs(sign) != 1.0 or len(names) < 2:
        return None
    return whole, sign, tuple(names)


def shape(atoms: ase.Atoms) -> Float[np.ndarray, "P"]:
    """Distances sorted within each pair of elements, Å: the same for every order of atoms, and for mirror images."""
    i, j = np.triu_indices(len(atoms), 1)
    low, high = np.minimum(atoms.numbers[i], atoms.numbers[j]), np.maximum(atoms.numbers[i], atoms.numbers[j])
    d = np.linalg.norm(atoms.positions[i] - atoms.positions[j], axis=1)
    return d[np.lexsort((d, high, low))]


def _unlike(a: Float[np.ndarray, "P"], b: Float[np.ndarray, "P"]) -> float:
    return float(np.abs(a - b).max()) if len(a) else 0.0


def _as_listed(atoms: ase.Atoms, monomers: list[ase.Atoms], tolerance: float | None) -> Int[np.ndarray, "N"] | None:
    """Monomer after monomer; with a tolerance their shapes, without one their bonds must say so too."""
    if not np.array_equal(atoms.numbers, np.concatenate([one.numbers for one in monomers])):
        return None
    labels = np.repeat(np.arange(len(monomers)), [len(one) for one in monomers])
    if tolerance is None:
        pieces = _pieces(atoms, close=False)
        whole = all(len(set(labels[pieces == piece])) == 1 for piece in np.unique(pieces))
        return labels if whole else None
    same = all(_unlike(shape(atoms[labels == k]), shape(one)) <= tolerance for k, one in enumerate(monomers))
    return labels if same else None


def _by_pieces(atoms: ase.Atoms, monomers: list[ase.Atoms], close: bool) -> Int[np.ndarray, "N"] | None:
    """Pieces held together by bonds, each given to a monomer of its formula, the most alike first."""
    pieces = _pieces(atoms, close)
    if pieces.max() + 1 != len(monomers):
        return None
    formulas = [_formula(atoms[pieces == k]) for k in range(len(monomers))]
    wanted = [_formula(one) for one in monomers]
    if Counter(formulas) != Counter(wanted):
        return None
    labels = np.zeros(len(atoms), dtype=int)
    for formula in set(wanted):
        mine = [k for k, f in enumerate(formulas) if f == formula]
        theirs = [k for k, f in enumerate(wanted) if f == formula]
        cost = np.array([[_unlike(shape(atoms[pieces == a]), shape(monomers[b])) for b in theirs] for a in mine])
        # with many of one formula (water clusters) they are all the same monomer
        orders = permutations(range(len(mine))) if len(mine) <= MANY else iter([tuple(range(len(mine)))])
        best = min(orders, key=lambda order: sum(cost[row, column] for row, column in enumerate(order)))
        for row, column in enumerate(best):
            labels[pieces == mine[row]] = theirs[column]
    return labels


def _formula(atoms: ase.Atoms) -> str:
    return str(atoms.get_chemical_formula("hill"))


def _pieces(atoms: ase.Atoms, close: bool) -> Int[np.ndarray, "N"]:
    """Index of the connected piece of each atom.

    Args:
        close: a hydrogen is bonded to its nearest heavier atom only, so that a shared proton belongs to one side.
    """
    i, j = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=BOND_FACTOR))
    if close:
        heavy = np.flatnonzero(atoms.numbers > 1)
        light = np.flatnonzero(atoms.numbers == 1)
        between = (atoms.numbers[i] > 1) & (atoms.numbers[j] > 1)
        i, j = i[between], j[between]
        if len(heavy) and len(light):
            distances = np.linalg.norm(atoms.positions[light][:, None] - atoms.positions[heavy][None], axis=-1)
            i, j = np.append(i, light), np.append(j, heavy[distances.argmin(axis=1)])
    labels = np.arange(len(atoms))
    while True:
        # the smallest label of neighbours spreads until nothing changes
        spread = labels.copy()
        np.minimum.at(spread, i, labels[j])
        np.minimum.at(spread, j, labels[i])
        if np.array_equal(spread, labels):
            return np.unique(labels, return_inverse=True)[1].astype(int)
        labels = spread
