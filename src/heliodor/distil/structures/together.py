"""Several molecules beside one another: placed at a chosen contact, and moved together on MMFF."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import ase
import numpy as np
from jaxtyping import Float, Int

from heliodor.distil.structures.groups import group_of
from heliodor.distil.structures.langevin import langevin
from heliodor.distil.structures.mmff import field_of
from heliodor.distil.structures.sound import shape_of
from heliodor.distil.structures.thermal import Monomer, Places, masses_of

TOUCH = {1: 0.9, 6: 1.70, 7: 1.55, 8: 1.52, 9: 1.47, 15: 1.80, 16: 1.80, 17: 1.75}
"""Å; Bondi's radii, but for hydrogen what lets a hydrogen bond O...H of 1.9 Å be 0.8 of the sum of two radii."""

CONTACTS = ((0.70, 0.80), (0.80, 1.00), (1.00, 1.40))
"""Nearest contact over the sum of radii: compressed, in contact, apart; beyond, a distance in Å is drawn instead."""

CONTACT_SHARE = (0.12, 0.48, 0.2)
"""How often; what is left over is placed by distance."""

FARTHEST = 8.0
"""Å, of the closest atoms of two molecules."""


Loose = Float[np.ndarray, "_ 3"]
"""Positions of molecules of different sizes, Å."""


def rotation(rng: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    """Uniform over all rotations (Shoemake 1992)."""
    q = rng.standard_normal(4)
    a, b, c, d = q / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (c * c + d * d), 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), 1 - 2 * (b * b + d * d), 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), 1 - 2 * (b * b + c * c)],
        ]
    )


def shift_to(
    here: Places, numbers: Int[np.ndarray, "N"], new: Float[np.ndarray, "M 3"], others: Int[np.ndarray, "M"],
    way: Float[np.ndarray, "3"], limits: Float[np.ndarray, "N M"],
) -> float:  # fmt: skip
    """How far `new` must move along the unit vector `way` to stand outside of `here`, one pair at its limit; Å."""
    delta = (new[None] - here[:, None]).reshape(-1, 3)
    along = delta @ way
    inside = along**2 - (delta**2).sum(1) + limits.ravel() ** 2
    roots = np.where(inside > 0.0, -along + np.sqrt(np.maximum(inside, 0.0)), -np.inf)
    return float(roots.max())


def sums_of_radii(numbers: Int[np.ndarray, "N"], others: Int[np.ndarray, "M"]) -> Float[np.ndarray, "N M"]:
    """Å, of `TOUCH`."""
    one, two = (np.array([TOUCH[z] for z in some.tolist()]) for some in (numbers, others))
    return one[:, None] + two[None]


def contact(rng: np.random.Generator) -> tuple[float, float]:
    """A nearest contact: a factor of the sum of radii, and a least distance in Å (one of them 0)."""
    draw = rng.random()
    for (low, high), share in zip(CONTACTS, CONTACT_SHARE, strict=True):
        if draw < share:
            return float(rng.uniform(low, high)), 0.0
        draw -= share
    return 0.0, float(rng.uniform(3.0, FARTHEST))


def beside(
    parts: Sequence[tuple[Loose, Int[np.ndarray, "_"]]], rng: np.random.Generator, close: bool = False
) -> list[Loose]:
    """Molecules turned at random and pushed, one after another, against what is there; Å.

    Args:
        close: all in contact (factors 0.8 to 1), as for clusters, rather than at every distance.
    """
    placed: list[Loose] = []
    seen: list[Int[np.ndarray, "_"]] = []
    for x, numbers in parts:
        turned = (x - x.mean(0)) @ rotation(rng).T
        if placed:
            here, present = np.concatenate(placed), np.concatenate(seen)
            way = rng.standard_normal(3)
            way /= np.linalg.norm(way)
            # aimed at an atom rather than the middle, so that every side of a long molecule is met
            turned = turned + here[rng.integers(len(here))]
            factor, least = (float(rng.uniform(0.8, 1.0)), 0.0) if close else contact(rng)
            sums = sums_of_radii(present, numbers)
            limits = sums * factor if factor else np.full_like(sums, least)
            turned = turned + shift_to(here, present, turned, numbers, way, limits) * way
        placed.append(turned)
        seen.append(numbers)
    return placed


def combined(monomers: Sequence[Monomer]) -> Any:
    """One ``rdkit.Chem.Mol`` of them all."""
    from rdkit import Chem

    mol = reduce(Chem.CombineMols, [Chem.Mol(one.mol) for one in monomers])
    Chem.SanitizeMol(mol)
    return mol


def moved_together(
    mol: Any, positions: Places, kelvin: float, rng: np.random.Generator, steps: int, relax: int = 20
) -> Places | None:
    """The end of a short MMFF trajectory of several molecules, downhill first; None where that fails."""
    from rdkit import Chem

    conformer = Chem.Conformer(mol.GetNumAtoms())
    conformer.SetPositions(np.ascontiguousarray(positions))
    copy = Chem.Mol(mol)
    copy.RemoveAllConformers()
    number = copy.AddConformer(conformer, assignId=True)
    field = field_of(copy, number)
    if field is None:
        return None
    field.relax(relax)
    x = np.array(copy.GetConformer(number).GetPositions())
    step = 1.0 if kelvin < 450.0 else 0.6
    found = langevin(field.forces, masses_of(copy), x, kelvin, rng, frames=1, first=steps, every=1, step=step)
    return found[0] if found else None


def structure(
    monomers: Sequence[Monomer], positions: Places, kind: str, how: str, mol: Any | None = None
) -> ase.Atoms | None:
    """The molecules as ASE's atoms about their centre, or None where a bond is broken or made."""
    shape = shape_of(combined(monomers) if mol is None else mol)
    if not shape.holds(positions):
        return None
    info = {
        "charge": shape.charge,
        "spin": 0,
        "kind": kind,
        "group": group_of([one.smiles for one in monomers]),
        "sampling": how,
    }
    return ase.Atoms(shape.numbers, positions - positions.mean(0), info=info)
