"""Which of the alternate locations of a structure file is taken: by occupancy, one for residues that hang together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

BACKBONE = ("N", "CA", "C", "O", "CB")

PEPTIDE, DISULFIDE = 2.0, 2.5
"""Å; C-N and S-S of the same letter closer than this are bonded."""

Place = tuple[str, ...]
Key = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Alternate:
    """One location of one atom: name, occupancy, Å."""

    name: str
    occupancy: float
    position: Float[np.ndarray, "3"]


def best_conformers(options: Mapping[Place, Mapping[Key, Sequence[Alternate]]]) -> dict[Place, Key]:
    """The best occupied conformer of each place, as (letter, residue).

    A conformer's occupancy is the mean over its heavy atoms that all conformers of the place list (their backbone and
    CB where they list these; all where they share none), so that big residues have no advantage. Residues bonded to
    each other (peptide bond, disulfide) with alternatives of the same letter take the same letter, by the mean over
    them. Where several are equal the first letter is taken.

    Args:
        options: atoms by place and by (letter, residue).
    """
    weights = {place: _weights(found) for place, found in options.items()}
    chosen: dict[Place, Key] = {}
    for group in _groups(options):
        score: dict[str, list[float]] = {}
        for place in group:
            for (letter, _), weight in weights[place].items():
                score.setdefault(letter, []).append(weight)
        # a place without the letter keeps its own best and has no say about it
        mean = {letter: round(float(np.mean(values)), 4) for letter, values in score.items()}
        first = max(sorted(mean), key=mean.__getitem__)
        for place in group:
            own = {key: w for key, w in weights[place].items() if key[0] == first} or weights[place]
            chosen[place] = max(sorted(own), key=lambda key: round(own[key], 4))
    return chosen


def _weights(found: Mapping[Key, Sequence[Alternate]]) -> dict[Key, float]:
    heavy = {
        key: [atom for atom in atoms if atom.name.lstrip("0123456789")[:1] not in ("H", "D")] or list(atoms)
        for key, atoms in found.items()
    }
    shared = set.intersection(*({atom.name for atom in atoms} for atoms in heavy.values()))
    counted = shared.intersection(BACKBONE) or shared
    return {
        key: float(np.mean([atom.occupancy for atom in atoms if not counted or atom.name in counted]))
        for key, atoms in heavy.items()
    }


def _groups(options: Mapping[Place, Mapping[Key, Sequence[Alternate]]]) -> list[list[Place]]:
    """Places joined by bonds within one letter."""
    root = {place: place for place in options}

    def top(place: Place) -> Place:
        while root[place] != place:
            place = root[place]
        return place

    ends: dict[str, list[tuple[str, Place, np.ndarray]]] = {}
    for place, found in options.items():
        for (letter, _), atoms in found.items():
            for atom in atoms:
                if atom.name in ("N", "C", "SG"):
                    ends.setdefault(letter, []).append((atom.name, place, atom.position))
    for atoms_of in ends.values():
        for first, second, limit in (("C", "N", PEPTIDE), ("SG", "SG", DISULFIDE)):
            a = [(place, x) for name, place, x in atoms_of if name == first]
            b = [(place, x) for name, place, x in atoms_of if name == second]
            if not a or not b:
                continue
            from scipy.spatial import cKDTree

            near = cKDTree([x for _, x in a]).query_ball_point([x for _, x in b], limit)
            for k, found_near in enumerate(near):
                for j in found_near:
                    one, other = top(a[j][0]), top(b[k][0])
                    if one != other:
                        root[other] = one
    groups: dict[Place, list[Place]] = {}
    for place in options:
        groups.setdefault(top(place), []).append(place)
    return list(groups.values())
