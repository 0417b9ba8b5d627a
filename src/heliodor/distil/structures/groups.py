"""Groups: which structures must not be split between training and test, so that no molecule is on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from heliodor.fragments.rdkit_graph import quiet, read_smiles
from heliodor.prepare.molecules import rdkit

BUCKETS = 16
"""Every molecule belongs to one of so many buckets, by a hash of its name; partners of a dimer come from one bucket."""

SHARED = ("O", "[Cl-]", "[F-]", "[OH-]", "[OH3+]", "[NH4+]")
"""Molecules that may stand beside any other on both sides of a split: water and the smallest ions."""

TRAJECTORY = "trajectory:"
"""Groups of what is too common to be a group of its own, such as water, begin with this word."""


@lru_cache(maxsize=1 << 16)
def name_of(smiles: str) -> str:
    """Canonical SMILES (RDKit) without stereochemistry: the name of a molecule, whatever its conformation or hand."""
    chem = rdkit()
    with quiet():
        return str(chem.MolToSmiles(chem.RemoveHs(read_smiles(smiles)), isomericSmiles=False))


def group_of(smiles: Iterable[str]) -> str:
    """The group of a structure made of these molecules.

    The different molecules in alphabetical order, joined by a dot; molecules of `SHARED` count only if there is nothing
    else. A molecule, its conformers, its dimer with itself and its hydrates are one group.
    """
    names = sorted({name_of(word) for word in smiles})
    return ".".join([name for name in names if name not in SHARED] or names)


def bucket_of(group: str) -> int | None:
    """The bucket, 0 to `BUCKETS` - 1, of a group; None for a group of molecules of different buckets.

    Structures of whole buckets held out for a test share no molecule with the others, if groups of no bucket are left
    out of the test (and, to be strict, of training).
    """
    found = buckets_of(group)
    return next(iter(found)) if len(found) == 1 else None


def buckets_of(group: str) -> frozenset[int]:
    """The buckets of all molecules of a group."""
    if group.startswith(TRAJECTORY):
        return frozenset({_hash(group)})
    names = [name for name in group.split(".") if name not in SHARED] or [group]
    return frozenset(map(_hash, names))


def _hash(name: str) -> int:
    return hashlib.sha256(name.encode()).digest()[0] % BUCKETS
