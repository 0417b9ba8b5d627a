"""Bond lengths against which force fields are checked, and measured geometries of the smallest molecules.

MMFF94 gives parameters for any bond: where it was not made for one (N2, CO2, SO2, azide) it takes it for single.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float

# Å; Pyykkö and Atsumi, Chem. Eur. J. 15, 186 and 12770 (2009); Pyykkö, Riedel and Patzschke, 11, 3511 (2005)
RADII: dict[int, tuple[float, float, float]] = {
    1: (0.32, 0.32, 0.32),
    5: (0.85, 0.78, 0.73),
    6: (0.75, 0.67, 0.60),
    7: (0.71, 0.60, 0.54),
    8: (0.63, 0.57, 0.53),
    9: (0.64, 0.59, 0.53),
    14: (1.16, 1.07, 1.02),
    15: (1.11, 1.02, 0.94),
    16: (1.03, 0.94, 0.95),
    17: (0.99, 0.95, 0.93),
    33: (1.21, 1.14, 1.06),
    34: (1.16, 1.07, 1.07),
    35: (1.14, 1.09, 1.10),
    53: (1.33, 1.29, 1.25),
}
"""Covalent radii for single, double and triple bonds by atomic number."""

TOO_LONG = 0.1
"""Å; a force field whose multiple bond is this much longer than the sum of the radii takes it for single."""

# Å and degrees: CRC Handbook of Chemistry and Physics ("Bond lengths and angles in gas-phase molecules") and NIST
# CCCBDB; azide Polak et al., J. Mol. Spectrosc. 124, 379 (1987); cyanate and thiocyanate from CCSD(T) as their
# rotational spectra confirm it; PF6- as in crystals
_TWO = {
    "[H][H]": 0.741, "N#N": 1.098, "O=O": 1.208, "[O][O]": 1.208, "FF": 1.412, "ClCl": 1.988, "BrBr": 2.281,
    "II": 2.666, "F": 0.917, "Cl": 1.275, "Br": 1.414, "I": 1.609, "[C-]#[O+]": 1.128, "[N]=O": 1.151,
    "[C-]#N": 1.177, "[C]#N": 1.172, "[OH]": 0.970, "[OH-]": 0.964, "[SH]": 1.341, "S=O": 1.481, "ClF": 1.628,
    "BrF": 1.759, "ICl": 2.321, "BrCl": 2.136, "S=S": 1.889, "[S][S]": 1.889, "[O]Cl": 1.570, "[C-]#[S+]": 1.535,
}  # fmt: skip
_THREE = {
    "O=C=O": (1.160, 1.160, 180.0),
    "S=C=S": (1.553, 1.553, 180.0),
    "O=C=S": (1.157, 1.561, 180.0),
    "[N-]=[N+]=O": (1.128, 1.184, 180.0),
    "N#[N+][O-]": (1.128, 1.184, 180.0),
    "[N-]=[N+]=[N-]": (1.188, 1.188, 180.0),
    "O=[N+]=O": (1.150, 1.150, 180.0),
    "[N-]=C=O": (1.192, 1.228, 180.0),
    "N#C[O-]": (1.192, 1.228, 180.0),
    "N#C[S-]": (1.180, 1.673, 180.0),
    "[N-]=C=S": (1.180, 1.673, 180.0),
    "N#CF": (1.159, 1.262, 180.0),
    "N#CCl": (1.159, 1.631, 180.0),
    "N#CBr": (1.158, 1.790, 180.0),
    "N#CI": (1.159, 1.994, 180.0),
    "O=S=O": (1.431, 1.431, 119.3),
    "[O][N]=O": (1.193, 1.193, 134.1),
    "O=[N+][O-]": (1.193, 1.193, 134.1),
    "O=N[O-]": (1.250, 1.250, 117.5),
    "O=[O+][O-]": (1.272, 1.272, 117.5),
    "O=NCl": (1.139, 1.975, 113.3),
    "O=NF": (1.136, 1.512, 110.1),
    "FOF": (1.405, 1.405, 103.1),
    "O=Cl[O]": (1.470, 1.470, 117.4),
}
"""Two lengths in the order of the SMILES and the angle at its middle atom."""
_STARS = {
    "O=S(=O)=O": ([1.420], "triangle"),
    "FB(F)F": ([1.313], "triangle"),
    "ClB(Cl)Cl": ([1.742], "triangle"),
    "FP(F)(F)(F)F": ([1.534] * 3 + [1.577] * 2, "bipyramid"),
    "ClP(Cl)(Cl)(Cl)Cl": ([2.020] * 3 + [2.124] * 2, "bipyramid"),
    "FS(F)(F)(F)(F)F": ([1.561], "octahedron"),
    "F[P-](F)(F)(F)(F)F": ([1.600], "octahedron"),
}
"""Lengths of the bonds to the atom in the middle, one for all or each."""

_SHAPES = {
    "triangle": [[1.0, 0.0, 0.0], [-0.5, 0.75**0.5, 0.0], [-0.5, -(0.75**0.5), 0.0]],
    "bipyramid": [[1.0, 0.0, 0.0], [-0.5, 0.75**0.5, 0.0], [-0.5, -(0.75**0.5), 0.0], [0, 0, 1.0], [0, 0, -1.0]],
    "octahedron": [[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0], [0, 0, 1.0], [0, 0, -1.0]],
}


def measured(mol: Any) -> Float[np.ndarray, "n 3"] | None:
    """Positions (Å) as measured in the gas phase of an RDKit molecule with all hydrogens; None for most molecules."""
    from rdkit import Chem

    bare = Chem.RemoveHs(mol)
    kind = _known().get(Chem.MolToSmiles(bare))
    if kind is None:
        return None
    own = Chem.AddHs(Chem.MolFromSmiles(kind))
    order = list(mol.GetSubstructMatch(own))
    if len(order) != mol.GetNumAtoms():
        return None
    found = np.zeros((mol.GetNumAtoms(), 3))
    if kind in _TWO:
        found[order[1]] = (_TWO[kind], 0.0, 0.0)
    elif kind in _THREE:
        first, second, angle = _THREE[kind]
        turn = np.deg2rad(angle)
        found[order[0]] = (first, 0.0, 0.0)
        found[order[2]] = (second * np.cos(turn), second * np.sin(turn), 0.0)
    else:
        lengths, shape = _STARS[kind]
        middle = next(atom.GetIdx() for atom in mol.GetAtoms() if atom.GetDegree() > 1)
        found[[k for k in order if k != middle]] = np.array(lengths)[:, None] * np.array(_SHAPES[shape])
    return found - found.mean(0)


def known_to(mol: Any, properties: Any) -> bool:
    """Whether MMFF94 takes no multiple bond for single (`TOO_LONG`).

    Args:
        properties: from ``MMFFGetMoleculeProperties``.
    """
    for bond in mol.GetBonds():
        i, j, order = bond.GetBeginAtom(), bond.GetEndAtom(), bond.GetBondTypeAsDouble()
        found = properties.GetMMFFBondStretchParams(mol, i.GetIdx(), j.GetIdx())
        if not found:
            return False
        first, second = RADII.get(i.GetAtomicNum()), RADII.get(j.GetAtomicNum())
        if order not in (2.0, 3.0) or first is None or second is None:
            continue
        if found[2] > first[int(order) - 1] + second[int(order) - 1] + TOO_LONG:
            return False
    return True


@cache
def _known() -> dict[str, str]:
    """The molecules above by RDKit's own spelling."""
    from rdkit import Chem

    chem: Any = Chem
    return {chem.CanonSmiles(text): text for text in (*_TWO, *_THREE, *_STARS)}
