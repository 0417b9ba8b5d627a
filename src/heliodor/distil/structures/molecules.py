"""Families of single molecules: grown and cut graphs, drug-like assemblies, ions."""

from __future__ import annotations

from collections.abc import Callable

import ase
import numpy as np

from heliodor.distil.structures.bonded_graphs import accepted, assembled, enumerated, grown, piece
from heliodor.distil.structures.groups import group_of
from heliodor.distil.structures.library import DRUGLIKE, SCAFFOLDS, TINY
from heliodor.distil.structures.library_ions import IONS
from heliodor.distil.structures.thermal import sampled

TRIES = 12
"""Molecules looked for before an item is given up."""

COMPLETE = 3
"""Heavy atoms up to which every graph is visited in turn; larger ones are grown at random."""

LARGEST = 42
"""Atoms."""


def grown_molecules(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """Small molecules by their graphs: complete to three heavy atoms, grown to nine, or cut from larger ones."""
    small = enumerated(COMPLETE)

    def name(first: bool) -> str | None:
        if item % 4 == 0 and first:
            return small[(item // 4) % len(small)] if item // 4 < len(small) else str(rng.choice(small))
        if item % 4 == 1:
            return piece(str(rng.choice(DRUGLIKE)), rng)
        return grown(rng, int(rng.integers(4, 10)))

    return _first(name, rng, count, "molecule")


def drug_like(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """Listed molecules, each in turn, and scaffolds with substituents."""
    listed = (*TINY, *SCAFFOLDS, *DRUGLIKE)

    def name(first: bool) -> str | None:
        if item % 3 == 0 and first:
            return accepted(listed[(item // 3 * 37) % len(listed)], 60)
        return assembled(str(rng.choice(SCAFFOLDS)), rng, False, LARGEST if rng.random() < 0.3 else 28)

    return _first(name, rng, count, "molecule")


def ions(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """Listed ions, each in turn, and scaffolds with a charged group."""

    def name(first: bool) -> str | None:
        if item % 2 == 0 and first:
            return accepted(IONS[(item // 2 * 13) % len(IONS)], 60)
        return assembled(str(rng.choice(SCAFFOLDS)), rng, True, 36 if rng.random() < 0.3 else 26)

    return _first(name, rng, count, "ion")


def _first(name: Callable[[bool], str | None], rng: np.random.Generator, count: int, kind: str) -> list[ase.Atoms]:
    for attempt in range(TRIES):
        # what fails in its turn is replaced by what chance gives
        smiles = name(attempt == 0)
        found = geometries(smiles, rng, count, kind) if smiles else []
        if found:
            return found
    return []


def geometries(smiles: str, rng: np.random.Generator, count: int, kind: str) -> list[ase.Atoms]:
    """Up to so many thermal geometries of one molecule."""
    _, shape, frames = sampled(smiles, count, rng)
    group = group_of([smiles])
    return [
        ase.Atoms(
            shape.numbers,
            x - x.mean(0),
            info={"charge": shape.charge, "spin": 0, "kind": kind, "group": group, "sampling": how},
        )
        for x, how in frames
    ]
