"""Per-element constants that the physical terms need (as used in training SO3LR).

Free-atom polarizabilities α⁰ (Bohr³) and C6⁰ (Hartree·Bohr⁶): Tkatchenko & Scheffler, Phys. Rev. Lett. 102,
073005 (2009) and its later extensions, for the elements a released model was trained on.
"""

from __future__ import annotations

import torch
from torch import Tensor

COULOMB = 14.399645351950548
"""e²/(4πε₀) in eV·Å, CODATA 2014: part of the trained model."""

BOHR_2014 = 0.5291772105638411
HARTREE_2014 = 27.211386024367243
FINE_STRUCTURE = 0.007297352566206496

_FREE_ATOMS = {
    1: (4.5, 6.5),
    6: (12.0, 46.6),
    7: (7.4, 24.2),
    8: (5.4, 15.6),
    9: (3.8, 9.52),
    15: (25.0, 185.0),
    16: (19.6, 134.0),
    17: (15.0, 94.6),
}


def free_atom_table(n_elements: int = 119) -> Tensor:
    """[n_elements, 2] float64: α⁰ and C6⁰ by atomic number; NaN where unknown, so that nothing is guessed."""
    table = torch.full((n_elements, 2), float("nan"), dtype=torch.float64)
    for number, values in _FREE_ATOMS.items():
        table[number] = torch.tensor(values, dtype=torch.float64)
    return table
