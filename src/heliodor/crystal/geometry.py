"""How far a crystal moved when it was relaxed: density, RMSD, RMSD of a cluster of molecules, space group."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import warnings
from typing import Any

import ase
import numpy as np

from heliodor.crystal.molecules import Molecule
from heliodor.units import GRAM_PER_CM3

CLUSTER = 20
"""Molecules compared by RMSD20."""


def density(crystal: ase.Atoms) -> float:
    """g/cm³."""
    return float(crystal.get_masses().sum() / crystal.get_volume() / GRAM_PER_CM3)


def rmsd_positions(before: ase.Atoms, after: ase.Atoms) -> float:
    """Root mean square displacement of all atoms in Å, in fractional coordinates times the mean cell, drift removed.

    The structures have their atoms in one order and neither is wrapped anew.
    """
    moved = after.cell.scaled_positions(after.positions) - before.cell.scaled_positions(before.positions)
    moved = (moved - moved.mean(axis=0)) @ (0.5 * (before.cell.array + after.cell.array))
    return float(np.sqrt(np.square(moved).sum(axis=1).mean()))


def rmsd_cluster(before: ase.Atoms, after: ase.Atoms, molecules: list[Molecule], size: int = CLUSTER) -> float:
    """RMSD in Å of the atoms other than hydrogen of ``size`` molecules, superimposed: RMSD20 in crystal structure
    prediction (Chisholm & Motherwell, J. Appl. Cryst. 38, 228 (2005), who search the match that is known here).

    The cluster is the first molecule and its nearest, by centres in ``before``. All atoms count where there is
    nothing but hydrogen.
    """
    cell = before.cell.array
    centres = np.array([m.at(before).positions.mean(axis=0) for m in molecules])
    # a sphere around `size` molecules has about this radius; twice that covers uneven packing
    radius = 2.0 * (0.75 / np.pi * size * before.get_volume() / len(molecules)) ** (1.0 / 3.0)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    reach = np.ceil(radius / heights).astype(int) + 1
    images = np.array(list(itertools.product(*[range(-n, n + 1) for n in reach])))
    offsets = centres[None, :, :] + (images @ cell)[:, None, :] - centres[0]
    # rounded, so that equally far molecules are taken in an order that noise does not change
    nearest = np.argsort(np.round(np.linalg.norm(offsets, axis=2).ravel(), 6), kind="stable")[:size]
    heavy = [m.atoms.numbers != 1 for m in molecules]
    if not any(mask.any() for mask in heavy):
        heavy = [np.ones_like(mask) for mask in heavy]
    clouds = []
    for frame in (before, after):
        parts = []
        for flat in nearest:
            image, which = divmod(int(flat), len(molecules))
            parts.append(molecules[which].at(frame).positions[heavy[which]] + images[image] @ frame.cell.array)
        clouds.append(np.concatenate(parts))
    return _superimposed(*clouds)


def space_group(crystal: ase.Atoms, tolerance: float = 0.01) -> str | None:
    """Symbol and number, as ``"P-42_1m (113)"``; None where spglib is not installed or finds none.

    Args:
        tolerance: Å.
    """
    dataset = _dataset(crystal, tolerance)
    return None if dataset is None else f"{dataset.international} ({dataset.number})"


def independent_molecules(crystal: ase.Atoms, count: int, tolerance: float = 0.01) -> float | None:
    """Z': formula units (``count`` in the cell) per asymmetric unit; None without spglib."""
    dataset = _dataset(crystal, tolerance)
    return None if dataset is None else count / len(dataset.rotations)


def _dataset(crystal: ase.Atoms, tolerance: float) -> Any:
    if importlib.util.find_spec("spglib") is None:
        return None
    # optional, and so unknown to type checkers
    spglib: Any = importlib.import_module("spglib")
    cell = (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers)
    try:
        with warnings.catch_warnings():
            # about how it reports errors, which depends on its version
            warnings.simplefilter("ignore", DeprecationWarning)
            return spglib.get_symmetry_dataset(cell, symprec=tolerance)
    except Exception:
        # newer versions raise where older ones answer None: atoms on one spot, a cell it cannot reduce
        return None


def _superimposed(a: np.ndarray, b: np.ndarray) -> float:
    """RMSD of two clouds after the best shift and proper rotation (Kabsch, Acta Cryst. A32, 922 (1976))."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    left, singular, right = np.linalg.svd(a.T @ b)
    singular[2] *= np.sign(np.linalg.det(left) * np.linalg.det(right))
    squared = np.square(a).sum() + np.square(b).sum() - 2.0 * singular.sum()
    return float(np.sqrt(max(squared, 0.0) / len(a)))
