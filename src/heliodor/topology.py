"""Which atoms a structure has: elements, names, residues, chains, and the bonds between them.

Names travel with an `ase.Atoms` as per-atom arrays ``atom_name``, ``residue_name``, ``residue_number``, ``chain`` (so
extended xyz files keep them) and, in trajectories, beside the positions.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import ase
import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.geometry import complete_cell
from jaxtyping import Int

from heliodor.errors import InputError

BONDED = 1.3
"""Nonmetals closer than this times the sum of their covalent radii are bonded in a structure that may be strained."""

NONMETALS = (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 32, 33, 34, 35, 51, 52, 53, 85)
"""Atomic numbers of the elements whose bonds are followed: ions and metals change neighbours in healthy dynamics."""

NO_RESIDUE = "MOL"
"""Residue name of atoms that came without one."""

_ARRAYS = {
    "names": ("atom_name", "atomtypes"),
    "residue_names": ("residue_name", "residuenames"),
    "residue_numbers": ("residue_number", "residuenumbers", "residue_index"),
    "chains": ("chain", "chainids"),
}
"""Where names are found in `ase.Atoms.arrays`: heliodor's own first, then those of ASE's PDB reader."""


@dataclass(frozen=True, eq=False)
class Topology:
    """N atoms of one structure, as they stay through a trajectory.

    Attributes:
        numbers: atomic numbers.
        names: of atoms, as in a PDB file; the element's symbol and a count where nothing is known.
        residue_names: as in a PDB file, `NO_RESIDUE` where nothing is known.
        residue_numbers: as in a PDB file, not necessarily ascending or unique.
        chains: letters or words.
        bonds: pairs i < j, each once, ascending.
        named: whether names came with the structure (or were recognised in it) rather than being made up.
    """

    numbers: Int[np.ndarray, "N"]
    names: np.ndarray
    residue_names: np.ndarray
    residue_numbers: Int[np.ndarray, "N"]
    chains: np.ndarray
    bonds: Int[np.ndarray, "K 2"]
    named: bool

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def symbols(self) -> np.ndarray:
        """[N] element symbols."""
        return np.array(chemical_symbols)[self.numbers]

    @cached_property
    def residues(self) -> Int[np.ndarray, "N"]:
        """Index of the residue of each atom, from 0 in order of first atoms.

        Atoms of one chain, number and name are of one residue where they are neighbours in the file or bonded: files
        that list all hydrogens at the end scatter a residue, and waters beyond number 9999 begin anew.
        """
        new = np.ones(len(self), dtype=bool)
        keys = (self.chains, self.residue_numbers, self.residue_names)
        new[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
        pieces = np.cumsum(new) - 1
        i, j = self.bonds.T
        scattered = (pieces[i] != pieces[j]) & np.all([key[i] == key[j] for key in keys], axis=0)
        if not scattered.any():
            return pieces
        return _joined(pieces[i[scattered]], pieces[j[scattered]], int(pieces[-1]) + 1)[pieces]

    @cached_property
    def molecules(self) -> Int[np.ndarray, "N"]:
        """Index of the molecule (bonded piece) of each atom, from 0 in order of their first atoms."""
        return _joined(self.bonds[:, 0], self.bonds[:, 1], len(self))

    def members(self, molecule: int) -> Int[np.ndarray, "n"]:
        """Atoms of one molecule."""
        return np.flatnonzero(self.molecules == molecule)

    def take(self, atoms: Int[np.ndarray, "n"]) -> Topology:
        """The topology of some of the atoms (ascending indices), with the bonds among them."""
        place = np.full(len(self), -1)
        place[atoms] = np.arange(len(atoms))
        bonds = place[self.bonds]
        return Topology(
            numbers=self.numbers[atoms],
            names=self.names[atoms],
            residue_names=self.residue_names[atoms],
            residue_numbers=self.residue_numbers[atoms],
            chains=self.chains[atoms],
            bonds=bonds[(bonds >= 0).all(1)],
            named=self.named,
        )

    def label(self, atom: int) -> str:
        """An atom as a person would name it: ``"ALA 3 CA"`` (chain in front if there are several), or ``"C 12"``."""
        if not self.named:
            return f"{self.symbols[atom]} {atom}"
        chain = f"{self.chains[atom]} " if len(np.unique(self.chains)) > 1 else ""
        return f"{chain}{self.residue_names[atom]} {self.residue_numbers[atom]} {self.names[atom]}"


def topology_of(atoms: ase.Atoms, bonds: Int[np.ndarray, "K 2"] | None = None) -> Topology:
    """Names from the arrays of ``atoms`` (heliodor's or those of ASE's PDB reader), bonds as given or by distance.

    Raises:
        InputError: no atoms.
    """
    n = len(atoms)
    if n == 0:
        raise InputError("a structure without atoms has no topology")
    found = {
        field: next((atoms.arrays[key] for key in keys if key in atoms.arrays), None) for field, keys in _ARRAYS.items()
    }
    names, residue_names = found["names"], found["residue_names"]
    named = names is not None and residue_names is not None
    if names is None:
        symbols = np.array(chemical_symbols)[atoms.numbers]
        names = np.array([f"{symbol}{k + 1}" for k, symbol in enumerate(symbols)])
    residue_numbers = found["residue_numbers"]
    if bonds is None:
        bonds = bonds_by_distance(atoms)
    return Topology(
        numbers=np.asarray(atoms.numbers, dtype=np.int64),
        names=_words(names),
        residue_names=_words(residue_names) if residue_names is not None else np.full(n, NO_RESIDUE),
        residue_numbers=np.asarray(residue_numbers, dtype=np.int64)
        if residue_numbers is not None
        else np.ones(n, dtype=np.int64),
        chains=_words(found["chains"]) if found["chains"] is not None else np.full(n, "A"),
        bonds=np.asarray(bonds, dtype=np.int64).reshape(-1, 2),
        named=named,
    )


def set_names(atoms: ase.Atoms, topology: Topology) -> None:
    """Write names, residues and chains into the arrays of ``atoms``, in place of what stands there.

    Raises:
        InputError: another number of atoms.
    """
    if len(atoms) != len(topology):
        raise InputError(f"a topology of {len(topology)} atoms does not fit a structure of {len(atoms)}")
    for keys in _ARRAYS.values():
        for key in keys:
            atoms.arrays.pop(key, None)
    if not topology.named:
        return
    # an empty word would shift the columns of an extended xyz file
    for key, words in (
        ("atom_name", topology.names),
        ("residue_name", topology.residue_names),
        ("chain", topology.chains),
    ):
        atoms.set_array(key, np.array([word if word.strip() else "_" for word in words.tolist()]))
    atoms.set_array("residue_number", topology.residue_numbers.astype(np.int64))


def pdb_chains(path: str | Path) -> np.ndarray:
    """Chain of each atom of a PDB file's first model, which ASE's reader passes over; "_" where the column is blank."""
    chains = []
    opened = gzip.open if Path(path).suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("ENDMDL"):
                break
            if line.startswith(("ATOM  ", "HETATM")):
                chains.append(line[21:22].strip() or "_")
    return np.array(chains)


def bonds_by_distance(atoms: ase.Atoms, factor: float = BONDED) -> Int[np.ndarray, "K 2"]:
    """Pairs i < j of nonmetals closer than ``factor`` times the sum of their covalent radii, periodic images included.

    O-H bonds are found up to 1.26 Å, C-C up to 1.98 Å with the default, which holds for structures that may be
    strained, at rest or in thermal motion; hydrogen bonds begin at 1.5 Å.
    """
    from vesin import NeighborList

    radii = covalent_radii[atoms.numbers]
    cutoff = max(2.0 * factor * float(radii.max()), 0.1)
    cell = complete_cell(atoms.cell) if atoms.pbc.any() else np.zeros((3, 3))
    i, j, d = NeighborList(cutoff=cutoff, full_list=False).compute(
        points=atoms.positions, box=cell, periodic=atoms.pbc, quantities="ijd"
    )
    i, j = i.astype(np.int64), j.astype(np.int64)
    covalent = np.isin(atoms.numbers, NONMETALS)
    bonded = (d < factor * (radii[i] + radii[j])) & covalent[i] & covalent[j] & (i != j)
    pairs = np.sort(np.stack([i[bonded], j[bonded]], axis=1), axis=1)
    return np.unique(pairs, axis=0).reshape(-1, 2)


def renamed(
    topology: Topology,
    *,
    names: np.ndarray,
    residue_names: np.ndarray,
    residue_numbers: np.ndarray,
    chains: np.ndarray | None = None,
) -> Topology:
    """The same atoms and bonds under other names."""
    return replace(
        topology,
        names=_words(names),
        residue_names=_words(residue_names),
        residue_numbers=np.asarray(residue_numbers, dtype=np.int64),
        chains=topology.chains if chains is None else _words(chains),
        named=True,
    )


def _joined(i: Int[np.ndarray, "K"], j: Int[np.ndarray, "K"], n: int) -> Int[np.ndarray, "n"]:
    """Index of the connected piece of each of n things joined in pairs, from 0 in order of first members."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    labels = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n, n)), directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _words(array: np.ndarray) -> np.ndarray:
    return np.array([str(word).strip() for word in np.asarray(array).tolist()])
