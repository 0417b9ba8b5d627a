"""The Kekulé structures of a molecule: where the double bonds of its conjugated rings may stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product

from heliodor.errors import InputError
from heliodor.fragments.skeleton import Skeleton

MOST = 10_000
"""Kekulé structures of one ring system, at most."""

Bonds = frozenset[tuple[int, int]]


class Drawings:
    """All placements of the double bonds of a molecule that leave every atom its valence, charge and hydrogens.

    Double bonds move among neighbouring atoms that have one each: in the six-rings of benzene and indole, not in
    dienes, amides or pyrrole, where there is one way only.

    Raises:
        InputError: more than `MOST` ways in one ring system (large graphene-like sheets).
    """

    def __init__(self, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        doubled = Counter(atom for i, j, order in skeleton.bonds if order > 1 for atom in (i, j) * (order - 1))
        single = {atom for atom, count in doubled.items() if count == 1}
        own = {(i, j) for i, j, order in skeleton.bonds if order == 2 and {i, j} <= single}
        movable = {atom for pair in own for atom in pair}
        edges = [(i, j) for i, j, order in skeleton.bonds if order <= 2 and {i, j} <= movable]
        self._groups = []
        for atoms, bonds in _components(edges):
            ways = []
            for way in _matchings(sorted(atoms), bonds):
                ways.append(way)
                if len(ways) > MOST:
                    raise InputError(f"a system of rings has more than {MOST} Kekulé structures: too many to take all")
            if len(ways) > 1:
                self._groups.append((frozenset(atoms), frozenset(bonds), ways))
        self._made: dict[tuple[tuple[int, int], ...], Skeleton] = {}

    def of(self, atoms: tuple[int, ...]) -> Iterator[Skeleton]:
        """The molecule in every way that differs in the rings that some atoms are of."""
        touched = [k for k, (group, _, _) in enumerate(self._groups) if not group.isdisjoint(atoms)]
        for choice in product(*(range(len(self._groups[k][2])) for k in touched)):
            key = tuple(zip(touched, choice, strict=True))
            if key not in self._made:
                self._made[key] = self._drawn(key)
            yield self._made[key]

    def _drawn(self, key: tuple[tuple[int, int], ...]) -> Skeleton:
        orders = {(i, j): order for i, j, order in self._skeleton.bonds}
        for k, way in key:
            _, bonds, ways = self._groups[k]
            orders |= {pair: 2 if pair in ways[way] else 1 for pair in bonds}
        s = self._skeleton
        return Skeleton(s.elements, s.charges, s.valences, tuple((i, j, orders[i, j]) for i, j, _ in s.bonds))


def _components(edges: list[tuple[int, int]]) -> Iterator[tuple[set[int], list[tuple[int, int]]]]:
    left = list(edges)
    while left:
        atoms, grew = set(left[0]), True
        while grew:
            more = {a for pair in left if not atoms.isdisjoint(pair) for a in pair} - atoms
            atoms |= more
            grew = bool(more)
        yield atoms, [pair for pair in left if pair[0] in atoms]
        left = [pair for pair in left if pair[0] not in atoms]


def _matchings(atoms: list[int], bonds: list[tuple[int, int]]) -> Iterator[Bonds]:
    """Every set of bonds that touches each atom once."""
    if not atoms:
        yield frozenset()
        return
    first = atoms[0]
    for pair in bonds:
        if first not in pair:
            continue
        i, j = pair
        rest = [p for p in bonds if i not in p and j not in p]
        for others in _matchings([a for a in atoms if a not in pair], rest):
            yield others | {pair}
