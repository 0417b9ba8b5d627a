"""The heavy atoms of a chemical graph: what fragments are cut from, hydrogens being put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase.data import chemical_symbols

from heliodor.errors import InputError
from heliodor.fragments.graph import ChemicalGraph

VALENCES: dict[int, tuple[int, ...]] = {
    **dict.fromkeys((2, 10, 18, 36, 54), (0,)),
    **dict.fromkeys((5, 13), (3,)),
    **dict.fromkeys((6, 14, 32), (4,)),
    7: (3,),
    **dict.fromkeys((15, 33), (3, 5)),
    8: (2,),
    **dict.fromkeys((16, 34), (2, 4, 6)),
    9: (1,),
    **dict.fromkeys((17, 35, 53), (1, 3, 5, 7)),
}
"""Sums of bond orders that leave no electron unpaired, by the number of electrons: N⁺ binds as C does, O⁻ as F."""

METALS = frozenset((*range(21, 31), *range(39, 49), *range(57, 81), *range(89, 113)))
"""Atomic numbers whose bonds a chemical graph does not hold."""


Piece = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[tuple[int, int, int], ...]]
"""Elements, formal charges and hydrogens of some heavy atoms, and their bonds (i, j, order): a saturated fragment."""


@dataclass(frozen=True)
class Skeleton:
    """N heavy atoms; hashable, so that equal molecules are met once.

    Attributes:
        elements: atomic numbers.
        charges: formal charges, e.
        valences: sums of the orders of all bonds, those to hydrogen included: what saturation restores.
        bonds: (i, j, order), i < j, ascending.
    """

    elements: tuple[int, ...]
    charges: tuple[int, ...]
    valences: tuple[int, ...]
    bonds: tuple[tuple[int, int, int], ...]

    def __len__(self) -> int:
        return len(self.elements)

    @cached_property
    def adjacency(self) -> tuple[int, ...]:
        """For each atom the set of its neighbours as a bit mask."""
        masks = [0] * len(self)
        for i, j, _ in self.bonds:
            masks[i] |= 1 << j
            masks[j] |= 1 << i
        return tuple(masks)

    @cached_property
    def upward(self) -> tuple[dict[int, int], ...]:
        """For each atom the orders of its bonds to atoms of higher index."""
        found: list[dict[int, int]] = [{} for _ in range(len(self))]
        for i, j, order in self.bonds:
            found[i][j] = order
        return tuple(found)

    def part(self, atoms: tuple[int, ...]) -> Skeleton:
        """The induced subgraph on atoms in ascending order."""
        place = {atom: k for k, atom in enumerate(atoms)}
        bonds = tuple(
            (k, place[other], order)
            for k, atom in enumerate(atoms)
            for other, order in self.upward[atom].items()
            if other in place
        )
        return Skeleton(
            tuple([self.elements[a] for a in atoms]),
            tuple([self.charges[a] for a in atoms]),
            tuple([self.valences[a] for a in atoms]),
            bonds,
        )

    def piece(self, atoms: tuple[int, ...]) -> Piece:
        """The induced subgraph on atoms in ascending order, saturated: each keeps its valence."""
        left = [self.valences[a] for a in atoms]
        bonds = []
        for k, atom in enumerate(atoms):
            upward = self.upward[atom]
            if not upward:
                continue
            for m in range(k + 1, len(atoms)):
                order = upward.get(atoms[m])
                if order is not None:
                    bonds.append((k, m, order))
                    left[k] -= order
                    left[m] -= order
        elements, charges = self.elements, self.charges
        return tuple([elements[a] for a in atoms]), tuple([charges[a] for a in atoms]), tuple(left), tuple(bonds)

    @property
    def hydrogens(self) -> tuple[int, ...]:
        """On each atom."""
        return self.piece(tuple(range(len(self))))[2]


def without_metals(graph: ChemicalGraph) -> ChemicalGraph:
    """Without the single ions that bottom-up fragments refuse; other atoms are numbered anew."""
    stay = np.array([z not in METALS or bool(graph.neighbors[k]) for k, z in enumerate(graph.numbers.tolist())])
    place = np.cumsum(stay) - 1
    return ChemicalGraph(graph.numbers[stay], place[graph.bonds], graph.orders, graph.whole, graph.charges[stay])


def skeletons(graph: ChemicalGraph) -> Iterator[Skeleton]:
    """The heavy atoms of each molecule of a graph, in order of first atoms; molecules without any are left out.

    Raises:
        InputError: an atom whose bonds leave an electron unpaired, naming the atom (hydrogens, bond orders or
            charges are missing, or it is a radical); a metal; a hydrogen without or with two bonds.
    """
    whole = _skeleton(graph)
    place = {atom: k for k, atom in enumerate(whole[1])}
    skeleton = whole[0]
    seen = [False] * len(skeleton)
    for first in range(len(skeleton)):
        if seen[first]:
            continue
        seen[first] = True
        found, waiting = [first], [first]
        while waiting:
            for neighbor, _ in graph.neighbors[whole[1][waiting.pop()]]:
                k = place.get(neighbor)
                if k is not None and not seen[k]:
                    seen[k] = True
                    found.append(k)
                    waiting.append(k)
        yield skeleton.part(tuple(sorted(found)))


def _skeleton(graph: ChemicalGraph) -> tuple[Skeleton, list[int]]:
    numbers, charges, orders = graph.numbers.tolist(), graph.charges.tolist(), graph.orders.tolist()
    valences = [0] * len(graph)
    for (i, j), order in zip(graph.bonds.tolist(), orders, strict=True):
        if order not in (1, 2, 3):
            raise InputError(f"the bond between atoms {i} and {j} has order {order}: fragments need 1, 2 or 3")
        valences[i] += order
        valences[j] += order
    for atom, (z, charge, valence) in enumerate(zip(numbers, charges, valences, strict=True)):
        _check(atom, z, charge, valence)
    heavy = [atom for atom, z in enumerate(numbers) if z != 1]
    place = {atom: k for k, atom in enumerate(heavy)}
    bonds = tuple(
        sorted(
            (place[i], place[j], order)
            for (i, j), order in zip(graph.bonds.tolist(), orders, strict=True)
            if i in place and j in place
        )
    )
    skeleton = Skeleton(
        tuple(numbers[a] for a in heavy), tuple(charges[a] for a in heavy), tuple(valences[a] for a in heavy), bonds
    )
    return skeleton, heavy


def _check(atom: int, z: int, charge: int, valence: int) -> None:
    if z == 1:
        if (valence, charge) != (1, 0):
            raise InputError(f"atom {atom} (H) has {valence} bonds and charge {charge:+d}: a hydrogen has one bond")
        return
    name = chemical_symbols[z]
    if z in METALS:
        raise InputError(
            f"atom {atom} is {name}: bottom-up fragments follow covalent bonds, and those of metals are not known; "
            "leave it out here, and let top-down fragments hold it"
        )
    allowed = VALENCES.get(z - charge, ())
    if valence in allowed:
        return
    expected = " or ".join(map(str, allowed)) or "no valence known"
    raise InputError(
        f"atom {atom} ({name}, formal charge {charge:+d}) has bonds of orders that add up to {valence}, not "
        f"{expected}: its hydrogens, a bond order or a charge is missing, or it is a radical; bottom-up fragments need "
        "a closed-shell structure with all hydrogens and integer bond orders"
    )
