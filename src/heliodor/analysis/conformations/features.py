"""Numbers that describe a conformation and do not change when the molecule moves or turns as a whole."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.conformations.solute import Solute
from heliodor.analysis.conformations.superpose import superposed
from heliodor.errors import InputError, suggestion
from heliodor.topology import Topology

KINDS = ("distances", "dihedrals", "coordinates")

MOST_ATOMS = 120
"""Of the heavy atoms, whose distances are taken; of more, evenly many are left out (α carbons are kept first)."""


def features(
    positions: Float[np.ndarray, "F h 3"], solute: Solute, kind: str, reference: Float[np.ndarray, "h 3"]
) -> Float[np.ndarray, "F D"]:
    """D numbers for each frame.

    Args:
        positions: of the solute's superposed atoms, Å.
        kind: "distances" (Å, between heavy atoms), "dihedrals" (sine and cosine about each bond between heavy atoms),
            "coordinates" (Å, superposed on ``reference``).

    Raises:
        InputError: another kind; dihedrals of a molecule that has none.
    """
    if kind == "distances":
        chosen = _spread(solute)
        i, j = np.triu_indices(len(chosen), 1)
        result: np.ndarray = np.linalg.norm(positions[:, chosen[i]] - positions[:, chosen[j]], axis=2)
        return result
    if kind == "dihedrals":
        quads = dihedrals_of(solute.topology.take(solute.shape))
        if len(quads) == 0:
            raise InputError("the molecule has no dihedral of heavy atoms: choose features 'distances'")
        angles = dihedral_angles(positions, quads)
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    if kind == "coordinates":
        return superposed(positions, reference).reshape(len(positions), -1)
    raise InputError(f"features must be one of {', '.join(KINDS)}, not {kind!r}{suggestion(kind, KINDS)}")


def dihedrals_of(topology: Topology) -> Int[np.ndarray, "Q 4"]:
    """One dihedral a-b-c-d about each bond b-c whose ends both have another neighbour, by the first of these."""
    partners: list[list[int]] = [[] for _ in range(len(topology))]
    for i, j in topology.bonds.tolist():
        partners[i].append(j)
        partners[j].append(i)
    rows = []
    for b, c in topology.bonds.tolist():
        a = next((k for k in partners[b] if k != c), -1)
        d = next((k for k in partners[c] if k not in (a, b)), -1)
        if a >= 0 and d >= 0:
            rows.append((a, b, c, d))
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def dihedral_angles(positions: Float[np.ndarray, "F h 3"], quads: Int[np.ndarray, "Q 4"]) -> Float[np.ndarray, "F Q"]:
    """Radians, IUPAC's sign."""
    a, b, c, d = (positions[:, quads[:, k]] for k in range(4))
    axis = c - b
    left, right = np.cross(b - a, axis), np.cross(axis, d - c)
    length = np.linalg.norm(axis, axis=2)
    result: np.ndarray = np.arctan2(length * ((b - a) * right).sum(2), (left * right).sum(2))
    return result


def _spread(solute: Solute) -> Int[np.ndarray, "m"]:
    """Places among the superposed atoms."""
    names = solute.topology.names[solute.shape]
    places = np.arange(len(names))
    if len(places) <= MOST_ATOMS:
        return places
    alpha = places[names == "CA"]
    if len(alpha) >= 20:
        places = alpha
    return places[np.unique(np.linspace(0, len(places) - 1, MOST_ATOMS).astype(np.int64))]
