"""Chains closed to rings by covalent bonds, which force fields for open chains would cut open or misread."""

from __future__ import annotations

from typing import Any

import numpy as np

from heliodor.errors import InputError
from heliodor.prepare.output import PROTEIN
from heliodor.prepare.prepared import NANOMETRE, label, nanometres

BOND = 2.0
"""Å; the named pairs are bonded when they are closer than this (C-N 1.33, S-C 1.8)."""

SPOT = 1.1
"""Å; closer than any bond between them: atoms that clash."""


def refuse_cycles(topology: Any, positions: Any) -> None:
    """Refuse bonds between residues that are no neighbours: head to tail, lactams, thioethers and thioesters.

    Raises:
        InputError: naming the bond.
    """
    from vesin import NeighborList

    atoms = [a for r in topology.residues() if r.name in PROTEIN for a in r.atoms() if a.name[:1] in "NCS"]
    if len(atoms) < 2:
        return
    where = nanometres(positions)[[atom.index for atom in atoms]] * NANOMETRE
    i, j, d = NeighborList(cutoff=BOND, full_list=False).compute(
        points=where, box=np.zeros((3, 3)), periodic=False, quantities="ijd"
    )
    for a, b, distance in zip(i.astype(int).tolist(), j.astype(int).tolist(), d.tolist(), strict=True):
        pair = (atoms[a], atoms[b])
        if distance > SPOT and (_closes(*pair) or _closes(*pair[::-1])):
            first, second = pair
            raise InputError(
                f"{label(first.residue)} {first.name} and {label(second.residue)} {second.name} are bonded "
                f"({distance:.2f} Å): cyclic peptides and cross-links other than disulfides cannot be prepared from a "
                "file, their chain would be cut open; small ones can be made from SMILES (heliodor prepare molecule)"
            )


def _closes(first: Any, second: Any) -> bool:
    """Whether the bond of a nitrogen or sulfur to a carbon is none of an open chain."""
    a, b = first.residue, second.residue
    if a is b:
        return False
    if first.name == "N" and second.name == "C":
        return _is_end(a, 0) and _is_end(b, -1) and a.chain is b.chain and a.index != b.index + 1
    if first.name == "SG":
        return second.name[:1] == "C"
    return (first.name == "NZ" and ((second.name == "C" and _is_end(b, -1)) or _carries_acid(second))) or (
        first.name == "N" and _is_end(a, 0) and _carries_acid(second)
    )


def _carries_acid(atom: Any) -> bool:
    return (atom.residue.name, atom.name) in (("ASP", "CG"), ("ASN", "CG"), ("GLU", "CD"), ("GLN", "CD"))


def _is_end(residue: Any, place: int) -> bool:
    return list(residue.chain.residues())[place] is residue
