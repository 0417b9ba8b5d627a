"""What every method asks of a structure before it spends time on it: atoms, whole charge, a spin that fits."""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int

from heliodor.errors import InputError
from heliodor.label.label import LabelError
from heliodor.system import read_charge, read_spin

CLOSE = 0.2
"""Å; nuclei closer than this are a mistake in the structure, and no method is made for them."""


@dataclass(frozen=True, eq=False)
class Electrons:
    """A structure as programs of quantum chemistry want it.

    Attributes:
        numbers: atomic numbers.
        positions: Å.
        charge: whole number, e.
        unpaired: electrons.
        cell: Å, rows are lattice vectors; None for a molecule.
    """

    numbers: Int[np.ndarray, "N"]
    positions: Float[np.ndarray, "N 3"]
    charge: int
    unpaired: int
    cell: Float[np.ndarray, "3 3"] | None

    @property
    def symbols(self) -> list[str]:
        """Of the elements, atom by atom."""
        return [chemical_symbols[z] for z in self.numbers.tolist()]


def read_electrons(atoms: ase.Atoms, method: str, *, periodic: bool = False) -> Electrons:
    """Check a structure and take its charge and unpaired electrons from ``atoms.info``.

    Args:
        method: its name, for messages.
        periodic: whether the method can treat crystals.

    Raises:
        LabelError: no atoms, an unknown element, a position that is no finite number or on top of another, a charge
            that is not whole, a number of unpaired electrons that does not fit, a periodicity outside the method.
    """
    numbers, positions = np.asarray(atoms.numbers), np.asarray(atoms.positions, dtype=float)
    if not len(numbers):
        raise LabelError(f"{method}: the structure has no atoms")
    unknown = np.flatnonzero((numbers < 1) | (numbers >= len(chemical_symbols)))
    if len(unknown):
        raise LabelError(f"{method}: atom {unknown[0]} has no known element (atomic number {numbers[unknown[0]]})")
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(bad):
        raise LabelError(f"{method}: atom {bad[0]} ({atoms.symbols[int(bad[0])]}) has a position that is not a number")
    try:
        charge, unpaired = read_charge(atoms), read_spin(atoms)
    except InputError as error:
        raise LabelError(f"{method}: {error}") from None
    if charge != round(charge):
        raise LabelError(f"{method}: the charge must be a whole number, not {charge:g}")
    electrons = int(numbers.sum()) - round(charge)
    if electrons < 1 or unpaired > electrons or (electrons - unpaired) % 2:
        raise LabelError(
            f"{method}: charge {round(charge):+d} leaves {electrons} electrons, which cannot have {unpaired} "
            "unpaired: correct atoms.info['charge'] or atoms.info['spin'] (unpaired electrons)"
        )
    cell = None
    if atoms.pbc.any():
        cell = _check_cell(atoms, method, periodic)
    _refuse_clashes(positions, cell, method)
    return Electrons(numbers, positions, round(charge), unpaired, cell)


def _check_cell(atoms: ase.Atoms, method: str, periodic: bool) -> Float[np.ndarray, "3 3"]:
    if not periodic:
        raise LabelError(
            f"{method} treats molecules only, and this structure is periodic: cut a cluster from it (heliodor "
            "fragment), or set atoms.pbc = False if it is a molecule in a box"
        )
    if not atoms.pbc.all():
        raise LabelError(
            f"{method} is periodic along all three vectors or none: give the slab or chain a cell with vacuum and "
            "atoms.pbc = True"
        )
    cell = np.asarray(atoms.cell.array, dtype=float)
    if not np.isfinite(cell).all() or abs(np.linalg.det(cell)) < 1.0:
        raise LabelError(f"{method}: the structure is periodic but its cell has no volume")
    return cell


def _refuse_clashes(positions: Float[np.ndarray, "N 3"], cell: Float[np.ndarray, "3 3"] | None, method: str) -> None:
    if cell is None:
        from scipy.spatial import cKDTree

        pairs = cKDTree(positions).query_pairs(CLOSE, output_type="ndarray")
        apart = [float(np.linalg.norm(positions[i] - positions[j])) for i, j in pairs[:1]]
    else:
        from ase.neighborlist import primitive_neighbor_list

        i, j, apart = primitive_neighbor_list("ijd", (True, True, True), cell, positions, CLOSE)
        pairs = np.stack([i, j], axis=1)
    if len(pairs):
        i, j = (int(k) for k in pairs[0])
        whom = f"atom {i} and its own image are" if i == j else f"atoms {i} and {j} are"
        raise LabelError(f"{method}: {whom} {apart[0]:.3f} Å apart: correct the structure")
