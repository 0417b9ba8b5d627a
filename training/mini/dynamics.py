"""Conformers and short MMFF94/UFF Langevin runs with RDKit, and the geometry checks every structure must pass.

Units: Å, fs, kcal/mol, atomic mass units, K.
"""

# ruff: noqa: I001 (neighbouring modules sort differently from other folders)

import numpy as np
from rdkit import Chem
from rdkit.Chem import AllChem, rdMolTransforms

from molecules import DIATOMIC
from water import FORCE_TO_ACCELERATION, KB

TEMPERATURES = [100.0, 200.0, 300.0, 400.0, 500.0, 700.0, 1000.0]
WEIGHTS = [0.08, 0.15, 0.2, 0.2, 0.2, 0.1, 0.07]
COVALENT = {1: 0.31, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57, 15: 1.07, 16: 1.05, 17: 1.02}  # Å
# (phi, psi) in degrees: alpha, beta, polyproline II, left-handed alpha, C7eq, C7ax
BASINS = [(-63, -42), (-135, 135), (-75, 150), (57, 47), (-83, 70), (70, -60)]
# Bonds for which RDKit falls back on MMFF94's empirical rule and is wrong by 0.1-0.3 Å: SMARTS, bonded pair, Å
REPAIRS = [
    ("[OX1]=[CX2]", 1.163), ("[SX1]=[CX2]", 1.56), ("[CX2]#[NX2+]", 1.135), ("[NX1-]=[NX2+;$([NX2]=[NX1])]", 1.18),
    ("[NX1-]=[NX2+]", 1.13), ("[OX1]=[NX2+]", 1.184), ("[OX1-]-[NX2]=[OX1]", 1.25), ("[OX1]=[NX2]-[OX1-]", 1.25),
    ("[OX1]=[SX2]=[OX1]", 1.43), ("[OX1]=[SX3](=[OX1])=[OX1]", 1.42),
]  # fmt: skip
REPAIRS = [(Chem.MolFromSmarts(text), length) for text, length in REPAIRS]
REPAIR_FORCE = 1500.0  # kcal/mol/Å²
BACKBONE = Chem.MolFromSmarts("[CX3](=O)[NX3][CX4][CX3](=O)[NX3]")


def topology(mol):
    """(numbers, bonds [B, 2], far [i < j]): `far` marks pairs three or more bonds apart."""
    numbers = np.array([a.GetAtomicNum() for a in mol.GetAtoms()])
    bonds = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()], int).reshape(-1, 2)
    far = np.triu(Chem.GetDistanceMatrix(mol) > 2.5, 1)
    return numbers, bonds, far


def sound(positions, shape):
    """True if no bond is broken or crushed and no two atoms that are not bonded overlap."""
    numbers, bonds, far = shape
    if not np.isfinite(positions).all():
        return False
    if len(numbers) == 1:
        return True
    radius = np.array([COVALENT[z] for z in numbers])
    delta = positions[:, None] - positions[None]
    distance = np.sqrt((delta**2).sum(-1))
    total = radius[:, None] + radius[None]
    upper = np.triu(np.ones_like(far), 1).astype(bool)
    hydrogen_pair = len(numbers) == 2 and (numbers == 1).all()
    if distance[upper].min() < (0.5 if hydrogen_pair else 0.6) or (distance[far] < 1.15 * total[far]).any():
        return False
    i, j = bonds.T
    length, reference = distance[i, j], total[i, j]
    with_h = (numbers[i] == 1) ^ (numbers[j] == 1)
    return not ((with_h & (length < 0.7)) | (length < 0.6 * reference) | (length > 1.5 * reference)).any()


def wrong_bonds(mol):
    """{(i, j): right length in Å} for the bonds in REPAIRS; the first pattern that matches counts."""
    found = {}
    for pattern, length in REPAIRS:
        for match in mol.GetSubstructMatches(pattern, uniquify=False):
            found.setdefault(tuple(sorted(match[:2])), length)
    return found


def force_field(mol, conformer, variant="MMFF94"):
    """An initialised RDKit force field, MMFF where its types exist, else UFF, else None."""
    if not AllChem.MMFFHasAllMoleculeParams(mol):
        if not AllChem.UFFHasAllMoleculeParams(mol):
            return None
        field = AllChem.UFFGetMoleculeForceField(mol, confId=conformer, ignoreInterfragInteractions=False)
        if field is not None:
            field.Initialize()
        return field
    properties = AllChem.MMFFGetMoleculeProperties(mol, mmffVariant=variant)

    def build(target, rests):
        field = AllChem.MMFFGetMoleculeForceField(
            target, properties, confId=conformer, ignoreInterfragInteractions=False
        )
        field.Initialize()
        for (i, j), rest in rests.items():
            field.MMFFAddDistanceConstraint(i, j, False, rest, rest, REPAIR_FORCE)
        return field

    wanted = wrong_bonds(mol)
    rests = dict(wanted)
    for _ in range(5 if wanted else 0):  # move each spring's rest length until the minimum has the right bond
        copy = Chem.Mol(mol)
        build(copy, rests).Minimize(maxIts=200)
        x = copy.GetConformer(conformer).GetPositions()
        rests = {(i, j): r + 1.2 * (wanted[i, j] - np.linalg.norm(x[i] - x[j])) for (i, j), r in rests.items()}
    return build(mol, rests)


def gradient(field, x):
    """dE/dx in kcal/mol/Å.  CalcGrad reuses the distances of the last CalcEnergy, so that must come first."""
    flat = x.ravel().tolist()
    field.CalcEnergy(flat)
    return np.array(field.CalcGrad(flat)).reshape(x.shape)


def langevin(field, masses, x, temperature, rng, start, every, snapshots, friction=0.02):
    """BAOAB Langevin MD from `x`; `start` steps first, then `snapshots` frames, `every` steps apart."""
    dt = 1.0 if temperature < 450.0 else 0.6
    mass = masses[:, None]
    width = np.sqrt(KB * temperature * FORCE_TO_ACCELERATION / mass)
    keep = np.exp(-friction * dt)
    spread = np.sqrt(1.0 - keep**2) * width
    kick = -0.5 * dt * FORCE_TO_ACCELERATION / mass
    half = 0.5 * dt
    velocity = width * rng.standard_normal(x.shape)
    frames, slope = [], gradient(field, x)
    for step in range(1, start + every * (snapshots - 1) + 1):
        velocity += kick * slope
        x = x + half * velocity
        velocity = keep * velocity + spread * rng.standard_normal(x.shape)
        x = x + half * velocity
        slope = gradient(field, x)
        velocity += kick * slope
        if step >= start and (step - start) % every == 0:
            frames.append(x)
    return frames


def set_backbone(mol, conformer, rng):
    """Turn every phi/psi to a basin of the Ramachandran map (or anywhere, one time in three)."""
    conf = mol.GetConformer(conformer)
    common = BASINS[rng.integers(len(BASINS))] if rng.random() < 0.5 else None
    for match in mol.GetSubstructMatches(BACKBONE):
        phi, psi = common or BASINS[rng.integers(len(BASINS))]
        if rng.random() < 1 / 3:
            phi, psi = rng.uniform(-180, 180, 2)
        c0, _, n, ca, c1, _, n1 = match
        for atoms, angle in (((c0, n, ca, c1), phi), ((n, ca, c1, n1), psi)):
            if not mol.GetBondBetweenAtoms(atoms[1], atoms[2]).IsInRing():
                rdMolTransforms.SetDihedralDeg(conf, *atoms, float(angle + rng.normal(0, 12)))


def embed(smiles, count, rng):
    """The molecule with hydrogens and up to `count` ETKDG conformers; (mol, conformer ids)."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    seed = int(rng.integers(1, 2**30))
    ids = list(AllChem.EmbedMultipleConfs(mol, count, randomSeed=seed, maxAttempts=20))
    if not ids:
        ids = list(AllChem.EmbedMultipleConfs(mol, count, randomSeed=seed, useRandomCoords=True, maxAttempts=20))
    return mol, ids


def diatomic(smiles, wanted, rng):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    length = DIATOMIC[smiles] + np.where(rng.random(wanted) < 0.2, 0.08, 0.03) * rng.standard_normal(wanted)
    line = np.array([[-0.5, 0, 0], [0.5, 0, 0]])
    return mol, [line * r for r in length]


def sample(smiles, wanted, rng, per_run=3, backbone=False, tries=4):
    """(mol, frames): up to `wanted` sound thermal structures of one molecule, each [atoms, 3] in Å."""
    if smiles in DIATOMIC:
        mol, frames = diatomic(smiles, wanted, rng)
        return mol, [x for x in frames if sound(x, topology(mol))]
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if mol.GetNumAtoms() == 1:
        return mol, [np.zeros((1, 3))]
    runs = max(1, int(np.ceil(wanted / per_run)))
    mol, ids = embed(smiles, min(runs, 12), rng)
    if not ids:
        return mol, []
    shape, frames = topology(mol), []
    masses = np.array([a.GetMass() for a in mol.GetAtoms()])
    start = [mol.GetConformer(i).GetPositions() for i in ids]
    for run in range(runs * tries):
        if len(frames) >= wanted:
            break
        conf = ids[run % len(ids)]
        mol.GetConformer(conf).SetPositions(start[run % len(ids)].copy())
        if backbone:
            set_backbone(mol, conf, rng)
        field = force_field(mol, conf, "MMFF94s" if rng.random() < 0.5 else "MMFF94")
        if field is not None:
            field.Minimize(maxIts=60 if backbone else 200)
        x = mol.GetConformer(conf).GetPositions()
        number = min(per_run, wanted - len(frames))
        if field is None:
            new = [x + rng.normal(0, rng.uniform(0.02, 0.08), x.shape) for _ in range(number)]
        else:
            temperature = float(rng.choice(TEMPERATURES, p=WEIGHTS))
            new = langevin(field, masses, x, temperature, rng, 300, 120, number)
        for x in new:
            if field is not None and rng.random() < 0.15:
                x = x + rng.normal(0, rng.uniform(0.02, 0.06), x.shape)
            if sound(x, shape):
                frames.append(x)
    return mol, frames


def separation(a, za, b, zb, direction, contact, heavy_contact):
    """The distance R along `direction` at which `b` + R u first comes to contact with `a` (closed form), Å."""
    delta = (b[None] - a[:, None]).reshape(-1, 3)
    hydrogen = ((za[:, None] == 1) | (zb[None] == 1)).ravel()
    limit = np.where(hydrogen, contact, max(contact, heavy_contact))
    along = delta @ direction
    inside = along**2 - (delta**2).sum(1) + limit**2
    roots = np.where(inside > 0, -along + np.sqrt(np.maximum(inside, 0)), -np.inf)
    return float(roots.max())


def relax_together(mols, positions, rng, temperature, steps):
    """Short MD of several molecules placed next to each other; (combined molecule, positions) or None."""
    combined = mols[0]
    for mol in mols[1:]:
        combined = Chem.CombineMols(combined, mol)
    Chem.SanitizeMol(combined)
    conf = Chem.Conformer(combined.GetNumAtoms())
    conf.SetPositions(np.ascontiguousarray(np.concatenate(positions)))
    combined.RemoveAllConformers()
    conformer = combined.AddConformer(conf, assignId=True)
    field = force_field(combined, conformer)
    if field is None:
        return None
    field.Minimize(maxIts=15)
    masses = np.array([a.GetMass() for a in combined.GetAtoms()])
    start = combined.GetConformer(conformer).GetPositions()
    return combined, langevin(field, masses, start, temperature, rng, steps, 1, 1)[0]
