"""Atoms that are far too close: before the relaxation it is told how many, after it none may be left."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from heliodor.errors import InputError
from heliodor.prepare.prepared import NANOMETRE, box_of, label, nanometres

CLASH = 1.0
"""Å; no two heavy atoms come this close in a molecule."""

CONTACT = 1.6
"""Å; heavy atoms of different residues without a bond are further apart than this unless something is wrong."""

ONE_SPOT = 0.5
"""Å; atoms this close are copies of each other, not a strained structure."""


def close_pairs(topology: Any, positions: Any, closest: float = CONTACT) -> list[tuple[float, Any, Any]]:
    """Pairs of heavy atoms that are not bonded and closer than ``closest`` (Å), of one residue only below `CLASH`.

    Returns:
        Distance in Å and the two atoms (OpenMM's), closest first.
    """
    from vesin import NeighborList

    atoms = [atom for atom in topology.atoms() if atom.element is not None and atom.element.atomic_number > 1]
    where: Float[np.ndarray, "n 3"] = nanometres(positions)[[atom.index for atom in atoms]] * NANOMETRE
    if len(atoms) < 2:
        return []
    box = box_of(topology)
    i: Int[np.ndarray, "P"]
    i, j, d = NeighborList(cutoff=closest, full_list=False).compute(
        points=where, box=np.zeros((3, 3)) if box is None else box, periodic=box is not None, quantities="ijd"
    )
    bonded = {frozenset((bond[0].index, bond[1].index)) for bond in topology.bonds()}
    found = []
    for a, b, distance in zip(i.astype(int).tolist(), j.astype(int).tolist(), d.tolist(), strict=True):
        first, second = atoms[a], atoms[b]
        apart = first.residue is not second.residue and frozenset((first.index, second.index)) not in bonded
        if distance < CLASH or apart:
            found.append((float(distance), first, second))
    return sorted(found, key=lambda pair: pair[0])


def refuse_one_spot(topology: Any, positions: Any) -> int:
    """Refuse atoms on one spot; the number of other clashes.

    Raises:
        InputError: naming two atoms on one spot.
    """
    pairs = close_pairs(topology, positions)
    if pairs and pairs[0][0] < ONE_SPOT:
        raise InputError(
            f"{_words(pairs[0])}: two atoms on one spot, a copy or an alternate location without its letter? Remove one"
        )
    return len(pairs)


def refuse_clashes(topology: Any, positions: Any, relaxed: bool) -> None:
    """Refuse clashes that are left.

    Raises:
        InputError: naming the closest pairs.
    """
    pairs = close_pairs(topology, positions)
    if not pairs:
        return
    shown = "; ".join(_words(pair) for pair in pairs[:5]) + (f"; and {len(pairs) - 5} more" if len(pairs) > 5 else "")
    way = (
        "the relaxation could not part them: look at the structure (overlapping chains or symmetry copies, a ring "
        "threaded by a side chain), or leave one of them out"
        if relaxed
        else "relax the structure (leave --no-minimise out)"
    )
    raise InputError(f"{len(pairs)} pairs of heavy atoms clash: {shown}; {way}")


def _words(pair: tuple[float, Any, Any]) -> str:
    distance, first, second = pair
    return f"{label(first.residue)} {first.name} and {label(second.residue)} {second.name} are {distance:.2f} Å apart"
