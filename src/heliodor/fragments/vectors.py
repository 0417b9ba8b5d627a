"""One vector for each structure, of whatever size, where superposition is impossible because the atoms differ.

Two kinds. Without a model: how often each pair of elements is found at each distance, an element's share of the atoms
besides; it knows neither handedness nor anything beyond 6 Å. With a model: the mean over each element's atoms of what
the model's network knows of them (`heliodor.descriptors`). Both count per atom, so that size alone is no distance, and
both have no unit: distances of one kind can be compared with each other only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase.geometry import get_distances
from jaxtyping import Float, Int

from heliodor.errors import InputError
from heliodor.fragments.aligned import Progress
from heliodor.potential import Potential

REACH = 6.0
"""Å, of pairs that are counted."""

WIDTH = 0.2
"""Å: breadth of the Gaussian that stands for a pair, and spacing of the grid."""

BATCH = 100
"""Structures handed to a model at once."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """F points with Euclidean distances."""

    values: Float[np.ndarray, "F D"]

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: Int[np.ndarray, "K"]) -> Vectors:
        """Some of them, in this order."""
        return Vectors(self.values[index])

    def squared(self, other: Vectors) -> Float[np.ndarray, "A B"]:
        """Squared Euclidean distances, float32."""
        # from a common point near all of them, where squares cancel less
        centre = other.values.mean(axis=0)
        a, b = self.values - centre, other.values - centre
        found = -2.0 * (a @ b.T)
        found += np.square(a).sum(1)[:, None]
        found += np.square(b).sum(1)[None, :]
        result: np.ndarray = np.maximum(found, 0.0).astype(np.float32)
        return result

    def fingerprint(self) -> bytes:
        """Bytes that change when a distance does."""
        return np.ascontiguousarray(self.values).tobytes()


def vectors(
    structures: Sequence[ase.Atoms], potential: Potential | None = None, progress: Progress | None = None
) -> Vectors:
    """The vectors of some structures: of a model's descriptors, or of pairs of atoms by distance without one.

    Raises:
        InputError: no structures, one without atoms.
        ModelError: structures outside the model, or a model without descriptors.
    """
    if not structures:
        raise InputError("no structures given")
    for k, atoms in enumerate(structures):
        if len(atoms) == 0 or not np.isfinite(atoms.positions).all():
            raise InputError(f"structure {k} has no atoms, or coordinates that are no numbers")
    elements = np.unique(np.concatenate([atoms.numbers for atoms in structures]))
    told = progress or (lambda *_: None)
    rows = []
    for first in range(0, len(structures), BATCH):
        some = list(structures[first : first + BATCH])
        rows += [_pairs(atoms, elements) for atoms in some] if potential is None else _means(some, elements, potential)
        told("descriptors", len(rows), len(structures))
    return Vectors(np.array(rows, dtype=np.float64))


def _pairs(atoms: ase.Atoms, elements: np.ndarray) -> np.ndarray:
    kind = np.searchsorted(elements, atoms.numbers)
    count = len(elements)
    shares = np.bincount(kind, minlength=count) / len(atoms)
    grid = np.arange(0.5, REACH, WIDTH)
    spectrum = np.zeros((count * count, len(grid)))
    if len(atoms) > 1:
        i, j = np.triu_indices(len(atoms), 1)
        periodic = bool(atoms.pbc.any())
        whole = get_distances(atoms.positions, cell=atoms.cell, pbc=atoms.pbc)[1] if periodic else None
        r = np.linalg.norm(atoms.positions[i] - atoms.positions[j], axis=1) if whole is None else whole[i, j]
        near = r < REACH
        i, j, r = i[near], j[near], r[near]
        # falls to zero at the reach, so that no pair comes or goes at once
        weight = 0.5 * (1.0 + np.cos(np.pi * r / REACH))
        pair = np.minimum(kind[i], kind[j]) * count + np.maximum(kind[i], kind[j])
        peaks = weight[:, None] * np.exp(-0.5 * np.square((grid - r[:, None]) / WIDTH))
        np.add.at(spectrum, pair, peaks)
    upper = np.triu(np.ones((count, count), dtype=bool)).ravel()
    return np.concatenate([shares, spectrum[upper].ravel() / len(atoms)])


def _means(structures: list[ase.Atoms], elements: np.ndarray, potential: Potential) -> list[np.ndarray]:
    from heliodor.descriptor import descriptors

    found = []
    for atoms, features in zip(structures, descriptors(potential, structures), strict=True):
        mine = (atoms.numbers[None, :] == elements[:, None]) / len(atoms)
        found.append((mine @ np.asarray(features, dtype=np.float64)).ravel())
    return found
