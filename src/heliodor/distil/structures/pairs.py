"""Families of several molecules: dimers at every distance, hydrates, salts with waters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import ase
import numpy as np

from heliodor.distil.structures.bonded_graphs import accepted, enumerated
from heliodor.distil.structures.groups import BUCKETS, SHARED, bucket_of, name_of
from heliodor.distil.structures.library import DRUGLIKE, SCAFFOLDS, TINY
from heliodor.distil.structures.library_ions import ANIONS, CATIONS, IONS
from heliodor.distil.structures.thermal import Monomer, Places, monomer, temperature
from heliodor.distil.structures.together import beside, combined, moved_together, structure

LARGEST_PARTNER = 20
"""Atoms of a molecule in a dimer, at most."""

LARGEST_CHARGE = 2
"""e, of several molecules together, of either sign."""

COMMON = (0.55, 0.15, 0.1, 0.05, 0.05, 0.1)
"""How often each of `SHARED` is drawn: mostly water."""

TRIES = 6
"""For each structure that is wanted."""


@lru_cache(maxsize=1)
def partners() -> tuple[tuple[str, ...], ...]:
    """Molecules for dimers, bucket by bucket."""
    rows: list[list[str]] = [[] for _ in range(BUCKETS)]
    listed = dict.fromkeys((*TINY, *SCAFFOLDS, *DRUGLIKE, *IONS, *enumerated(2)))
    for smiles in listed:
        good = accepted(smiles, LARGEST_PARTNER)
        if good and name_of(good) not in SHARED:
            bucket = bucket_of(name_of(good))
            assert bucket is not None
            rows[bucket].append(good)
    return tuple(map(tuple, rows))


def dimers(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """Two molecules, of one bucket or one of `SHARED`, from compressed contacts to 8 Å; some with a third."""

    def pick() -> list[str]:
        bucket = partners()[item % BUCKETS]
        first = str(rng.choice(bucket))
        draw = rng.random()
        if draw < 0.12:
            return [first, first]
        second = (
            str(rng.choice(SHARED, p=(0.55, 0.15, 0.1, 0.05, 0.05, 0.1))) if draw < 0.3 else str(rng.choice(bucket))
        )
        return [first, second] if draw < 0.92 else [first, second, str(rng.choice(bucket))]

    return _several(pick, rng, count, "dimer", moved=0.45)


def hydrates(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """A molecule or ion with one to eight waters."""

    def pick() -> list[str]:
        return [str(rng.choice(partners()[item % BUCKETS])), *["O"] * int(rng.integers(1, 9))]

    return _several(pick, rng, count, "hydrate", moved=0.85)


def salts(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """A cation and an anion, half of them with up to six waters between and around."""

    def pick() -> list[str]:
        found = [str(rng.choice(CATIONS)), str(rng.choice(ANIONS))]
        if item % 2 == 0:
            found[1:1] = ["O"] * int(rng.integers(1, 7))
        return found

    return _several(pick, rng, count, "salt", moved=0.6)


def _several(
    pick: Callable[[], list[str]], rng: np.random.Generator, count: int, kind: str, moved: float
) -> list[ase.Atoms]:
    found: list[ase.Atoms] = []
    monomers: list[Monomer] = []
    for attempt in range(TRIES * count):
        if len(found) == count:
            break
        if attempt % 4 == 0 or not monomers:
            monomers = [one for one in map(monomer, pick()) if one is not None]
        if len(monomers) < 2 or abs(sum(one.shape.charge for one in monomers)) > LARGEST_CHARGE:
            monomers = []
            continue
        made = assemble(monomers, rng, kind, moved)
        found += [made] if made is not None else []
    return found


def assemble(monomers: Sequence[Monomer], rng: np.random.Generator, kind: str, moved: float) -> ase.Atoms | None:
    """Molecules put beside one another; so often, moved together on MMFF; None where that is not sound."""
    charges = [one.shape.charge for one in monomers]
    like = len(monomers) == 2 and charges[0] * charges[1] > 0
    # what attracts without anything between would come closer than MMFF knows how to stop
    proton = any(one.smiles in ("[OH3+]", "[OH-]", "[F-]") for one in monomers) and any(charges)
    runs = not like and rng.random() < moved
    close = len(monomers) > 2 or runs
    x = np.concatenate(beside([(one.draw(rng), one.shape.numbers) for one in monomers], rng, close=close))
    mol = combined(monomers)
    how = "placed"
    if runs:
        kelvin = min(temperature(rng), 500.0)
        end = moved_together(mol, x, kelvin, rng, int(rng.integers(80, 300)), relax=8 if proton else 20)
        if end is not None:
            x, how = end, f"MMFF dynamics at {kelvin:g} K"
    return structure(monomers, x, kind, how, mol) if _tight(monomers, x) else None


def _tight(monomers: Sequence[Monomer], x: Places) -> bool:
    """No hydrogen within 1.35 Å nor other atom within 2.1 Å of another molecule's, and all within 8.5 Å of another."""
    owner = np.repeat(np.arange(len(monomers)), [len(one.shape.numbers) for one in monomers])
    heavy = np.concatenate([one.shape.numbers for one in monomers]) > 1
    apart = np.linalg.norm(x[:, None] - x[None], axis=-1)
    other = owner[:, None] != owner[None]
    least = np.where(heavy[:, None] & heavy[None], 2.1, 1.35)
    if (apart[other] < least[other]).any():
        return False
    return all(apart[owner == k][:, owner != k].min() <= 8.5 for k in range(len(monomers)))
