"""What force fields have no templates for: ends COOH, NH2 and amide, neutral side chains at ends; by geometry."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from heliodor.prepare.chain import placed
from heliodor.topology import Topology

SINGLE_CO, DOUBLE_CO, OH, NH = 1.34, 1.21, 0.97, 1.01
"""Å, of C-OH and C=O in carboxylic acids, O-H and N-H."""

COH = 107.0
"""Degrees, C-O-H."""


def neutral_carboxyl(
    topology: Topology, positions: Float[np.ndarray, "N 3"]
) -> tuple[Topology, Float[np.ndarray, "M 3"]]:
    """COO- of the last residue as COOH."""
    return _acid(topology, positions, int(topology.residues[-1]), ("CA", "C", "O", "OXT"), "HXT")


SIDE_ACIDS = {"ASH": (("CB", "CG", "OD1", "OD2"), "HD2"), "GLH": (("CG", "CD", "OE1", "OE2"), "HE2")}
"""Atoms of neutral acids of side chains, and their proton."""


def neutral_side(
    topology: Topology, positions: Float[np.ndarray, "N 3"], residue: int, state: str
) -> tuple[Topology, Float[np.ndarray, "M 3"]]:
    """The charged side chain of a residue (index) as ASH, GLH or LYN.

    Force fields have templates of these inside a chain and not at its free ends.
    """
    if state in SIDE_ACIDS:
        return _acid(topology, positions, residue, *SIDE_ACIDS[state])
    return _without(topology, positions, np.array([_atom(topology, residue, "HZ1")]))


def _acid(
    topology: Topology, positions: Float[np.ndarray, "N 3"], residue: int, names: tuple[str, ...], proton: str
) -> tuple[Topology, Float[np.ndarray, "M 3"]]:
    """Carboxylate as acid: bonds to their lengths, the proton on the second oxygen and syn to C=O.

    Syn is the more stable side, by some 4 to 5 kcal/mol in acetic and formic acid.
    """
    root, c, o, oh = (_atom(topology, residue, name) for name in names)
    here = positions.copy()
    for atom, length in ((o, DOUBLE_CO), (oh, SINGLE_CO)):
        bond = here[atom] - here[c]
        here[atom] = here[c] + bond * (length / np.linalg.norm(bond))
    place = placed(here[root], here[c], here[oh], OH, COH, 180.0)
    # behind the last atom of its residue
    at = int(np.flatnonzero(topology.residues == residue)[-1]) + 1
    bonds = np.concatenate([topology.bonds + (topology.bonds >= at), [sorted((oh + (oh >= at), at))]])
    made = Topology(
        numbers=np.insert(topology.numbers, at, 1),
        names=_inserted(topology.names, at, proton),
        residue_names=_inserted(topology.residue_names, at, str(topology.residue_names[oh])),
        residue_numbers=np.insert(topology.residue_numbers, at, topology.residue_numbers[oh]),
        chains=_inserted(topology.chains, at, str(topology.chains[oh])),
        bonds=bonds[np.lexsort((bonds[:, 1], bonds[:, 0]))],
        named=True,
    )
    return made, np.insert(here, at, place, axis=0)


def _inserted(words: np.ndarray, at: int, word: str) -> np.ndarray:
    return np.array([*words[:at], word, *words[at:]])


def neutral_amine(topology: Topology, positions: Float[np.ndarray, "N 3"]) -> tuple[Topology, Float[np.ndarray, "M 3"]]:
    """NH3+ of the first residue as NH2: the last of its three protons (two of proline) goes."""
    nitrogen = int(np.flatnonzero(topology.names == "N")[0])
    protons = _hydrogens(topology, nitrogen)
    return _without(topology, positions, protons[-1:])


def amide(topology: Topology, positions: Float[np.ndarray, "N 3"]) -> tuple[Topology, Float[np.ndarray, "M 3"]]:
    """The methylamide at the end as NH2: its methyl carbon becomes a proton."""
    n, methyl, proton = (_atom(topology, int(topology.residues[-1]), name) for name in ("N", "C", "H"))
    bond = positions[methyl] - positions[n]
    here = positions.copy()
    here[methyl] = here[n] + bond * (NH / np.linalg.norm(bond))
    numbers, names, residues = (
        topology.numbers.copy(),
        topology.names.astype("<U8"),
        topology.residue_names.astype("<U8"),
    )
    numbers[methyl] = 1
    names[methyl], names[proton] = "HN2", "HN1"
    residues[topology.residues == topology.residues[-1]] = "NH2"
    gone = np.array([k for k in _hydrogens(topology, methyl) if k != n], dtype=np.int64)
    made = Topology(
        numbers, names, residues, topology.residue_numbers, topology.chains, topology.bonds, named=topology.named
    )
    return _without(made, here, gone)


def _atom(topology: Topology, residue: int, name: str) -> int:
    """The atom of this name in a residue."""
    return int(np.flatnonzero((topology.residues == residue) & (topology.names == name))[0])


def _hydrogens(topology: Topology, atom: int) -> Int[np.ndarray, "n"]:
    pairs = topology.bonds[(topology.bonds == atom).any(1)]
    others = pairs.sum(1) - atom
    return np.sort(others[topology.numbers[others] == 1])


def _without(
    topology: Topology, positions: Float[np.ndarray, "N 3"], gone: Int[np.ndarray, "n"]
) -> tuple[Topology, Float[np.ndarray, "M 3"]]:
    kept = np.setdiff1d(np.arange(len(topology)), gone)
    return topology.take(kept), positions[kept]
