"""Amons in space: conformers by ETKDGv3, relaxed with MMFF94s (RDKit), both hands of chiral centres."""

from __future__ import annotations

import hashlib
from typing import Any

import ase
import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float

from heliodor.errors import InputError
from heliodor.fragments.bottom_up import Amon
from heliodor.fragments.rdkit_graph import quiet, read_smiles
from heliodor.prepare.molecules import rdkit

DISTINCT = 0.2
"""Å; conformers count as different above this root mean square distance of all but the hydrogens on carbon."""

SPARE = 3
"""Conformers tried for each that is wanted."""

STEPS = 2000
"""Of a relaxation, at most."""

ISOMERS = 16
"""Stereoisomers of one graph that are considered, at most."""

KIND = "bottom-up"

SEEN = 3
"""Decimals, Å, of positions that a seed is made of: bits that differ between machines should not matter."""


def seed_of(*words: object) -> int:
    """A seed from anything that can be written, the same in every process: 31 bits of its SHA-256."""
    text = "\0".join(map(str, words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def seed_of_structure(atoms: ase.Atoms, *words: object) -> int:
    """A seed from a structure and words: of each conformer another one."""
    places = np.round(atoms.positions, SEEN) + 0.0
    return seed_of(*words, atoms.numbers.tolist(), places.tolist(), atoms.info.get("charge", 0))


def embed(amon: Amon | str, conformers: int = 1, seed: int = 0, *, distinct: float = DISTINCT) -> list[ase.Atoms]:
    """Conformers of a molecule in gas phase, at minima of MMFF94s where it has parameters, of UFF elsewhere.

    Stereochemistry that the SMILES leaves open is taken in all its forms, in turn, in an order given by the seed; forms
    that cannot exist in space are left out. Of each form the conformers of lowest energy come first. The same SMILES,
    number and seed give the same bits.

    Args:
        amon: or a SMILES.
        conformers: at most; small molecules have fewer that differ.
        distinct: Å, see `DISTINCT`.

    Returns:
        Structures with ``info`` "charge", "spin" (0), "kind" ("bottom-up") and "group" (the canonical SMILES without
        stereochemistry); heavy atoms in the order of the SMILES, hydrogens after them.

    Raises:
        InputError: no valid SMILES, several molecules in one, unpaired electrons, no geometry found.
        MissingExtraError: RDKit is not installed.
    """
    if conformers < 1:
        raise InputError(f"at least one conformer must be asked for, not {conformers}")
    chem = rdkit()
    smiles = amon if isinstance(amon, str) else amon.smiles
    mol = read_smiles(smiles)
    if len(chem.GetMolFrags(mol)) > 1:
        raise InputError(f"{smiles!r} holds several molecules: embed them one by one")
    if any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()):
        raise InputError(f"{smiles!r} has unpaired electrons: bottom-up fragments are closed-shell")
    group = chem.MolToSmiles(chem.RemoveHs(mol), isomericSmiles=False)
    isomers = _isomers(mol, seed_of(group, seed))
    shares = [conformers // len(isomers) + (k < conformers % len(isomers)) for k in range(len(isomers))]
    # a form that cannot exist passes its share on
    by_form: list[list[Float[np.ndarray, "N 3"]]] = []
    missing = 0
    for k, isomer in enumerate(isomers):
        wanted = shares[k] + missing
        found = _conformers(isomer, wanted, seed_of(group, seed, k), distinct) if wanted else []
        missing = wanted - len(found) if not found else 0
        by_form.append(found)
    if not any(by_form):
        raise InputError(f"no geometry could be found for {smiles}: its rings may be too strained")
    info = {"charge": chem.GetFormalCharge(mol), "spin": 0, "kind": KIND, "group": group}
    numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    longest = max(map(len, by_form))
    ordered = [form[k] for k in range(longest) for form in by_form if k < len(form)]
    return [ase.Atoms(numbers=numbers, positions=positions, info=dict(info)) for positions in ordered]


def _isomers(mol: Any, seed: int) -> list[Any]:
    from rdkit.Chem.EnumerateStereoisomers import EnumerateStereoisomers, StereoEnumerationOptions

    chem = rdkit()
    options = StereoEnumerationOptions(  # type: ignore[no-untyped-call]
        onlyUnassigned=True, unique=True, maxIsomers=ISOMERS, rand=seed
    )
    with quiet():
        forms = EnumerateStereoisomers(mol, options=options)  # type: ignore[no-untyped-call]
        found = sorted(forms, key=chem.MolToSmiles)
    order = np.random.default_rng(seed).permutation(len(found))
    return [found[k] for k in order]


def _conformers(mol: Any, wanted: int, seed: int, distinct: float) -> list[Float[np.ndarray, "N 3"]]:
    chem = rdkit()
    mol = chem.Mol(mol)
    with quiet():
        energies = _embedded(mol, 1 if wanted == 1 else SPARE * wanted, seed)
    sound = [k for k in np.argsort(energies, kind="stable").tolist() if _as_drawn(mol, k)]
    kept = _distinct(mol, sound, wanted, distinct)
    return [np.array(mol.GetConformer(k).GetPositions(), dtype=np.float64) for k in kept]


def _embedded(mol: Any, tries: int, seed: int) -> Float[np.ndarray, "C"]:
    """Put conformers into a molecule and relax them; their energies, kcal/mol."""
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    for random in (False, True):
        parameters: Any = rdDistGeom.ETKDGv3()
        parameters.randomSeed = seed
        parameters.numThreads = 1
        parameters.useRandomCoords = random
        parameters.maxIterations = 200 if random else 20
        if rdDistGeom.EmbedMultipleConfs(mol, tries, parameters):
            break
    count = mol.GetNumConformers()
    if count == 0 or mol.GetNumAtoms() == 1:
        return np.zeros(count)
    # conformers are numbered anew, those that failed being absent
    for k, conformer in enumerate(mol.GetConformers()):
        conformer.SetId(k)
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        results = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(mol, maxIters=STEPS, mmffVariant="MMFF94s")
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        results = rdForceFieldHelpers.UFFOptimizeMoleculeConfs(mol, maxIters=STEPS)
    else:
        results = [(0, 0.0)] * count
    return np.array([energy for _, energy in results], dtype=np.float64)


def _as_drawn(mol: Any, conformer: int) -> bool:
    """Whether bonds have the lengths of bonds, and no two other atoms come as close."""
    positions = mol.GetConformer(conformer).GetPositions()
    radii = covalent_radii[[atom.GetAtomicNum() for atom in mol.GetAtoms()]]
    bonded = np.zeros((len(radii), len(radii)), dtype=bool)
    for bond in mol.GetBonds():
        bonded[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()] = True
    bonded |= bonded.T
    scaled = np.linalg.norm(positions[:, None] - positions[None], axis=-1) / (radii[:, None] + radii[None])
    others = ~bonded & ~np.eye(len(radii), dtype=bool)
    return bool(
        np.isfinite(positions).all()
        and (scaled[bonded] < 1.3).all()
        and (scaled[bonded] > 0.65).all()
        and (scaled[others] > 1.1).all()
    )


def _distinct(mol: Any, order: list[int], wanted: int, distinct: float) -> list[int]:
    """The first conformers that differ from all before them, symmetry taken into account."""
    from rdkit.Chem import rdMolAlign

    chem = rdkit()
    if wanted == 1:
        return order[:1]
    bare = chem.RWMol(mol)
    for atom in reversed(list(mol.GetAtoms())):
        if atom.GetAtomicNum() == 1 and atom.GetDegree() == 1 and atom.GetNeighbors()[0].GetAtomicNum() == 6:
            bare.RemoveAtom(atom.GetIdx())
    kept: list[int] = []
    for k in order:
        if len(kept) == wanted:
            break
        if all(rdMolAlign.GetBestRMS(bare, bare, k, other, maxMatches=200) > distinct for other in kept):
            kept.append(k)
    return kept
