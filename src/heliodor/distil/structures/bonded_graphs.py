"""Bonded graphs: grown atom by atom, cut from larger molecules, and put together from scaffolds and groups."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from heliodor.distil.structures.groups import name_of
from heliodor.distil.structures.library import SUBSTITUENTS
from heliodor.distil.structures.library_ions import CHARGED
from heliodor.distil.structures.sound import fits_teacher
from heliodor.errors import HeliodorError
from heliodor.fragments.bottom_up import bottom_up, molecules
from heliodor.fragments.rdkit_graph import graph_from_smiles, quiet

GROWN = {"C": 4, "N": 3, "O": 2, "S": 2, "F": 1, "Cl": 1, "P": 3}
"""Elements that graphs are grown from, with their bonds."""

SHARE = (0.62, 0.13, 0.13, 0.04, 0.03, 0.03, 0.02)
"""How often each is drawn for larger graphs."""

HETERO_PAIRS = ("NN", "NO", "NS", "SS", "OS", "OP", "NP", "PS")
"""Bonds between atoms other than carbon that molecules on a shelf have."""

FORBIDDEN = (
    "[C,N;R]=,#[C,N]=,#[C,N;R]",
    "*1#*~*~*~1",
    "*1#*~*~1",
    "*1#*~*~*~*~1",
    "[r3]=[r3]=*",
    "[O,S,N;!$(N=*)]~[O,S;X2]~[O,S,N]",
    "[N;X3,X2]~[N;X3,X2]~[N;X3,X2]",
    "[r3;!#6]~[r3;!#6]",
    "[r3]=[O,S,N]",
    "[#6;r3]=[#6;r3]",
)
"""Patterns of grown graphs that no bottle holds: bent triple bonds and cumulenes, chains of three heteroatoms."""

LARGEST_GROWN = 7
"""Heavy atoms."""


@lru_cache(maxsize=1)
def _forbidden() -> tuple[Any, ...]:
    from rdkit import Chem

    return tuple(Chem.MolFromSmarts(text) for text in FORBIDDEN)


def accepted(smiles: str, atoms: int) -> str | None:
    """Canonical SMILES with stereochemistry, or None: unreadable, several molecules, not the teacher's, too large."""
    from rdkit import Chem

    with quiet():
        mol = Chem.MolFromSmiles(smiles)
    if mol is None or "." in smiles:
        return None
    full = Chem.AddHs(mol)
    return str(Chem.MolToSmiles(mol)) if full.GetNumAtoms() <= atoms and fits_teacher(full) else None


@lru_cache(maxsize=8)
def enumerated(largest: int) -> tuple[str, ...]:
    """All molecules of C, N, O, F, P, S, Cl up to so many heavy atoms that normal valences, `HETERO_PAIRS` and
    `FORBIDDEN` allow, by size and name."""
    from rdkit import Chem

    found: list[str] = []
    layer = {name for name in (_grown_name(_atom(symbol)) for symbol in GROWN) if name}
    for size in range(1, largest + 1):
        found += sorted(layer)
        if size == largest:
            break
        larger: set[str] = set()
        for smiles in sorted(layer):
            mol = Chem.MolFromSmiles(smiles)
            for place, symbol, order in product(range(size), GROWN, (1, 2, 3)):
                name = _grown_name(_with_atom(mol, place, symbol, order))
                larger |= {name} if name else set()
        # rings close on what has been grown
        for smiles in sorted(larger):
            mol = Chem.MolFromSmiles(smiles)
            for i, j in product(range(size + 1), repeat=2):
                name = _grown_name(_closed(mol, i, j)) if i < j else None
                larger |= {name} if name else set()
        layer = larger
    return tuple(found)


def grown(rng: np.random.Generator, heavy: int) -> str | None:
    """A random molecule of so many heavy atoms, or None where growth came to an end."""
    name = None
    mol = _atom("C")
    for _ in range(6 * heavy):
        if mol.GetNumAtoms() >= heavy and name:
            return name
        place = int(rng.integers(mol.GetNumAtoms()))
        if mol.GetNumAtoms() >= 3 and rng.random() < 0.25:
            new = _closed(mol, place, int(rng.integers(mol.GetNumAtoms())))
        else:
            symbol = str(rng.choice(list(GROWN), p=SHARE))
            new = _with_atom(mol, place, symbol, int(rng.choice((1, 2, 3), p=(0.72, 0.22, 0.06))))
        found = _grown_name(new)
        if found:
            mol, name = new, found
    return name


def piece(parent: str, rng: np.random.Generator, largest: int = 9) -> str | None:
    """A random bottom-up fragment (amon) of a molecule: connected, saturated with hydrogen, half of them large ones."""
    amons = _amons(parent, largest)
    if not amons:
        return None
    half = amons[len(amons) // 2 :] if rng.random() < 0.5 else amons
    return str(half[rng.integers(len(half))])


@lru_cache(maxsize=512)
def _amons(parent: str, largest: int) -> tuple[str, ...]:
    try:
        found = molecules(bottom_up(graph_from_smiles(parent), min(largest, LARGEST_GROWN)))
    except HeliodorError:
        return ()
    return tuple(amon.smiles for amon in found if amon.charge in (-1, 0, 1) and accepted(amon.smiles, 40))


def attached(smiles: str, group: str, rng: np.random.Generator) -> str | None:
    """A random hydrogen of a molecule replaced by a group; None where that gives nothing sensible."""
    from rdkit import Chem

    mol, hung = Chem.MolFromSmiles(smiles), Chem.MolFromSmiles(group)
    first = hung.GetAtomWithIdx(0)
    oxidised = first.GetSymbol() in "PS" and any(b.GetBondTypeAsDouble() == 2 for b in first.GetBonds())
    sites = [
        a.GetIdx()
        for a in mol.GetAtoms()
        if a.GetTotalNumHs() > 0
        and a.GetFormalCharge() == 0
        and (a.GetSymbol() == "C" or first.GetSymbol() == "C" or (oxidised and a.GetSymbol() in "NO"))
    ]
    if not sites:
        return None
    site, other = int(rng.choice(sites)), mol.GetNumAtoms()
    edit = Chem.RWMol(Chem.CombineMols(mol, hung))
    edit.AddBond(site, other, Chem.BondType.SINGLE)
    here = edit.GetAtomWithIdx(site)
    if here.GetNumExplicitHs():
        here.SetNumExplicitHs(here.GetNumExplicitHs() - 1)
    for index in (site, other):
        edit.GetAtomWithIdx(index).SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
    return _sanitised(edit)


def assembled(scaffold: str, rng: np.random.Generator, charged: bool, atoms: int) -> str | None:
    """A scaffold with up to three groups, one of them charged if asked for; None where the groups do not fit."""
    groups = [str(word) for word in rng.choice(SUBSTITUENTS, size=rng.choice((1, 2, 3), p=(0.4, 0.4, 0.2)))]
    if charged:
        groups = [*groups[: int(rng.integers(0, 2))], str(rng.choice(CHARGED))]
    smiles: str | None = scaffold
    for group in groups:
        smiles = attached(smiles, group, rng) if smiles else None
    return accepted(smiles, atoms) if smiles else None


def _atom(symbol: str) -> Any:
    from rdkit import Chem

    return Chem.MolFromSmiles(symbol)


def _with_atom(mol: Any, place: int, symbol: str, order: int) -> Any:
    from rdkit import Chem

    here = mol.GetAtomWithIdx(place)
    if here.GetTotalNumHs() < order or GROWN[symbol] < order or not _may_bond(here.GetSymbol(), symbol):
        return None
    edit = _drawn(mol)
    edit.AddBond(place, edit.AddAtom(Chem.Atom(symbol)), _kind(order))
    return _checked(edit)


def _closed(mol: Any, i: int, j: int) -> Any:
    a, b = mol.GetAtomWithIdx(i), mol.GetAtomWithIdx(j)
    if i == j or not a.GetTotalNumHs() or not b.GetTotalNumHs() or not _may_bond(a.GetSymbol(), b.GetSymbol()):
        return None
    edit = _drawn(mol)
    bond = edit.GetBondBetweenAtoms(i, j)
    if bond is None:
        edit.AddBond(i, j, _kind(1))
    elif bond.GetBondTypeAsDouble() < 3:
        bond.SetBondType(_kind(int(bond.GetBondTypeAsDouble()) + 1))
    return _checked(edit)


def _may_bond(one: str, other: str) -> bool:
    return "C" in (one, other) or "".join(sorted((one, other))) in HETERO_PAIRS


def _kind(order: int) -> Any:
    from rdkit import Chem

    return (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)[order - 1]


def _drawn(mol: Any) -> Any:
    """A copy with whole bond orders, whose hydrogens follow from the valences."""
    from rdkit import Chem

    edit = Chem.RWMol(mol)
    Chem.Kekulize(edit, clearAromaticFlags=True)
    for atom in edit.GetAtoms():
        atom.SetNumExplicitHs(0)
        atom.SetNoImplicit(False)
    return edit


def _checked(edit: Any) -> Any:
    from rdkit import Chem

    with quiet():
        try:
            Chem.SanitizeMol(edit)
        except ValueError:
            return None
    return edit.GetMol()


def _sanitised(edit: Any) -> str | None:
    from rdkit import Chem

    mol = _checked(edit)
    return None if mol is None else str(Chem.MolToSmiles(mol))


def _grown_name(mol: Any) -> str | None:
    from rdkit import Chem

    if mol is None or any(mol.HasSubstructMatch(pattern) for pattern in _forbidden()):
        return None
    return name_of(Chem.MolToSmiles(mol))
