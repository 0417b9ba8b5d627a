"""Ligands: residues no force field here knows, kept where they stand, with hydrogens and charge from chemistry.

RDKit gives bonds, hydrogens and Gasteiger charges; the force field gets these charges and generic radii, and no bonded
terms: ligands never move while the rest is relaxed around them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

import ase
import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float

from heliodor.errors import InputError, MissingExtraError
from heliodor.prepare.prepared import NANOMETRE, label, nanometres, openmm
from heliodor.topology import BONDED, bonds_by_distance

RADII = {1: (0.25, 0.06), 6: (0.34, 0.36), 7: (0.325, 0.71), 8: (0.30, 0.80), 9: (0.31, 0.26), 15: (0.374, 0.84)}
RADII |= {16: (0.356, 1.05), 17: (0.347, 1.11), 35: (0.39, 1.3), 53: (0.42, 1.7)}
"""Lennard-Jones σ in nm and ε in kJ/mol by atomic number: round numbers of the size common force fields have."""

OTHER_RADIUS = (0.35, 0.5)


@dataclass(frozen=True)
class Known:
    """What is known of the ligands that were kept.

    Attributes:
        residues: their names.
        notes: what was done with them.
    """

    residues: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def completed(
    topology: Any, positions: Any, ligands: Sequence[str], smiles: Mapping[str, str], field: Any
) -> tuple[Any, Any, Known]:
    """Put hydrogens on ligands and tell the force field about them.

    Args:
        ligands: names of the residues.
        smiles: by residue name; without one a ligand must have all its hydrogens and no charge.
        field: gets a template for each ligand.

    Returns:
        Topology, positions (nm), and what was done.

    Raises:
        InputError: a ligand bonded to something else, or that fits no chemistry.
        MissingExtraError: RDKit is not installed.
    """
    if not ligands:
        return topology, positions, Known()
    where = nanometres(positions) * NANOMETRE
    chosen = [residue for residue in topology.residues() if residue.name in ligands]
    molecules = {residue: _molecule(residue, where, smiles.get(residue.name)) for residue in chosen}
    _refuse_bonded(topology, where, chosen)
    topology, placed = _rebuilt(topology, where, molecules)
    notes, told = [], set()
    for residue, molecule in molecules.items():
        charge = sum(atom.GetFormalCharge() for atom in molecule.GetAtoms())
        how = "SMILES" if residue.name in smiles else "its hydrogens"
        notes.append(
            f"ligand {label(residue)}: {molecule.GetNumAtoms()} atoms, charge {charge:+d} by {how}; never moved"
        )
        key = (residue.name, tuple(_names(residue, molecule)))
        if key not in told:
            told.add(key)
            _teach(field, f"heliodor-ligand-{len(told)}", molecule, _names(residue, molecule))
    return topology, placed, Known(tuple(dict.fromkeys(ligands)), tuple(notes))


def _chem() -> Any:
    try:
        from rdkit import Chem, RDLogger
        from rdkit.Chem import AllChem, rdDetermineBonds  # noqa: F401
    except ImportError:
        raise MissingExtraError("rdkit", "prepare") from None
    logger: Any = RDLogger
    logger.DisableLog("rdApp.*")
    return Chem


def _molecule(residue: Any, where: Float[np.ndarray, "N 3"], smiles: str | None) -> Any:
    """An RDKit molecule with all hydrogens at their places: the residue's heavy atoms first, in its order."""
    chem = _chem()
    from rdkit.Chem import AllChem, rdDetermineBonds

    all_chem: Any = AllChem
    atoms = [atom for atom in residue.atoms() if smiles is None or atom.element.atomic_number > 1]
    here = where[[atom.index for atom in atoms]]
    numbers = [atom.element.atomic_number for atom in atoms]
    bare = chem.RWMol()
    for number in numbers:
        made = chem.Atom(number)
        made.SetNoImplicit(smiles is None)
        bare.AddAtom(made)
    for i, j in bonds_by_distance(ase.Atoms(numbers=numbers, positions=here)).tolist():
        bare.AddBond(int(i), int(j), chem.BondType.SINGLE)
    conformer = chem.Conformer(len(atoms))
    for k, position in enumerate(here.tolist()):
        conformer.SetAtomPosition(k, position)
    bare.AddConformer(conformer)
    if smiles is None:
        if 1 not in numbers:
            raise InputError(
                f"ligand {label(residue)} has no hydrogens, and bonds cannot be told from heavy atoms alone: give its "
                f"chemistry with --ligand '{residue.name}=SMILES'"
            )
        try:
            rdDetermineBonds.DetermineBondOrders(bare, charge=0, allowChargedFragments=True)
            chem.SanitizeMol(bare)
        except Exception as error:
            raise InputError(
                f"ligand {label(residue)} is no neutral closed-shell molecule with the hydrogens it has: give its "
                f"chemistry with --ligand '{residue.name}=SMILES'"
            ) from error
        return bare.GetMol()
    template = chem.MolFromSmiles(smiles)
    if template is None:
        raise InputError(f"--ligand {residue.name}: {smiles!r} is no SMILES")
    if template.GetNumAtoms() != len(atoms):
        raise InputError(
            f"--ligand {residue.name}: the SMILES has {template.GetNumAtoms()} heavy atoms, {label(residue)} has "
            f"{len(atoms)} in the file"
        )
    try:
        molecule = all_chem.AssignBondOrdersFromTemplate(template, bare.GetMol())
        chem.SanitizeMol(molecule)
    except Exception as error:
        raise InputError(
            f"--ligand {residue.name}: the bonds of the SMILES do not fit those of {label(residue)} in the file"
        ) from error
    return chem.AddHs(molecule, addCoords=True)


def _refuse_bonded(topology: Any, where: Float[np.ndarray, "N 3"], ligands: Sequence[Any]) -> None:
    chosen = set(ligands)
    others = [a for a in topology.atoms() if a.residue not in chosen and a.element.atomic_number > 1]
    if not others:
        return
    far = where[[atom.index for atom in others]]
    radii = covalent_radii[[atom.element.atomic_number for atom in others]]
    for residue in ligands:
        for atom in residue.atoms():
            if atom.element.atomic_number == 1:
                continue
            limit = (BONDED - 0.1) * (covalent_radii[atom.element.atomic_number] + radii)
            near = np.flatnonzero(np.linalg.norm(far - where[atom.index], axis=1) < limit)
            if len(near):
                raise InputError(
                    f"ligand {label(residue)} is bonded to {label(others[near[0]].residue)}: such residues cannot be "
                    "kept here; leave it out, or prepare the structure in a program that has parameters for it"
                )


def _names(residue: Any, molecule: Any) -> list[str]:
    """Atom names: the file's, and H1, H2 ... for hydrogens that are new."""
    own = [atom.name for atom in residue.atoms()]
    heavy = [atom.name for atom in residue.atoms() if atom.element.atomic_number > 1]
    if molecule.GetNumAtoms() == len(own) and [a.GetAtomicNum() for a in molecule.GetAtoms()] == [
        atom.element.atomic_number for atom in residue.atoms()
    ]:
        return own
    return [*heavy, *(f"H{k + 1}" for k in range(molecule.GetNumAtoms() - len(heavy)))]


def _rebuilt(
    topology: Any, where: Float[np.ndarray, "N 3"], molecules: Mapping[Any, Any]
) -> tuple[Any, Float[np.ndarray, "M 3"]]:
    """The topology with ligands as RDKit has them; positions in nm."""
    app = openmm().app
    made = app.Topology()
    made.setPeriodicBoxVectors(topology.getPeriodicBoxVectors())
    atoms: dict[Any, Any] = {}
    placed: list[Any] = []
    for chain in topology.chains():
        new = made.addChain(chain.id)
        for residue in chain.residues():
            copy = made.addResidue(residue.name, new, residue.id, residue.insertionCode)
            molecule = molecules.get(residue)
            if molecule is None:
                for atom in residue.atoms():
                    atoms[atom] = made.addAtom(atom.name, atom.element, copy, atom.id, atom.formalCharge)
                    placed.append(where[atom.index])
                continue
            own = []
            for name, atom in zip(_names(residue, molecule), molecule.GetAtoms(), strict=True):
                own.append(made.addAtom(name, app.Element.getByAtomicNumber(atom.GetAtomicNum()), copy))
                placed.append(np.array(molecule.GetConformer().GetAtomPosition(atom.GetIdx())))
            for bond in molecule.GetBonds():
                made.addBond(own[bond.GetBeginAtomIdx()], own[bond.GetEndAtomIdx()])
    for bond in topology.bonds():
        if bond[0] in atoms and bond[1] in atoms:
            made.addBond(atoms[bond[0]], atoms[bond[1]], bond.type, bond.order)
    return made, np.array(placed, dtype=np.float64) / NANOMETRE


def _teach(field: Any, name: str, molecule: Any, names: Sequence[str]) -> None:
    """A template of charges and radii for the force field."""
    charges = _charges(molecule)
    by_residue = _charges_by_residue(field)
    types, atoms, nonbonded = [], [], []
    for k, atom in enumerate(molecule.GetAtoms()):
        kind = f"{name}-{k}"
        mass = ase.data.atomic_masses[atom.GetAtomicNum()]
        types.append(f'<Type name="{kind}" class="{kind}" element="{atom.GetSymbol()}" mass="{mass}"/>')
        charge = f' charge="{charges[k]:.6f}"'
        atoms.append(f'<Atom name={quoteattr(names[k])} type="{kind}"{charge if by_residue else ""}/>')
        sigma, epsilon = RADII.get(atom.GetAtomicNum(), OTHER_RADIUS)
        nonbonded.append(f'<Atom type="{kind}"{"" if by_residue else charge} sigma="{sigma}" epsilon="{epsilon}"/>')
    bonds = [
        f"<Bond atomName1={quoteattr(names[b.GetBeginAtomIdx()])} atomName2={quoteattr(names[b.GetEndAtomIdx()])}/>"
        for b in molecule.GetBonds()
    ]
    attribute = '<UseAttributeFromResidue name="charge"/>' if by_residue else ""
    field.loadFile(
        io.StringIO(
            f"<ForceField><AtomTypes>{''.join(types)}</AtomTypes>"
            f'<Residues><Residue name="{name}">{"".join(atoms)}{"".join(bonds)}</Residue></Residues>'
            f'<NonbondedForce coulomb14scale="0.8333333333333334" lj14scale="0.5">{attribute}{"".join(nonbonded)}'
            "</NonbondedForce></ForceField>"
        )
    )


def _charges(molecule: Any) -> Float[np.ndarray, "n"]:
    """Gasteiger charges, e, that add up to the formal charge."""
    from rdkit.Chem import rdPartialCharges

    rdPartialCharges.ComputeGasteigerCharges(molecule)
    found = np.array([atom.GetDoubleProp("_GasteigerCharge") for atom in molecule.GetAtoms()])
    found = np.where(np.isfinite(found), found, 0.0)
    total = sum(atom.GetFormalCharge() for atom in molecule.GetAtoms())
    found = np.round(found + (total - found.sum()) / len(found), 6)
    found[0] += total - found.sum()
    return found


def _charges_by_residue(field: Any) -> bool:
    """Whether the force field has its charges in its residues (the newer files) rather than in its atom types."""
    return any("charge" in atom.parameters for atom in field._templates["ALA"].atoms)
