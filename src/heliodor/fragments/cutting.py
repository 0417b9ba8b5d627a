"""Which atoms a piece must have beside those inside a sphere, so that it can be closed with hydrogens."""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from ase.data import chemical_symbols, covalent_radii
from jaxtyping import Bool, Float, Int

from heliodor.errors import InputError
from heliodor.fragments.graph import ChemicalGraph
from heliodor.fragments.graph_of import shortest

COORDINATED = 1.3
"""Donor atoms closer to a metal than this times the sum of covalent radii belong to it."""

DONORS = (7, 8, 16, 34, 9, 17, 35, 53)
"""Atomic numbers of what binds metals."""


@dataclass(frozen=True, eq=False)
class Rules:
    """What decides on growth, of one structure with N atoms and M bonds.

    Attributes:
        bonds: of the graph.
        fixed: bonds that are never cut: to hydrogen (the real one is better than a cap), double and triple ones, and
            the graph's whole ones.
        follow: pairs (a, b): with a, b is inside too. Metals of charge 2 and more bring their donors with the atoms
            these are bonded to, and a donor brings its metal.
        water: atoms of water molecules.
    """

    bonds: Int[np.ndarray, "M 2"]
    fixed: Bool[np.ndarray, "M"]
    follow: Int[np.ndarray, "L 2"]
    water: Bool[np.ndarray, "N"]


def rules_of(atoms: ase.Atoms, graph: ChemicalGraph, *, water: bool = True) -> Rules:
    """The rules for a structure.

    Args:
        water: whether water may coordinate metals (it may not where it is left out).
    """
    bonds = graph.bonds
    fixed = (graph.orders > 1) | graph.whole
    fixed |= (graph.numbers[bonds] == 1).any(1)
    is_water = water_of(graph)
    follow = _coordination(atoms, graph, is_water if not water else np.zeros_like(is_water))
    return Rules(bonds, fixed, follow, is_water)


def water_of(graph: ChemicalGraph) -> Bool[np.ndarray, "N"]:
    """Atoms of molecules of one oxygen and two hydrogens bonded to it."""
    found = np.zeros(len(graph), dtype=bool)
    to_hydrogen = np.zeros(len(graph), dtype=np.int64)
    degree = np.bincount(graph.bonds.reshape(-1), minlength=len(graph))
    both = np.concatenate([graph.bonds, graph.bonds[:, ::-1]])
    light = both[graph.numbers[both[:, 1]] == 1]
    np.add.at(to_hydrogen, light[:, 0], 1)
    oxygen = (graph.numbers == 8) & (degree == 2) & (to_hydrogen == 2)
    found[oxygen] = True
    found[light[oxygen[light[:, 0]], 1]] = True
    return found


def grown(rules: Rules, inside: Bool[np.ndarray, "N"]) -> Bool[np.ndarray, "N"]:
    """The atoms inside, and all that must be there with them.

    An atom outside joins if a bond that is not cut leads to it from inside, or if two bonds of any kind do: their caps
    would point at one spot. Repeated until nothing changes.
    """
    here = inside.copy()
    i, j = rules.bonds.T
    while True:
        from_i = here[i]
        cross = np.flatnonzero(from_i ^ here[j])
        outside = np.where(from_i[cross], j[cross], i[cross])
        before = np.count_nonzero(here)
        here[outside[rules.fixed[cross]]] = True
        met, times = np.unique(outside, return_counts=True)
        here[met[times > 1]] = True
        here[rules.follow[here[rules.follow[:, 0]], 1]] = True
        if np.count_nonzero(here) == before:
            return here


def cut_bonds(rules: Rules, inside: Bool[np.ndarray, "N"]) -> tuple[Int[np.ndarray, "C"], Int[np.ndarray, "C"]]:
    """Atoms inside and outside of each bond that is cut."""
    i, j = rules.bonds.T
    from_i = inside[i]
    cross = np.flatnonzero(from_i ^ inside[j])
    first = from_i[cross]
    return np.where(first, i[cross], j[cross]), np.where(first, j[cross], i[cross])


def refuse_small(atoms: ase.Atoms, radius: float, shell: float) -> None:
    """
    Raises:
        InputError: a periodic box in which a sphere of this radius, and what joins it, could meet its own image.
    """
    if not atoms.pbc.any():
        return
    cell = np.asarray(atoms.cell)[atoms.pbc]
    thickness = 1.0 / np.linalg.norm(np.linalg.pinv(cell), axis=0)
    least = float(thickness.min())
    if least < 2.0 * (radius + shell):
        raise InputError(
            f"the box is {least:.1f} Å thick, less than {2.0 * (radius + shell):.1f} Å: a sphere of {radius:g} Å, with "
            f"{shell:g} Å around it for what must stay whole, would meet its own image; choose a smaller radius or a "
            "larger box"
        )


def _coordination(atoms: ase.Atoms, graph: ChemicalGraph, barred: Bool[np.ndarray, "N"]) -> Int[np.ndarray, "L 2"]:
    degree = np.bincount(graph.bonds.reshape(-1), minlength=len(graph))
    found: list[tuple[int, int]] = []
    donors = np.flatnonzero(np.isin(graph.numbers, DONORS) & ~barred)
    for metal in np.flatnonzero((degree == 0) & (graph.charges >= 2)).tolist():
        limit = COORDINATED * (covalent_radii[graph.numbers[metal]] + covalent_radii[graph.numbers[donors]])
        far = np.linalg.norm(shortest(atoms.positions[donors] - atoms.positions[metal], atoms), axis=1)
        for donor in donors[far < limit].tolist():
            found += [(metal, donor), (donor, metal), *((metal, other) for other, _ in graph.neighbors[donor])]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


CAP_LENGTHS = {5: 1.19, 6: 1.09, 7: 1.01, 8: 0.96, 14: 1.48, 15: 1.42, 16: 1.34, 33: 1.52, 34: 1.46}
"""Å from an atom to the hydrogen that caps it, by atomic number."""


def caps(
    numbers: Int[np.ndarray, "C"], hosts: Float[np.ndarray, "C 3"], gone: Float[np.ndarray, "C 3"]
) -> Float[np.ndarray, "C 3"]:
    """Places of the hydrogens on ``hosts`` along the bonds to what is cut off.

    Raises:
        InputError: an element that has no length in `CAP_LENGTHS`.
    """
    unknown = [z for z in np.unique(numbers).tolist() if z not in CAP_LENGTHS]
    if unknown:
        raise InputError(f"a bond of {chemical_symbols[unknown[0]]} would be cut, which hydrogen cannot close here")
    lengths = np.array([CAP_LENGTHS[z] for z in numbers.tolist()], dtype=np.float64)
    along = gone - hosts
    found: np.ndarray = hosts + along * (lengths / np.linalg.norm(along, axis=1))[:, None]
    return found
