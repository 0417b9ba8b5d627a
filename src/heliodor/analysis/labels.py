"""Reference values in structures read by ASE: where they are, and whether they can be what they claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np

from heliodor.errors import InputError

PER_STRUCTURE = ("energy", "dipole", "polarizability")
PER_ITEM = {"forces": 3, "dipole": 3, "polarizability": 9}
"""Numbers of an atom or a structure, where they are more than one."""

USUAL_KEYS = {
    "energy": ("energy", "ref_energy", "REF_energy"),
    "forces": ("forces", "ref_forces", "REF_forces"),
    "dipole": ("dipole", "ref_dipole", "REF_dipole"),
    "polarizability": ("polarizability", "ref_polarizability", "REF_polarizability"),
    "charges": ("charges", "ref_partial_charges", "ref_charges", "REF_charges"),
    "hirshfeld_ratios": ("hirshfeld_ratios", "ref_hirshfeld_ratios", "REF_hirshfeld_ratios"),
}
"""Where labels are looked for, in this order, when no key is given."""


@dataclass(frozen=True)
class Labels:
    """Reference values of one quantity.

    Attributes:
        key: where they were found.
        values: one array per structure, None where it has none.
    """

    key: str
    values: list[np.ndarray | None]


def find_labels(frames: Sequence[ase.Atoms], name: str, key: str | None = None) -> Labels | None:
    """Reference values of a quantity; None if there are none and no key was asked for.

    Raises:
        InputError: no structure has the key; values of the wrong shape or not finite.
    """
    for candidate in USUAL_KEYS[name] if key is None else (key,):
        values = [_label(frame, candidate, name) for frame in frames]
        if any(value is not None for value in values):
            for index, (frame, value) in enumerate(zip(frames, values, strict=True)):
                _check_label(frame, value, f"structure {index}: {candidate}", name)
            return Labels(candidate, values)
    if key is not None:
        raise InputError(f"no structure has {name} under {key!r}; the first one has {contents(frames[0])}")
    return None


def _label(frame: ase.Atoms, key: str, name: str) -> np.ndarray | None:
    # ASE moves what it knows from the file into a calculator
    stores: list[dict[str, Any]] = [frame.calc.results] if frame.calc is not None else []
    stores.append(frame.info if name in PER_STRUCTURE else frame.arrays)
    for store in stores:
        if store.get(key) is not None:
            try:
                return np.asarray(store[key], dtype=np.float64)
            except (TypeError, ValueError):
                raise InputError(f"{key} is no array of numbers: it cannot be {name}") from None
    return None


def _check_label(frame: ase.Atoms, value: np.ndarray | None, where: str, name: str) -> None:
    if value is None:
        return
    expected = PER_ITEM.get(name, 1) * (1 if name in PER_STRUCTURE else len(frame))
    if value.size != expected:
        raise InputError(f"{where} has {value.size} numbers where {name} needs {expected}")
    if not np.isfinite(value).all():
        raise InputError(f"{where} has values that are not finite")


def contents(frame: ase.Atoms) -> str:
    """Names of what a structure carries besides its geometry, for messages."""
    names = {*frame.info, *frame.arrays, *(frame.calc.results if frame.calc is not None else ())}
    names -= {"numbers", "positions", "charge", "spin", "multiplicity"}
    return ", ".join(sorted(names)) or "none but elements and positions"
