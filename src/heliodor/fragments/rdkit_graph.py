"""Chemical graphs to and from RDKit: molecules, SMILES."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from heliodor.errors import InputError
from heliodor.fragments.graph import ChemicalGraph
from heliodor.fragments.resonance import whole_bonds
from heliodor.fragments.skeleton import Piece
from heliodor.prepare.molecules import rdkit


@contextmanager
def quiet() -> Iterator[None]:
    """Keep RDKit from writing to the terminal."""
    from rdkit import rdBase

    with rdBase.BlockLogs():
        yield


def read_smiles(smiles: str) -> Any:
    """An ``rdkit.Chem.Mol`` with all hydrogens.

    Raises:
        InputError: no valid SMILES, naming it.
        MissingExtraError: RDKit is not installed.
    """
    chem = rdkit()
    with quiet():
        mol = chem.MolFromSmiles(smiles)
    if mol is None or mol.GetNumAtoms() == 0:
        raise InputError(f"{smiles!r} is no valid SMILES; write for example 'CC(=O)N' for acetamide")
    return chem.AddHs(mol)


def graph_from_smiles(smiles: str) -> ChemicalGraph:
    """A molecule with all its hydrogens; heavy atoms in the order of the SMILES, hydrogens after them.

    Raises:
        InputError: no valid SMILES.
        MissingExtraError: RDKit is not installed.
    """
    return graph_from_mol(read_smiles(smiles))


def graph_from_mol(mol: Any) -> ChemicalGraph:
    """An ``rdkit.Chem.Mol`` as a graph, atoms in its order, followed by the hydrogens it only counts.

    Aromatic rings are given one Kekulé structure, by RDKit.

    Raises:
        InputError: bonds of no integer order (dative, or aromatic ones that cannot be drawn), unpaired electrons.
        MissingExtraError: RDKit is not installed.
    """
    chem = rdkit()
    mol = chem.AddHs(mol)
    drawn = chem.RWMol(mol)
    try:
        with quiet():
            chem.Kekulize(drawn, clearAromaticFlags=True)
    except chem.KekulizeException as error:
        raise InputError(f"an aromatic ring cannot be drawn with single and double bonds ({error})") from None
    radicals = [a.GetIdx() for a in drawn.GetAtoms() if a.GetNumRadicalElectrons()]
    if radicals:
        raise InputError(f"atom {radicals[0]} has unpaired electrons: fragments are closed-shell molecules")
    kinds = {chem.BondType.SINGLE: 1, chem.BondType.DOUBLE: 2, chem.BondType.TRIPLE: 3}
    rows = []
    for bond in drawn.GetBonds():
        i, j = sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
        if bond.GetBondType() not in kinds:
            raise InputError(f"the bond between atoms {i} and {j} is of type {bond.GetBondType()}: 1, 2 or 3 is needed")
        rows.append((i, j, kinds[bond.GetBondType()]))
    numbers = [a.GetAtomicNum() for a in drawn.GetAtoms()]
    return graph_from_rows(numbers, [a.GetFormalCharge() for a in drawn.GetAtoms()], rows)


def graph_from_rows(numbers: list[int], charges: list[int], rows: list[tuple[int, int, int]]) -> ChemicalGraph:
    """A graph from atoms and (i, j, order) of its bonds, i < j; `whole_bonds` says which may not be cut."""
    table = np.array(sorted(rows), dtype=np.int64).reshape(-1, 3)
    z, q = np.array(numbers, dtype=np.int64), np.array(charges, dtype=np.int64)
    bonds, orders = table[:, :2].copy(), table[:, 2].copy()
    degree = np.bincount(bonds.ravel(), minlength=len(z))
    return ChemicalGraph(z, bonds, orders, whole_bonds(z, degree, bonds, orders, q), q)


def mol_from_graph(graph: ChemicalGraph) -> Any:
    """A sanitised ``rdkit.Chem.Mol`` with the atoms of the graph in its order, hydrogens included.

    Raises:
        InputError: RDKit finds the valences impossible.
        MissingExtraError: RDKit is not installed.
    """
    chem = rdkit()
    mol = chem.RWMol()
    for z, charge in zip(graph.numbers.tolist(), graph.charges.tolist(), strict=True):
        atom = chem.Atom(z)
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    kinds = {1: chem.BondType.SINGLE, 2: chem.BondType.DOUBLE, 3: chem.BondType.TRIPLE}
    for (i, j), order in zip(graph.bonds.tolist(), graph.orders.tolist(), strict=True):
        mol.AddBond(i, j, kinds[order])
    with quiet():
        try:
            chem.SanitizeMol(mol)
        except chem.MolSanitizeException as error:
            raise InputError(f"the structure has impossible valences: {error}") from None
    return mol.GetMol()


@lru_cache(maxsize=1 << 18)
def canonical(piece: Piece) -> str:
    """Canonical SMILES, without stereochemistry, of heavy atoms saturated with hydrogen.

    Aromatic rings that are whole come out aromatic, so the Kekulé structure they were drawn in does not matter.

    Raises:
        InputError: RDKit finds the valences impossible.
        MissingExtraError: RDKit is not installed.
    """
    chem = rdkit()
    elements, charges, hydrogen_counts, bonds = piece
    mol = chem.RWMol()
    for z, charge, hydrogens in zip(elements, charges, hydrogen_counts, strict=True):
        atom = chem.Atom(z)
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(True)
        atom.SetNumExplicitHs(hydrogens)
        mol.AddAtom(atom)
    kinds = {1: chem.BondType.SINGLE, 2: chem.BondType.DOUBLE, 3: chem.BondType.TRIPLE}
    for i, j, order in bonds:
        mol.AddBond(i, j, kinds[order])
    with quiet():
        try:
            chem.SanitizeMol(mol)
        except chem.MolSanitizeException as error:
            raise InputError(f"a fragment has impossible valences: {error}") from None
    return str(chem.MolToSmiles(mol, isomericSmiles=False))


def molecule_key(smiles: str) -> str:
    """The same word for all drawings of one molecule: elements, connections, hydrogens on each atom, total charge.

    Raises:
        InputError: no valid SMILES.
        MissingExtraError: RDKit is not installed.
    """
    chem = rdkit()
    mol = chem.RWMol(chem.RemoveHs(read_smiles(smiles)))
    charge = chem.GetFormalCharge(mol)
    for atom in mol.GetAtoms():
        atom.SetNumExplicitHs(atom.GetTotalNumHs())
        atom.SetNoImplicit(True)
        atom.SetFormalCharge(0)
        atom.SetIsAromatic(False)
    for bond in mol.GetBonds():
        bond.SetBondType(chem.BondType.SINGLE)
        bond.SetIsAromatic(False)
    return f"{chem.MolToSmiles(mol, isomericSmiles=False, allHsExplicit=True)} {charge:+d}"
