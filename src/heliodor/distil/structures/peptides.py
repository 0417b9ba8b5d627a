"""Families of amino acids: capped alone, free, in capped di- and tripeptides, side chains and residues in contact."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import ase
import numpy as np
from jaxtyping import Bool, Float

from heliodor.distil.structures.groups import group_of
from heliodor.distil.structures.mmff import field_of
from heliodor.distil.structures.molecules import geometries
from heliodor.distil.structures.pairs import assemble
from heliodor.distil.structures.residues import ACIDS, ENDS, FOLDS, STATES, capped, free, side_chain
from heliodor.distil.structures.sound import Shape
from heliodor.distil.structures.thermal import (
    Places,
    dynamics,
    embedded,
    masses_of,
    modes_of,
    monomer,
    rattled,
    read,
    temperature,
)
from heliodor.fragments.embed import seed_of

SHORT = 45
"""Atoms up to which normal modes are worth their cost."""

TRIES = 6

PER_RUN = 2
"""Geometries from one set of backbone angles."""


def amino_acids(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """Each state in turn: three times in four capped, over the Ramachandran plane, else with free ends."""
    name = STATES[item % len(STATES)]
    turn = item // len(STATES)
    if turn % 4 == 3:
        amino, acid = list(ENDS)[turn // 4 % 2], list(ACIDS)[turn // 8 % 2]
        return geometries(free(name, amino, acid), rng, count, "amino acid")
    return backbones(capped((name,)), rng, count, "amino acid")


def tripeptides(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """Capped peptides of two (one in four) or three residues; every state is in the middle or at an end in turn."""
    length = 2 if item % 4 == 0 else 3
    names = [str(word) for word in rng.choice(STATES, size=length)]
    names[int(rng.integers(length))] = STATES[item % len(STATES)]
    # at most two charged side chains, so that the charge stays within what is met in proteins
    if rng.random() < 0.35:
        names[int(rng.integers(length))] = str(rng.choice(("GLY", "ALA")))
    return backbones(capped(tuple(names)), rng, count, "peptide")


def contacts(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """Two side chains cut at the alpha carbon, two capped residues (one in four), or a side chain and the backbone."""
    first = STATES[item % len(STATES)]
    second = STATES[(item // len(STATES) + item) % len(STATES)] if item % 2 else str(rng.choice(STATES))
    draw = rng.random()
    if draw < 0.6:
        pair = [side_chain(first), side_chain(second)]
    elif draw < 0.85:
        pair = [side_chain(first), str(rng.choice(("CC(=O)NC", "CNC(=O)CNC(C)=O")))]
    else:
        pair = [capped((first,)), capped((second,))]
    monomers = [one for one in map(monomer, pair) if one is not None]
    found: list[ase.Atoms] = []
    for _ in range(TRIES * count if len(monomers) == 2 else 0):
        if len(found) == count:
            break
        made = assemble(monomers, rng, "contact", 0.6)
        found += [made] if made is not None else []
    return found


@lru_cache(maxsize=1)
def _backbone() -> Any:
    from rdkit import Chem

    return Chem.MolFromSmarts("[CX3](=O)[NX3][CX4][CX3](=O)[NX3]")


@lru_cache(maxsize=1)
def _rotor() -> Any:
    """Chi 1, and chi 2 and on between saturated carbons."""
    from rdkit import Chem

    return Chem.MolFromSmarts("[NX3,CX4]-!@[CX4]-!@[CX4]-!@[#6,#7,#8,#16]")


def backbones(smiles: str, rng: np.random.Generator, count: int, kind: str) -> list[ase.Atoms]:
    """Geometries of a peptide with backbone angles of known folds (half) or anywhere on the Ramachandran plane."""
    mol, shape, start = _start(smiles)
    if start is None:
        return []
    masses = masses_of(mol)
    found: list[ase.Atoms] = []
    for _ in range(TRIES * count // PER_RUN + 1):
        if len(found) >= count:
            break
        mol.GetConformer(0).SetPositions(start.copy())
        for x, how in _run(mol, 0, shape, masses, min(PER_RUN, count - len(found)), rng):
            info = {
                "charge": shape.charge,
                "spin": 0,
                "kind": kind,
                "group": group_of([smiles]),
                "sampling": how,
            }
            found.append(ase.Atoms(shape.numbers, x - x.mean(0), info=info))
    return found


@lru_cache(maxsize=256)
def _start(smiles: str) -> tuple[Any, Shape, Places | None]:
    """A peptide and one conformer of it, the same in every process: embedding costs more than all that follows."""
    mol, shape = read(smiles)
    found = embedded(mol, 1, seed_of("peptide", smiles) % 2**30 + 1)
    return mol, shape, np.array(mol.GetConformer(found[0]).GetPositions()) if found else None


def _run(
    mol: Any, conformer: int, shape: Shape, masses: Float[np.ndarray, "N"], count: int, rng: np.random.Generator
) -> list[tuple[Places, str]]:
    before = _hands(mol, np.array(mol.GetConformer(conformer).GetPositions()))
    angles = _turned(mol, conformer, rng)
    field = field_of(mol, conformer, "MMFF94s" if rng.random() < 0.5 else "MMFF94")
    if field is None:
        return []
    for atoms, degrees in angles:
        field.hold_torsion(atoms, degrees)
    field.relax(150)
    x = np.array(mol.GetConformer(conformer).GetPositions())
    if not shape.holds(x):
        return []
    if len(shape.numbers) <= SHORT and rng.random() < 0.4:
        modes = modes_of(field, masses, x)
        new = [modes.draw(temperature(rng), rng) for _ in range(count)]
        how = "MMFF normal modes, backbone held"
    else:
        kelvin = temperature(rng)
        new, how = dynamics(field, masses, x, kelvin, rng, count), f"MMFF dynamics at {kelvin:g} K, backbone held"
    # relaxing out of a clash can turn a residue over
    disturbed = (rattled(x, rng) for x in new)
    return [(y, how) for y in disturbed if shape.holds(y) and np.array_equal(_hands(mol, y), before)]


def _hands(mol: Any, x: Places) -> Bool[np.ndarray, "C"]:
    """On which side the first three neighbours of each stereocentre are."""
    from rdkit import Chem

    found = []
    for atom in mol.GetAtoms():
        if atom.GetChiralTag() != Chem.ChiralType.CHI_UNSPECIFIED:
            a, b, c = (x[other.GetIdx()] - x[atom.GetIdx()] for other in list(atom.GetNeighbors())[:3])
            found.append(bool(np.dot(a, np.cross(b, c)) > 0.0))
    return np.array(found, dtype=bool)


def _turned(mol: Any, conformer: int, rng: np.random.Generator) -> list[tuple[tuple[int, int, int, int], float]]:
    """Turn side chains at random, and phi and psi of every residue; these angles (degrees) and their atoms."""
    from rdkit.Chem import rdMolTransforms

    turn: Any = rdMolTransforms.SetDihedralDeg
    conf = mol.GetConformer(conformer)
    for atoms in mol.GetSubstructMatches(_rotor()):
        angle = float(rng.choice((-60.0, 60.0, 180.0)) + rng.normal(0.0, 12.0))
        turn(conf, *atoms, angle)
    common = FOLDS[rng.integers(len(FOLDS))] if rng.random() < 0.3 else None
    found = []
    for c0, _, n, ca, c1, _, n1 in mol.GetSubstructMatches(_backbone()):
        phi, psi = common or FOLDS[rng.integers(len(FOLDS))]
        phi, psi = (phi + rng.normal(0.0, 15.0), psi + rng.normal(0.0, 15.0))
        if rng.random() < 0.5:
            phi, psi = rng.uniform(-180.0, 180.0, 2)
        for atoms, angle in (((c0, n, ca, c1), phi), ((n, ca, c1, n1), psi)):
            if not mol.GetBondBetweenAtoms(atoms[1], atoms[2]).IsInRing():
                degrees = float((angle + 180.0) % 360.0 - 180.0)
                turn(conf, *atoms, degrees)
                found.append((atoms, degrees))
    return found
