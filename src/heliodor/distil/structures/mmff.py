"""MMFF94 (UFF where it has no parameters) as forces in eV/Å, with bonds mended where RDKit's fall-back is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from heliodor.units import KCAL_PER_MOL

REPAIRS = (
    ("[OX1]=[CX2]", 1.163),
    ("[SX1]=[CX2]", 1.56),
    ("[CX2]#[NX2+]", 1.135),
    ("[NX1-]=[NX2+;$([NX2]=[NX1])]", 1.18),
    ("[NX1-]=[NX2+]", 1.13),
    ("[OX1]=[NX2+]", 1.184),
    ("[OX1-]-[NX2]=[OX1]", 1.25),
    ("[OX1]=[NX2]-[OX1-]", 1.25),
    ("[OX1]=[SX2]=[OX1]", 1.43),
    ("[OX1]=[SX3](=[OX1])=[OX1]", 1.42),
)
"""Bonds, as the first two atoms of a SMARTS pattern, for which RDKit falls back on MMFF94's empirical rule and is wrong
by 0.1 to 0.3 Å, and their lengths in Å (rounded experimental values of CO2, CS2, HCNH+, N3-, N2O, NO2-, SO2, SO3)."""

REPAIR_FORCE = 1500.0
"""kcal/mol/Å², of the springs that mend them."""


@dataclass(frozen=True, eq=False)
class Field:
    """A force field of one conformer.

    Attributes:
        inner: RDKit's.
    """

    inner: Any

    def relax(self, steps: int) -> None:
        """Walk downhill, in the conformer itself."""
        self.inner.Minimize(maxIts=steps)

    def forces(self, positions: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """eV/Å."""
        flat = positions.ravel().tolist()
        # CalcGrad takes the distances of the last CalcEnergy
        self.inner.CalcEnergy(flat)
        return np.array(self.inner.CalcGrad(flat)).reshape(positions.shape) * -KCAL_PER_MOL

    def hold_torsion(self, atoms: tuple[int, int, int, int], degrees: float) -> None:
        """Keep a dihedral angle within 2° of a value; soft enough for steps of 1 fs."""
        # kcal/mol/degree²
        self.inner.MMFFAddTorsionConstraint(*atoms, False, degrees - 2.0, degrees + 2.0, 0.05)


def field_of(mol: Any, conformer: int, variant: str = "MMFF94s") -> Field | None:
    """The force field of a conformer, molecules not bonded to each other included; None where none has parameters."""
    from rdkit.Chem import rdForceFieldHelpers as helpers

    from heliodor.fragments.rdkit_graph import quiet

    with quiet():
        if not helpers.MMFFHasAllMoleculeParams(mol):
            if not helpers.UFFHasAllMoleculeParams(mol):
                return None
            inner = helpers.UFFGetMoleculeForceField(mol, confId=conformer, ignoreInterfragInteractions=False)
            if inner is None:
                return None
            inner.Initialize()
            return Field(inner)
        properties = helpers.MMFFGetMoleculeProperties(mol, mmffVariant=variant)
        wanted = _wrong_bonds(mol)
        rests = dict(wanted)
        for _ in range(5 if wanted else 0):
            # the rest length of each spring moves until the minimum has the right bond
            copy = type(mol)(mol)
            _sprung(copy, properties, conformer, rests).Minimize(maxIts=200)
            x = copy.GetConformer(conformer).GetPositions()
            rests = {
                (i, j): r + 1.2 * (wanted[i, j] - float(np.linalg.norm(x[i] - x[j]))) for (i, j), r in rests.items()
            }
        return Field(_sprung(mol, properties, conformer, rests))


def _sprung(mol: Any, properties: Any, conformer: int, rests: dict[tuple[int, int], float]) -> Any:
    from rdkit.Chem import rdForceFieldHelpers as helpers

    inner = helpers.MMFFGetMoleculeForceField(mol, properties, confId=conformer, ignoreInterfragInteractions=False)
    inner.Initialize()
    for (i, j), rest in rests.items():
        inner.MMFFAddDistanceConstraint(i, j, False, rest, rest, REPAIR_FORCE)
    return inner


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[Any, float], ...]:
    from rdkit import Chem

    return tuple((Chem.MolFromSmarts(text), length) for text, length in REPAIRS)


def _wrong_bonds(mol: Any) -> dict[tuple[int, int], float]:
    """Right lengths in Å of bonds in `REPAIRS`; the first pattern that matches counts."""
    found: dict[tuple[int, int], float] = {}
    for pattern, length in _patterns():
        for match in mol.GetSubstructMatches(pattern, uniquify=False):
            found.setdefault((min(match[:2]), max(match[:2])), length)
    return found
