"""graph_of: bond orders and formal charges of a structure, from its bonds and elements."""

from __future__ import annotations

from collections.abc import Mapping

import ase
import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int

from heliodor.errors import InputError
from heliodor.fragments.graph import ChemicalGraph
from heliodor.fragments.lewis import CUMULATED, NITRO, PRIMARY, STATES, Pieces, State, lewis
from heliodor.fragments.resonance import whole_bonds
from heliodor.topology import NONMETALS, Topology, topology_of

IONS = {
    **dict.fromkeys(("Li", "Na", "K", "Rb", "Cs", "Ag"), 1),
    **dict.fromkeys(("Be", "Mg", "Ca", "Sr", "Ba", "Zn", "Cd", "Hg", "Mn"), 2),
    **dict.fromkeys(("Al", "Ga", "La"), 3),
    **dict.fromkeys(("F", "Cl", "Br", "I"), -1),
    **dict.fromkeys(("He", "Ne", "Ar", "Kr", "Xe"), 0),
}
"""Charges (e) of single atoms that have one usual charge."""

NAMED_IONS = {"FE2": 2, "FE": 3, "CU1": 1, "CU": 2, "CO": 2, "3CO": 3, "NI": 2, "MN3": 3}
"""Charges (e) of other single atoms by residue name, as in the PDB's chemical component dictionary."""

LINEAR = -0.77
"""Cosine of the angle (140°) below which a carbon with two neighbours may be one of a triple or two double bonds."""

PYRAMIDAL = 0.42
"""Å out of the plane of its three neighbours, beyond which a carbon lacks a fourth: 0.5 in a methyl radical's place,
under 0.3 of a flat carbon in hot dynamics."""

_WATERS = ("HOH", "WAT", "H2O", "TIP3", "TIP3P", "SOL", "DOD")
_AMINO_ACIDS_WORDS = (
    "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL ASH GLH HID HIE HIP LYN CYX CYM "
    "HSD HSE HSP MSE"
)
_AMINO_ACIDS = frozenset(_AMINO_ACIDS_WORDS.split())


def graph_of(
    atoms: ase.Atoms,
    topology: Topology | None = None,
    *,
    bonds: Int[np.ndarray, "M 2"] | None = None,
    ions: Mapping[str, int] | None = None,
) -> ChemicalGraph:
    """The chemical graph of a molecule, a protein, or a whole box of them.

    With every hydrogen there, the number of neighbours of each atom decides orders and charges (see
    `heliodor.fragments.lewis`): amino acids in every protonation state, caps, ends, disulfides, nucleotides, lipids and
    ordinary organic molecules need no templates. Positions are looked at only to tell which atoms are bonded (where
    neither ``topology`` nor ``bonds`` is given) and to notice hydrogens that are missing. Metals have no bonds.

    Args:
        topology: of the same atoms, such as `heliodor.prepare`'s, for bonds and names; default: names from the arrays
            of ``atoms``, bonds by distance, through periodic boundaries.
        bonds: pairs of indices, in place of those.
        ions: charges of single atoms by element, e, such as ``{"Fe": 3}``, beside `IONS`.

    Raises:
        InputError: hydrogens are missing; atoms with impossible numbers of bonds, metals in bonds, metals of unknown
            charge, no closed-shell structure (radicals); a total charge other than ``atoms.info["charge"]``.
    """
    if topology is None:
        topology = topology_of(atoms, bonds)
    elif len(topology) != len(atoms):
        raise InputError(f"a topology of {len(topology)} atoms does not fit a structure of {len(atoms)}")
    pairs = _pairs(topology.bonds if bonds is None else bonds, len(atoms))
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    degree = np.bincount(pairs.reshape(-1), minlength=len(atoms))
    _refuse_metals(topology, numbers, degree)
    _refuse_bare(atoms, topology, numbers, degree, pairs)
    orders, charges = np.ones(len(pairs), dtype=np.int64), np.zeros(len(atoms), dtype=np.int64)
    alone = np.flatnonzero(degree == 0)
    charges[alone] = _ion_charges(topology, alone, ions or {})
    _assign(topology, numbers, degree, pairs, orders, charges)
    graph = ChemicalGraph(numbers, pairs, orders, whole_bonds(numbers, degree, pairs, orders, charges), charges)
    said = atoms.info.get("charge")
    if said is not None and float(said) != graph.charge:
        raise InputError(
            f"the formal charges of the structure add up to {graph.charge:+d} e, but its total charge is said to be "
            f"{float(said):+g}: hydrogens are missing or too many, or the charge is wrong"
        )
    return graph


def _pairs(bonds: Int[np.ndarray, "M 2"], n: int) -> Int[np.ndarray, "K 2"]:
    pairs = np.asarray(bonds, dtype=np.int64).reshape(-1, 2)
    if len(pairs) and (pairs.min() < 0 or pairs.max() >= n or (pairs[:, 0] == pairs[:, 1]).any()):
        raise InputError(f"bonds must join two of the {n} atoms, which are counted from 0")
    return np.unique(np.sort(pairs, axis=1), axis=0).reshape(-1, 2)


def _refuse_metals(topology: Topology, numbers: Int[np.ndarray, "N"], degree: Int[np.ndarray, "N"]) -> None:
    bound = np.flatnonzero((degree > 0) & ~np.isin(numbers, NONMETALS))
    if len(bound):
        raise InputError(
            f"{topology.label(int(bound[0]))} is bonded, but {chemical_symbols[numbers[bound[0]]]} is no nonmetal: "
            "bond orders of metal complexes are not known here; leave the metal's bonds out to treat it as an ion"
        )


def _refuse_bare(
    atoms: ase.Atoms,
    topology: Topology,
    numbers: Int[np.ndarray, "N"],
    degree: Int[np.ndarray, "N"],
    pairs: Int[np.ndarray, "M 2"],
) -> None:
    """Refuse structures that lack hydrogens: by names where there are some, by shape where not."""
    bare = (degree == 0) & np.isin(numbers, (6, 7, 8, 15, 16))
    if topology.named:
        bare |= np.isin(topology.residue_names, _WATERS) & (numbers == 8) & (degree < 2)
        alpha = (topology.names == "CA") & (numbers == 6) & np.isin(topology.residue_names, list(_AMINO_ACIDS))
        bare |= alpha & (degree < 4)
    carbon = numbers == 6
    bare |= carbon & (degree == 1) & _lone_to(pairs, numbers, (1, 6))
    bare |= _bent_or_pyramidal(atoms, carbon, degree, pairs)
    found = np.flatnonzero(bare)
    if len(found):
        more = f" and {len(found) - 1} other atoms have" if len(found) > 1 else " has"
        raise InputError(
            f"{topology.label(int(found[0]))}{more} too few bonds: hydrogens are missing (or atoms lie too far apart). "
            "All hydrogens are needed, because bond orders and charges follow from them: add them, for example with "
            "'heliodor prepare'"
        )


def _lone_to(pairs: Int[np.ndarray, "M 2"], numbers: Int[np.ndarray, "N"], elements: tuple[int, ...]) -> np.ndarray:
    """Atoms bonded to one of these elements."""
    found = np.zeros(len(numbers), dtype=bool)
    for here, there in ((0, 1), (1, 0)):
        found[pairs[np.isin(numbers[pairs[:, there]], elements), here]] = True
    return found


def _bent_or_pyramidal(
    atoms: ase.Atoms,
    carbon: Bool[np.ndarray, "N"],
    degree: Int[np.ndarray, "N"],
    pairs: Int[np.ndarray, "M 2"],
) -> Bool[np.ndarray, "N"]:
    """Carbons with two neighbours that are not in line, or with three that are not around them in a plane."""
    bad = np.zeros(len(atoms), dtype=bool)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    starts = np.searchsorted(both[:, 0], np.arange(len(atoms)))
    for count in (2, 3):
        chosen = np.flatnonzero(carbon & (degree == count))
        if not len(chosen):
            continue
        partners = both[starts[chosen][:, None] + np.arange(count), 1]
        arms = shortest(atoms.positions[partners] - atoms.positions[chosen][:, None], atoms)
        if count == 2:
            lengths = np.linalg.norm(arms, axis=2)
            cosine = (arms[:, 0] * arms[:, 1]).sum(1) / np.maximum(lengths.prod(1), 1e-12)
            bad[chosen] = cosine > LINEAR
        else:
            normal = np.cross(arms[:, 1] - arms[:, 0], arms[:, 2] - arms[:, 0])
            size = np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
            bad[chosen] = np.abs((arms[:, 0] * normal).sum(1)) / size > PYRAMIDAL
    return bad


def shortest(vectors: Float[np.ndarray, "*k 3"], atoms: ase.Atoms) -> Float[np.ndarray, "*k 3"]:
    """Vectors folded back into the periodic cell of ``atoms``: the shortest images, where those are shorter than half
    the cell's thickness."""
    if not atoms.pbc.any():
        return vectors
    cell = np.asarray(atoms.cell) * atoms.pbc[:, None]
    there = np.linalg.norm(cell, axis=1) > 1e-10
    inverse = np.linalg.inv(cell) if there.all() else np.linalg.pinv(cell)
    folded: np.ndarray = vectors - np.round(vectors @ inverse) @ cell
    return folded


def _ion_charges(topology: Topology, alone: Int[np.ndarray, "k"], ions: Mapping[str, int]) -> Int[np.ndarray, "k"]:
    known = {**IONS, **ions}
    found = np.zeros(len(alone), dtype=np.int64)
    for k, atom in enumerate(alone.tolist()):
        symbol, residue = chemical_symbols[topology.numbers[atom]], str(topology.residue_names[atom])
        if symbol not in ions and residue in NAMED_IONS and topology.numbers[atom] not in NONMETALS:
            found[k] = NAMED_IONS[residue]
        elif symbol in known:
            found[k] = known[symbol]
        elif topology.numbers[atom] in NONMETALS:
            raise InputError(
                f"{topology.label(atom)} has no bonds: an atom is missing beside it, or it lies too far off"
            )
        else:
            raise InputError(
                f"the charge of the {symbol} ion {topology.label(atom)} is not known: say it, as in "
                f"ions={{{symbol!r}: 2}}"
            )
    return found


def _assign(
    topology: Topology,
    numbers: Int[np.ndarray, "N"],
    degree: Int[np.ndarray, "N"],
    pairs: Int[np.ndarray, "M 2"],
    orders: Int[np.ndarray, "M"],
    charges: Int[np.ndarray, "N"],
) -> None:
    """Fill in orders and charges, one conjugated piece at a time, equal pieces once."""
    states: dict[int, tuple[State, ...]] = {}
    open_ended = np.zeros(len(numbers), dtype=bool)
    for z, d in np.unique(np.stack([numbers, degree], axis=1)[degree > 0], axis=0).tolist():
        here = np.flatnonzero((numbers == z) & (degree == d))
        choices = STATES.get(z, {}).get(d)
        if choices is None:
            raise InputError(
                f"{topology.label(int(here[0]))} has {d} bonds, which {chemical_symbols[z]} cannot have here: atoms "
                "lie too close together, or bonds are wrong"
            )
        if len(choices) == 1 and choices[0][0] == 0:
            charges[here] = choices[0][1]
        else:
            open_ended[here] = True
            states |= dict.fromkeys(here.tolist(), choices)
    for d, special, ends, least in ((3, PRIMARY, (1,), 2), (3, NITRO, (8,), 2), (2, CUMULATED, (6, 7), 1)):
        count = _ends(numbers, degree, pairs, ends)
        states |= dict.fromkeys(np.flatnonzero((numbers == 7) & (degree == d) & (count >= least)).tolist(), special)
    inner = np.flatnonzero(open_ended[pairs].all(1)) if len(pairs) else np.zeros(0, dtype=np.int64)
    known: dict[Pieces, tuple[np.ndarray, np.ndarray] | None] = {}
    for members, rows in _components(np.flatnonzero(open_ended), pairs, inner):
        place = {atom: k for k, atom in enumerate(members)}
        piece = (
            tuple(states[atom] for atom in members),
            tuple((place[i], place[j]) for i, j in pairs[rows].tolist()),
        )
        if piece not in known:
            known[piece] = lewis(piece)
        solved = known[piece]
        if solved is None:
            named = ", ".join(topology.label(atom) for atom in members[:4]) + (" ..." if len(members) > 4 else "")
            raise InputError(
                f"there is no closed-shell structure for {named}: a hydrogen is missing or too many there, a bond is "
                "wrong, or it is a radical, which fragments cannot be"
            )
        orders[rows], charges[members] = solved


def _ends(
    numbers: Int[np.ndarray, "N"],
    degree: Int[np.ndarray, "N"],
    pairs: Int[np.ndarray, "M 2"],
    elements: tuple[int, ...],
) -> Int[np.ndarray, "N"]:
    """How many neighbours of these elements, that have no other neighbour, each atom has."""
    terminal = np.isin(numbers, elements) & (degree == 1)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    return np.bincount(both[terminal[both[:, 1]], 0], minlength=len(numbers))


def _components(
    members: Int[np.ndarray, "n"], pairs: Int[np.ndarray, "M 2"], inner: Int[np.ndarray, "m"]
) -> list[tuple[list[int], list[int]]]:
    """Connected pieces: their atoms, ascending, and the rows of their bonds."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(members):
        return []
    i, j = np.searchsorted(members, pairs[inner]).T
    count, label = connected_components(
        coo_array((np.ones(len(inner)), (i, j)), shape=(len(members), len(members))), directed=False
    )
    atoms: list[list[int]] = [[] for _ in range(count)]
    rows: list[list[int]] = [[] for _ in range(count)]
    for atom, piece in zip(members.tolist(), label.tolist(), strict=True):
        atoms[piece].append(atom)
    for row, piece in zip(inner.tolist(), label[i].tolist(), strict=True):
        rows[piece].append(row)
    return list(zip(atoms, rows, strict=True))
