"""Side chains of the twenty standard amino acids as graphs of their heavy atoms, under their names in PDB files."""

from __future__ import annotations

from dataclasses import dataclass

from ase.data import atomic_numbers

_WRITTEN = {
    "GLY": "",
    "ALA": "CB",
    "ARG": "CB CG CD NE CZ NH1 NH2: CB-CG CG-CD CD-NE NE-CZ CZ-NH1 CZ-NH2",
    "ASN": "CB CG OD1 ND2: CB-CG CG-OD1 CG-ND2",
    "ASP": "CB CG OD1 OD2: CB-CG CG-OD1 CG-OD2",
    "CYS": "CB SG: CB-SG",
    "GLN": "CB CG CD OE1 NE2: CB-CG CG-CD CD-OE1 CD-NE2",
    "GLU": "CB CG CD OE1 OE2: CB-CG CG-CD CD-OE1 CD-OE2",
    "HIS": "CB CG ND1 CD2 CE1 NE2: CB-CG CG-ND1 CG-CD2 ND1-CE1 CD2-NE2 CE1-NE2",
    "ILE": "CB CG1 CG2 CD1: CB-CG1 CB-CG2 CG1-CD1",
    "LEU": "CB CG CD1 CD2: CB-CG CG-CD1 CG-CD2",
    "LYS": "CB CG CD CE NZ: CB-CG CG-CD CD-CE CE-NZ",
    "MET": "CB CG SD CE: CB-CG CG-SD SD-CE",
    "PHE": "CB CG CD1 CD2 CE1 CE2 CZ: CB-CG CG-CD1 CG-CD2 CD1-CE1 CD2-CE2 CE1-CZ CE2-CZ",
    "PRO": "CB CG CD: CB-CG CG-CD",
    "SER": "CB OG: CB-OG",
    "THR": "CB OG1 CG2: CB-OG1 CB-CG2",
    "TRP": "CB CG CD1 CD2 NE1 CE2 CE3 CZ2 CZ3 CH2: CB-CG CG-CD1 CG-CD2 CD1-NE1 NE1-CE2 CD2-CE2 CD2-CE3 CE2-CZ2 "
    "CE3-CZ3 CZ2-CH2 CZ3-CH2",
    "TYR": "CB CG CD1 CD2 CE1 CE2 CZ OH: CB-CG CG-CD1 CG-CD2 CD1-CE1 CD2-CE2 CE1-CZ CE2-CZ CZ-OH",
    "VAL": "CB CG1 CG2: CB-CG1 CB-CG2",
}


@dataclass(frozen=True)
class SideChain:
    """Heavy atoms beyond CA.

    Attributes:
        residue: three letters.
        names: of the atoms; CB, which is bonded to CA, first, each later one bonded to one before.
        numbers: atomic numbers.
        bonds: pairs of places in ``names``.
    """

    residue: str
    names: tuple[str, ...]
    numbers: tuple[int, ...]
    bonds: frozenset[tuple[int, int]]


def _read(residue: str, text: str) -> SideChain:
    atoms, _, bonds = text.partition(":")
    names = tuple(atoms.split())
    pairs = (bond.split("-") for bond in bonds.split())
    places = frozenset((min(k), max(k)) for a, b in pairs for k in [(names.index(a), names.index(b))])
    return SideChain(residue, names, tuple(atomic_numbers[name[0]] for name in names), places)


SIDE_CHAINS = {residue: _read(residue, text) for residue, text in _WRITTEN.items()}
"""By residue name."""


def match(
    numbers: dict[int, int], partners: dict[int, list[int]], beta: int | None
) -> tuple[SideChain, dict[str, int]] | None:
    """The side chain a graph of heavy atoms is, and which atom has which name; None if it is none of the twenty.

    Args:
        numbers: atomic number of each atom of the side chain.
        partners: its neighbours within the side chain.
        beta: the atom bonded to CA; None of glycine.
    """
    if beta is None:
        return SIDE_CHAINS["GLY"], {}
    elements = sorted(numbers.values())
    n_bonds = sum(map(len, partners.values())) // 2
    for chain in SIDE_CHAINS.values():
        if sorted(chain.numbers) == elements and len(chain.bonds) == n_bonds:
            placed = _placed(chain, numbers, partners, [beta])
            if placed is not None:
                return chain, dict(zip(chain.names, placed, strict=True))
    return None


def _placed(
    chain: SideChain, numbers: dict[int, int], partners: dict[int, list[int]], begun: list[int]
) -> list[int] | None:
    """The atoms in the order of ``chain.names``, continuing what has begun; None where the graphs differ."""
    k = len(begun)
    if numbers[begun[-1]] != chain.numbers[k - 1]:
        return None
    for earlier in range(k - 1):
        if ((earlier, k - 1) in chain.bonds) != (begun[earlier] in partners[begun[-1]]):
            return None
    if k == len(chain.names):
        return begun
    parent = next(earlier for earlier in range(k) if (earlier, k) in chain.bonds)
    for atom in partners[begun[parent]]:
        if atom not in begun:
            found = _placed(chain, numbers, partners, [*begun, atom])
            if found is not None:
                return found
    return None
