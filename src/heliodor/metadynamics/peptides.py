"""Torsions of peptides by name: phi2, psi2, chi1 of residue 5, as collective variables."""

from __future__ import annotations

import re

import ase

from heliodor.analysis.proteins.torsions import KINDS, protein_torsions
from heliodor.errors import InputError
from heliodor.metadynamics.variables import Variable, torsion
from heliodor.topology import Topology, topology_of
from heliodor.trajectory.perceive import recognised


def named_topology(atoms: ase.Atoms) -> Topology:
    """Names as the structure has them, or recognised from its bonds."""
    topology = topology_of(atoms)
    return topology if topology.named else recognised(topology) or topology


def peptide_torsion(atoms: ase.Atoms, name: str, *, width: float = 20.0) -> Variable:
    """A torsion such as ``"phi2"``, ``"psi2"``, ``"chi1:5"`` (the number is that of the residue).

    Raises:
        InputError: no such torsion, naming those there are; two chains with a residue of that number.
    """
    words = re.fullmatch(r"\s*(phi|psi|omega|chi[1-4](?=:)):?\s*(-?\d+)\s*", name.lower())
    if words is None:
        raise InputError(
            f"cannot read {name!r} as a torsion: write four atoms counted from 0 (4,6,8,10), or for peptides a name "
            f"and the residue's number, phi2, psi2 or chi1:2"
        )
    kind, number = words.group(1), int(words.group(2))
    topology = named_topology(atoms)
    found = protein_torsions(topology)
    rows = [
        k
        for k in range(len(found))
        if found.kinds[k] == kind and int(topology.residue_numbers[found.quads[k, 2]]) == number
    ]
    if not rows:
        assert kind in KINDS
        there = ", ".join(
            f"{found.kinds[k]}{':' if 'chi' in found.kinds[k] else ''}{topology.residue_numbers[found.quads[k, 2]]}"
            for k in range(min(len(found), 12))
        )
        raise InputError(
            f"there is no torsion {name!r}: "
            + (f"the peptide has {there}" if there else "no peptide could be recognised in this structure")
        )
    if len(rows) > 1:
        raise InputError(f"{len(rows)} chains have a {kind} of residue {number}: write its four atoms instead")
    return torsion(found.quads[rows[0]].tolist(), width=width, name=found.labels[rows[0]])


def phi_psi(atoms: ase.Atoms, residue: int, *, width: float = 20.0) -> tuple[Variable, Variable]:
    """φ and ψ of a residue by its number.

    Raises:
        InputError: as `peptide_torsion`.
    """
    return (
        peptide_torsion(atoms, f"phi{residue}", width=width),
        peptide_torsion(atoms, f"psi{residue}", width=width),
    )
