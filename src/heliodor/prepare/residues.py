"""The residues of a structure file by kind, what of them is kept, and chains in an order that builders understand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from heliodor.errors import InputError
from heliodor.prepare.output import NUCLEIC, PROTEIN
from heliodor.prepare.prepared import WATERS, label, openmm

CAPS = ("ACE", "NME", "NH2", "NMA")

SHOWN = 10
"""So many residues are named before the rest is counted."""


@dataclass(frozen=True)
class Kinds:
    """Residues of an OpenMM topology by kind, each in the order of the file.

    Attributes:
        polymer: amino acids, nucleotides, caps.
        modified: other residues with the backbone of an amino acid or nucleotide, which hold a chain together.
        waters, ions: ions are single atoms.
        ligands: everything else.
    """

    polymer: tuple[Any, ...]
    modified: tuple[Any, ...]
    waters: tuple[Any, ...]
    ions: tuple[Any, ...]
    ligands: tuple[Any, ...]


def kinds_of(topology: Any) -> Kinds:
    """Sort the residues of an OpenMM topology by kind."""
    polymer, modified, waters, ions, ligands = [], [], [], [], []
    for residue in topology.residues():
        names = {atom.name for atom in residue.atoms()}
        if residue.name in PROTEIN or residue.name in NUCLEIC or residue.name in CAPS:
            polymer.append(residue)
        elif residue.name in WATERS:
            waters.append(residue)
        elif sum(atom.element is not None and atom.element.atomic_number > 1 for atom in residue.atoms()) == 1:
            ions.append(residue)
        elif {"N", "CA", "C"} <= names or {"P", "C1'", "O3'"} <= names:
            modified.append(residue)
        else:
            ligands.append(residue)
    return Kinds(tuple(polymer), tuple(modified), tuple(waters), tuple(ions), tuple(ligands))


SAME = {"NLN": "ASN", "OLS": "SER", "OLT": "THR"}
"""GLYCAM's names of amino acids that carry a sugar."""

_ALONG = "BGDEZH"
"""Greek letters in atom names, along a side chain."""


def replacements(fixer: Any) -> dict[Any, str]:
    """The standard residue that each modified one is made of, as PDBFixer suggests it and the atoms bear out.

    PDBFixer goes by the name; the same name may mean another residue to others. A suggestion is taken if the residue
    has the parent's backbone and, at every place along the side chain where it has atoms, the parent's elements.
    """
    suggested = dict(fixer.nonstandardResidues)
    suggested |= {residue: SAME[residue.name] for residue in fixer.topology.residues() if residue.name in SAME}
    return {
        residue: parent
        for residue, parent in suggested.items()
        if residue.name == "MSE" or _fits(fixer, residue, parent)
    }


def _fits(fixer: Any, residue: Any, parent: str) -> bool:
    names = {atom.name for atom in residue.atoms()}
    template = fixer.templates.get(parent)
    if template is None:
        return False
    heavy = [atom for atom in template.topology.atoms() if atom.element.atomic_number > 1]
    if parent in NUCLEIC:
        return {"C1'", "O3'"} <= names
    if not {"N", "CA", "C"} <= names:
        return False
    here, there = _elements(residue.atoms()), _elements(heavy)
    return all(elements <= here[letter] for letter, elements in there.items() if letter in here)


def _elements(atoms: Iterable[Any]) -> dict[str, set[int]]:
    """Elements of the heavy atoms of a side chain at each place along it."""
    found: dict[str, set[int]] = {}
    for atom in atoms:
        number = atom.element.atomic_number if atom.element is not None else 0
        place = atom.name[1:2]
        if number > 1 and place in _ALONG and place:
            found.setdefault(place, set()).add(number)
    return found


def named(residues: Sequence[Any]) -> str:
    """Some residues for people: all of few, names and counts of many."""
    if len(residues) <= SHOWN:
        return ", ".join(label(residue) for residue in residues)
    counts = Counter(residue.name for residue in residues)
    return ", ".join(f"{n} {name}" for name, n in counts.most_common(SHOWN))


def choose_chains(topology: Any, positions: Any, chains: Sequence[str]) -> tuple[Any, Any, list[str]]:
    """Only the chains of these names.

    Raises:
        InputError: a chain that is not there.
    """
    there = list(dict.fromkeys(chain.id for chain in topology.chains()))
    unknown = [chain for chain in chains if chain not in there]
    if unknown:
        raise InputError(f"there is no chain {', '.join(unknown)}: the file has {', '.join(map(repr, there))}")
    if not chains or set(chains) == set(there):
        return topology, positions, []
    left_out = [chain for chain in there if chain not in chains]
    modeller = openmm().app.Modeller(topology, positions)
    modeller.delete([chain for chain in topology.chains() if chain.id in left_out])
    return modeller.topology, modeller.positions, [f"chains {', '.join(left_out)} left out as asked"]


def rearranged(
    topology: Any,
    positions: Any,
    others: Sequence[Any] = (),
    breaks: Callable[[Any, Any], bool] = lambda before, after: False,
) -> tuple[Any, Any, dict[Any, Any]]:
    """The same residues with ``others`` moved behind the polymers, into chains of their own with the same names.

    Files give waters and ligands the letter of the chain beside them; builders take the last residue of a chain for
    its end, whatever it is.

    Args:
        breaks: whether a new chain begins between two residues.

    Returns:
        Topology, positions, and the new residue of each old one.
    """
    app = openmm().app
    made = app.Topology()
    made.setPeriodicBoxVectors(topology.getPeriodicBoxVectors())
    atoms: dict[Any, Any] = {}
    copies: dict[Any, Any] = {}
    moved = set(others)
    placed: list[Any] = []
    for polymer in (True, False):
        for chain in topology.chains():
            residues = [residue for residue in chain.residues() if (residue not in moved) == polymer]
            new, last = None, None
            for residue in residues:
                if new is None or (polymer and breaks(last, residue)):
                    new = made.addChain(chain.id)
                last = residue
                copy = copies[residue] = made.addResidue(residue.name, new, residue.id, residue.insertionCode)
                for atom in residue.atoms():
                    atoms[atom] = made.addAtom(atom.name, atom.element, copy, atom.id, atom.formalCharge)
                    placed.append(positions[atom.index])
    for bond in topology.bonds():
        first, second = bond[0].residue, bond[1].residue
        joined = first is second or first in moved or second in moved or bond[0].name == "SG" == bond[1].name
        if joined or atoms[bond[0]].residue.chain is atoms[bond[1]].residue.chain:
            made.addBond(atoms[bond[0]], atoms[bond[1]], bond.type, bond.order)
    unit = openmm().unit
    return made, unit.Quantity([p.value_in_unit(unit.nanometer) for p in placed], unit.nanometer), copies
