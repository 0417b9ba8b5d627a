"""Ends of a peptide that force fields have no templates for: COOH, NH2 and the amide, placed by geometry."""

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
    """COO- of the last residue as COOH: bonds to their lengths, the proton (HXT) on OXT and syn to C=O.

    Syn is the more stable side, by some 4 to 5 kcal/mol in acetic and formic acid.
    """
    c, o, oxt, ca = (last(topology, name) for name in ("C", "O", "OXT", "CA"))
    here = positions.copy()
    for atom, length in ((o, DOUBLE_CO), (oxt, SINGLE_CO)):
        bond = here[atom] - here[c]
        here[atom] = here[c] + bond * (length / np.linalg.norm(bond))
    proton = placed(here[ca], here[c], here[oxt], OH, COH, 180.0)
    added = np.append(topology.numbers, 1)
    made = Topology(
        numbers=added,
        names=np.append(topology.names, "HXT"),
        residue_names=np.append(topology.residue_names, topology.residue_names[-1]),
        residue_numbers=np.append(topology.residue_numbers, topology.residue_numbers[-1]),
        chains=np.append(topology.chains, topology.chains[-1]),
        bonds=np.concatenate([topology.bonds, np.array([[oxt, len(topology)]])]),
        named=True,
    )
    return made, np.concatenate([here, proton[None]])


def neutral_amine(topology: Topology, positions: Float[np.ndarray, "N 3"]) -> tuple[Topology, Float[np.ndarray, "M 3"]]:
    """NH3+ of the first residue as NH2: the last of its three protons (two of proline) goes."""
    nitrogen = int(np.flatnonzero(topology.names == "N")[0])
    protons = _hydrogens(topology, nitrogen)
    return _without(topology, positions, protons[-1:])


def amide(topology: Topology, positions: Float[np.ndarray, "N 3"]) -> tuple[Topology, Float[np.ndarray, "M 3"]]:
    """The methylamide at the end as NH2: its methyl carbon becomes a proton."""
    n, methyl, proton = (last(topology, name) for name in ("N", "C", "H"))
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


def last(topology: Topology, name: str) -> int:
    """The atom of this name in the last residue."""
    inside = topology.residues == topology.residues[-1]
    return int(np.flatnonzero(inside & (topology.names == name))[0])


def _hydrogens(topology: Topology, atom: int) -> Int[np.ndarray, "n"]:
    pairs = topology.bonds[(topology.bonds == atom).any(1)]
    others = pairs.sum(1) - atom
    return np.sort(others[topology.numbers[others] == 1])


def _without(
    topology: Topology, positions: Float[np.ndarray, "N 3"], gone: Int[np.ndarray, "n"]
) -> tuple[Topology, Float[np.ndarray, "M 3"]]:
    kept = np.setdiff1d(np.arange(len(topology)), gone)
    return topology.take(kept), positions[kept]
