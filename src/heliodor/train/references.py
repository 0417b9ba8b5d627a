"""Reference energies of the elements: what is taken off total energies before anything is rounded to float32.

A model learns E - Σ_a E_ref(Z_a). The references are kept in its card ("reference_energies", eV by element), so that
`total_energies` can add them back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Float, Int

from heliodor.errors import InputError
from heliodor.train.dataset import Dataset


@dataclass(frozen=True)
class References:
    """Energies of elements in eV, and where they come from.

    Attributes:
        energies: by atomic number.
        origin: in words.
    """

    energies: dict[int, float]
    origin: str

    def sums(self, dataset: Dataset) -> Float[np.ndarray, "S"]:
        """Σ_a E_ref(Z_a) of each structure, eV, float64.

        Raises:
            InputError: an element without a reference.
        """
        missing = [chemical_symbols[z] for z in dataset.elements if z not in self.energies]
        if missing:
            raise InputError(
                f"there is no reference energy for {', '.join(missing)} (known: {', '.join(self.symbols)})"
            )
        table = np.zeros(max(dataset.elements) + 1)
        for z in dataset.elements:
            table[z] = self.energies[z]
        return np.add.reduceat(table[dataset.numbers], dataset.offsets[:-1])

    @property
    def symbols(self) -> list[str]:
        return [chemical_symbols[z] for z in sorted(self.energies)]

    def to_card(self) -> dict[str, Any]:
        """For a model's card."""
        return {
            "reference_energies": {chemical_symbols[z]: e for z, e in sorted(self.energies.items())},
            "reference_origin": self.origin,
        }

    @staticmethod
    def from_card(card: Mapping[str, Any]) -> References | None:
        """What a card holds, or nothing."""
        kept = card.get("reference_energies")
        if not isinstance(kept, Mapping):
            return None
        return References({atomic_numbers[s]: float(e) for s, e in kept.items()}, str(card.get("reference_origin", "")))


def isolated_atoms(energies: Mapping[str, float] | Mapping[int, float]) -> References:
    """References from the method's energies of isolated atoms, eV, by symbol or atomic number.

    Raises:
        InputError: not an element, or not a number.
    """
    found: dict[int, float] = {}
    for key, energy in energies.items():
        z = atomic_numbers.get(str(key), key)
        if not isinstance(z, (int, np.integer)) or not 0 < z < len(chemical_symbols):
            raise InputError(f"reference energies are given by element, such as 'C': {key!r} is none")
        if not np.isfinite(energy):
            raise InputError(f"the reference energy of {chemical_symbols[z]} is not a finite number")
        found[int(z)] = float(energy)
    return References(found, "isolated atoms")


def fit_references(dataset: Dataset, ridge: float = 1e-9) -> References:
    """Least squares of the energies in the composition.

    Combinations of elements that the set does not tell apart (always CH2, say) get the solution nearest to equal
    energies per atom of all elements, by a small penalty.

    Args:
        ridge: the penalty, relative to the largest eigenvalue of the normal equations.

    Raises:
        InputError: no energies.
    """
    known = np.isfinite(dataset.energy)
    if not known.any():
        raise InputError("reference energies need energies: the data set has none")
    elements = dataset.elements
    composition = count_elements(dataset, elements)[known].astype(np.float64)
    energy = dataset.energy[known]
    # from the mean energy of an atom on: what is left is small, and the penalty pulls towards nothing
    start = energy.sum() / composition.sum()
    left = energy - start * composition.sum(1)
    u, s, vt = np.linalg.svd(composition, full_matrices=False)
    damped = s / (s**2 + ridge * s[0] ** 2)
    # where the set decides, one step of refinement takes the penalty's bias away
    damped = damped * (2.0 - s * damped)
    energies = start + vt.T @ (damped * (u.T @ left))
    return References({z: float(e) for z, e in zip(elements, energies, strict=True)}, "least squares over the set")


def references_for(dataset: Dataset) -> References:
    """`fit_references`; zeros for a set without energies, whose model then has no zero of its own either."""
    if np.isfinite(dataset.energy).any():
        return fit_references(dataset)
    return References(dict.fromkeys(dataset.elements, 0.0), "none: the set has no energies")


def count_elements(dataset: Dataset, elements: tuple[int, ...]) -> Int[np.ndarray, "S Z"]:
    """How many atoms of each element each structure has."""
    columns = [np.add.reduceat((dataset.numbers == z).astype(np.int64), dataset.offsets[:-1]) for z in elements]
    return np.stack(columns, axis=1)
