"""The first step compared: whether an engine asks about the right atoms, in the right units, before anything moves."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from heliodor.engines.evaluator import Evaluator
from heliodor.errors import InputError
from heliodor.units import BOHR, HARTREE, KCAL_PER_MOL, KJ_PER_MOL

_LENGTHS = {"nm": 0.1, "Bohr": 1.0 / BOHR, "pm": 100.0}
"""What a number of Å becomes."""
_ENERGIES = {"kJ/mol": 1.0 / KJ_PER_MOL, "kcal/mol": 1.0 / KCAL_PER_MOL, "Hartree": 1.0 / HARTREE}
"""What a number of eV becomes."""


def check_positions(evaluator: Evaluator, positions: Float[np.ndarray, "N 3"], engine: str) -> None:
    """Refuse an engine's first positions (already in Å) that are not those of the structure it was given.

    Atoms may have been moved by whole lattice vectors, and all of them by one vector, and by 1e-3 Å each: engines
    keep positions in float32 or in text files.

    Raises:
        InputError: another number of atoms, other units, another order of atoms, another structure.
    """
    atoms = evaluator.atoms
    if len(positions) != len(atoms):
        raise InputError(
            f"{engine} has {len(positions)} atoms, the structure given to heliodor {len(atoms)}: start both from one "
            "file"
        )
    if _same(evaluator, positions):
        return
    for unit, factor in _LENGTHS.items():
        if _same(evaluator, positions / factor):
            raise InputError(
                f"{engine} hands positions {factor:.4g} times those of the structure: they are in {unit}, not in Å; "
                "check the units it was set up with"
            )
        if _same(evaluator, positions * factor):
            raise InputError(
                f"{engine} hands positions {1.0 / factor:.4g} times those of the structure: it was given Å where it "
                f"takes {unit}; check the units it was set up with"
            )
    if _permuted(evaluator, positions):
        raise InputError(
            f"{engine} has the same atoms in another order than the structure given to heliodor: write one of the "
            "files from the other, so that atom k is the same atom in both"
        )
    worst = int(np.argmax(np.linalg.norm(_difference(evaluator, positions), axis=1)))
    raise InputError(
        f"{engine}'s first positions are not those of the structure given to heliodor (least of all that of atom "
        f"{worst}, counted from 0): start both from one file"
    )


def check_forces(
    evaluator: Evaluator,
    positions: Float[np.ndarray, "N 3"],
    energy: float | None,
    forces: Float[np.ndarray, "N 3"],
    engine: str,
    cell: Float[np.ndarray, "3 3"] | None = None,
    tolerance: float = 1e-3,
) -> None:
    """Refuse an engine whose energy and forces (read back and converted to eV, eV/Å) are not the model's.

    Args:
        positions, cell: Å, where the engine evaluated.
        energy: eV; None where the engine adds terms of its own.
        tolerance: eV/Å, and eV per atom.

    Raises:
        InputError: naming the unit that would explain it, where one does.
    """
    ours = evaluator(positions, cell)
    assert ours.forces is not None
    expected = ours.forces.double().numpy()
    if np.abs(forces - expected).max() > tolerance:
        raise InputError(
            f"{engine} reads back forces that are not the model's (largest difference "
            f"{np.abs(forces - expected).max():.3g} eV/Å){_explained(forces, expected)}"
        )
    value = float(ours.energy[0])
    if energy is not None and abs(energy - value) > tolerance * len(expected):
        raise InputError(
            f"{engine} reads back an energy of {energy:.6g} eV where the model gives {value:.6g} eV"
            f"{_explained(np.array([energy]), np.array([value]))}"
        )


def _explained(found: np.ndarray, expected: np.ndarray) -> str:
    """Which unit makes the one of the other."""
    size = np.abs(expected).max()
    if size == 0.0:
        return ""
    factor = float((found * expected).sum() / (expected * expected).sum())
    if np.abs(found - factor * expected).max() > 1e-3 * abs(factor) * size:
        return ": check the order of atoms and what other forces act on them"
    names = dict(_ENERGIES)
    for length, per in _LENGTHS.items():
        names |= {f"{energy}/{length}": value / per for energy, value in (_ENERGIES | {"eV": 1.0}).items()}
    for name, value in names.items():
        if abs(factor / value - 1.0) < 1e-2:
            return f": they are {factor:.5g} times as large, as if in {name}"
    if abs(factor + 1.0) < 1e-2:
        return ": they have the opposite sign"
    return f": they are {factor:.5g} times as large"


def _difference(evaluator: Evaluator, positions: np.ndarray) -> np.ndarray:
    """Displacements from the structure's positions, less whole lattice vectors and what is common to all."""
    atoms = evaluator.atoms
    moved = positions - atoms.positions
    moved = moved - moved[0]
    if atoms.pbc.any():
        from ase.geometry import find_mic

        moved = find_mic(moved, atoms.cell, atoms.pbc)[0]
    return moved


def _same(evaluator: Evaluator, positions: np.ndarray) -> bool:
    return bool(np.abs(_difference(evaluator, positions)).max() < 1e-3)


def _permuted(evaluator: Evaluator, positions: np.ndarray) -> bool:
    """Whether they are the structure's places, each taken once, by other atoms."""
    from scipy.spatial import KDTree

    atoms = evaluator.atoms
    both = (positions, atoms.positions)
    if not np.isfinite(positions).all():
        return False
    if atoms.pbc.any():
        box = np.asarray(atoms.cell.complete())
        inside = [p @ np.linalg.inv(box) for p in both]
        # twice: a small negative number is 1 after the first time
        inside = [np.where(atoms.pbc, np.mod(np.mod(f, 1.0), 1.0), f) for f in inside]
        distances, places = KDTree(inside[1], boxsize=np.where(atoms.pbc, 1.0, 0.0)).query(inside[0])
        distances = distances * np.linalg.norm(box, axis=1).max()
    else:
        distances, places = KDTree(both[1] - both[1].mean(0)).query(both[0] - both[0].mean(0))
    own = np.arange(len(atoms))
    return bool(distances.max() < 1e-2 and np.array_equal(np.sort(places), own) and (places != own).any())
