"""Units told by the size of numbers: lengths by bonds, energies by those of free atoms, forces by what atoms feel."""

from __future__ import annotations

import math

import numpy as np

from heliodor.train.data.distances import Shapes
from heliodor.train.dataset import Dataset
from heliodor.train.references import count_elements
from heliodor.units import BOHR, HARTREE, KCAL_PER_MOL, KJ_PER_MOL

FREE_ATOMS = {
    **{1: -0.5, 2: -2.90372, 3: -7.47806, 4: -14.66736, 5: -24.65391, 6: -37.8450, 7: -54.5892, 8: -75.0673},
    **{9: -99.7339, 10: -128.9376, 11: -162.2546, 12: -200.053, 13: -242.346, 14: -289.359, 15: -341.259},
    **{16: -398.110, 17: -460.148, 18: -527.540},
}
"""Hartree, non-relativistic total energies (Chakravorty et al., Phys. Rev. A 47, 3649 (1993), table XI)."""

LENGTHS = ((1.0 / BOHR, "bohr"), (0.1, "nm"), (100.0, "pm"))
ENERGIES = ((1.0 / HARTREE, "hartree"), (1.0 / KCAL_PER_MOL, "kcal/mol"), (1.0 / KJ_PER_MOL, "kJ/mol"))

STRONG, WEAK = 8.0, 0.05
"""eV/Å, medians of the forces on atoms beyond which a unit is in doubt: thermal ones are about 1, hartree/bohr 51 times
and kcal/mol/Å a 23rd of an eV/Å."""


READ = "say so when the file is read: {}"


def judge_lengths(shapes: Shapes) -> str:
    """What is wrong with the unit of positions, in words; empty if nothing is seen.

    Bonds are as long as the sum of two covalent radii, within a few per cent.
    """
    known = shapes.bonded[np.isfinite(shapes.bonded)]
    if len(known) < 3:
        return ""
    ratio = float(np.median(known))
    for factor, unit in LENGTHS:
        if 0.83 < ratio / factor < 1.2:
            return (
                f"positions look like {unit}: neighbours are {ratio:.3g} times as far apart as bonds in Å are long; "
                f"{READ.format(f'--length-unit {unit}')}"
            )
    return ""


def judge_energies(data: Dataset) -> tuple[str, str]:
    """What is wrong with the unit of energies, and what they look like, in words; empty if nothing is seen.

    Total energies of all-electron methods are those of free atoms, within a few per cent. Energies of
    formation, and those with pseudopotentials, are not, and nothing is said against them.
    """
    known = np.isfinite(data.energy)
    if not known.any():
        return "", ""
    elements = data.elements
    composition = count_elements(data, elements)[known]
    per_atom = float(np.median(data.energy[known] / composition.sum(1)))
    if all(z in FREE_ATOMS for z in elements):
        free = composition @ np.array([FREE_ATOMS[z] for z in elements]) * HARTREE
        ratio = float(np.median(data.energy[known] / free))
        if 0.97 < ratio < 1.05:
            return "", "total energies with all electrons"
        for factor, unit in ENERGIES:
            if 0.97 < ratio / factor < 1.05:
                text = f"energies look like {unit}: they are {ratio:.3g} times those of the free atoms in eV"
                return f"{text}; {READ.format(f'--units {unit}')}", ""
        if -ratio > 0.9 and abs(abs(ratio) - 1.0) < 0.05:
            return "energies have the wrong sign: total energies are negative", ""
    if -9.0 < per_atom < -1.0:
        return "", "energies of formation from atoms, by their size"
    return "", f"{per_atom:.4g} eV an atom: by this size neither total with all electrons nor of formation from atoms"


def judge_forces(data: Dataset, norms: np.ndarray) -> str:
    """What is doubtful about the unit of forces, in words; empty if nothing is seen.

    Args:
        norms: eV/Å, lengths of the forces on atoms.
    """
    known = norms[np.isfinite(norms)]
    if len(known) < 10:
        return ""
    middle = float(np.median(known))
    if middle > STRONG:
        return f"the median force is {middle:.3g} eV/Å, too strong for matter near equilibrium: kcal/mol/Å?"
    if 0.0 < middle < WEAK and math.isfinite(middle):
        return f"the median force is {middle:.3g} eV/Å: structures at rest, or forces in hartree/bohr"
    return ""
