"""Which bonds must not be cut although they are single in one Kekulé structure: aromatic ones and resonance groups."""

from __future__ import annotations

from collections import deque

import numpy as np
from jaxtyping import Bool, Int

LARGEST_RING = 7
"""Atoms of a ring that is looked at for aromaticity."""


def whole_bonds(
    numbers: Int[np.ndarray, "N"],
    degree: Int[np.ndarray, "N"],
    bonds: Int[np.ndarray, "M 2"],
    orders: Int[np.ndarray, "M"],
    charges: Int[np.ndarray, "N"],
) -> Bool[np.ndarray, "M"]:
    """Bonds of aromatic rings (4n+2 π electrons) and of charges that are shared: carboxylates, nitro groups,
    phosphates and sulfonates (O-, S- beside a doubly bonded one), guanidinium, amidinium and imidazolium (=N+ beside
    -N on one carbon)."""
    whole = np.zeros(len(bonds), dtype=bool)
    if not (orders > 1).any():
        return whole
    partners: dict[int, list[tuple[int, int]]] = {}
    double = np.zeros(len(numbers), dtype=bool)
    double[bonds[orders > 1]] = True
    lone = np.isin(numbers, (7, 8, 16, 34)) & (degree >= 2) & (degree <= 3)
    terminal = np.isin(numbers, (7, 8, 16, 34)) & (degree == 1)
    of_interest = (double | lone | terminal)[bonds].all(1)
    for row in np.flatnonzero(of_interest).tolist():
        i, j = bonds[row].tolist()
        partners.setdefault(i, []).append((j, row))
        partners.setdefault(j, []).append((i, row))
    whole[_shared(partners, numbers, degree, bonds, orders, charges)] = True
    whole[_aromatic(partners, numbers, degree, orders, charges)] = True
    return whole


def _shared(
    partners: dict[int, list[tuple[int, int]]],
    numbers: Int[np.ndarray, "N"],
    degree: Int[np.ndarray, "N"],
    bonds: Int[np.ndarray, "M 2"],
    orders: Int[np.ndarray, "M"],
    charges: Int[np.ndarray, "N"],
) -> list[int]:
    found = []
    for row in np.flatnonzero(orders == 2).tolist():
        for centre, end in (bonds[row].tolist(), bonds[row, ::-1].tolist()):
            for other, single in partners.get(centre, ()):
                if orders[single] != 1:
                    continue
                minus = charges[other] == -1 and charges[end] == 0 and degree[other] == degree[end] == 1
                oxo = minus and numbers[other] in (8, 16, 34) and numbers[end] in (8, 16, 34)
                plus = charges[end] == 1 and numbers[end] == numbers[other] == 7 and degree[other] == 3
                if oxo or (plus and charges[other] == 0 and numbers[centre] == 6):
                    found += [row, single]
    return found


def _aromatic(
    partners: dict[int, list[tuple[int, int]]],
    numbers: Int[np.ndarray, "N"],
    degree: Int[np.ndarray, "N"],
    orders: Int[np.ndarray, "M"],
    charges: Int[np.ndarray, "N"],
) -> list[int]:
    core = _in_cycles(partners)
    rings: dict[frozenset[int], list[int]] = {}
    for i, pairs in core.items():
        for j, row in pairs:
            if i < j:
                ring = _smallest_ring(core, i, j, row)
                if ring is not None:
                    rings.setdefault(frozenset(ring[0]), ring[1])
    in_ring = {row for rows in rings.values() for row in rows}
    found = []
    for ring_atoms, rows in rings.items():
        electrons = 0
        for atom in ring_atoms:
            given = _given(atom, partners, in_ring, numbers, degree, orders, charges)
            if given is None:
                break
            electrons += given
        else:
            if electrons % 4 == 2:
                found += rows
    return found


def _given(
    atom: int,
    partners: dict[int, list[tuple[int, int]]],
    in_ring: set[int],
    numbers: Int[np.ndarray, "N"],
    degree: Int[np.ndarray, "N"],
    orders: Int[np.ndarray, "M"],
    charges: Int[np.ndarray, "N"],
) -> int | None:
    """π electrons of an atom for its ring; None where it has none to give and no empty place either."""
    for other, row in partners[atom]:
        if orders[row] == 2:
            if row in in_ring:
                return 1
            return 0 if numbers[other] in (7, 8, 16) else None
    pair = numbers[atom] in (7, 8, 16, 34) and (degree[atom] == 2 or (degree[atom] == 3 and charges[atom] == 0))
    return 2 if pair else None


def _in_cycles(partners: dict[int, list[tuple[int, int]]]) -> dict[int, list[tuple[int, int]]]:
    """What is left when ends of branches are taken away again and again."""
    count = {atom: len(pairs) for atom, pairs in partners.items()}
    rest = deque(atom for atom, k in count.items() if k < 2)
    gone = set(rest)
    while rest:
        for other, _ in partners[rest.popleft()]:
            count[other] -= 1
            if count[other] < 2 and other not in gone:
                gone.add(other)
                rest.append(other)
    return {
        atom: [(other, row) for other, row in pairs if other not in gone]
        for atom, pairs in partners.items()
        if atom not in gone
    }


def _smallest_ring(
    core: dict[int, list[tuple[int, int]]], first: int, last: int, closing: int
) -> tuple[list[int], list[int]] | None:
    """Atoms and bonds of the smallest ring with this bond in it, of at most `LARGEST_RING` atoms."""
    came: dict[int, tuple[int, int]] = {first: (-1, -1)}
    front = [first]
    for _ in range(LARGEST_RING - 1):
        following = []
        for atom in front:
            for other, row in core[atom]:
                if row == closing or other in came:
                    continue
                came[other] = (atom, row)
                if other == last:
                    atoms, rows, at = [], [closing], last
                    while at != -1:
                        atoms.append(at)
                        at, step = came[at]
                        rows += [step] * (step != -1)
                    return atoms, rows
                following.append(other)
        front = following
    return None
