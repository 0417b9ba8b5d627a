"""Orders and charges from bonds, against RDKit's reading of SMILES and the charges of peptides at a pH."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import molecule

from heliodor.errors import InputError
from heliodor.fragments.graph_of import graph_of
from heliodor.prepare.peptides import peptide
from heliodor.topology import bonds_by_distance

pytest.importorskip("rdkit")
from rdkit import Chem, RDLogger
from rdkit.Chem import AllChem

RDLogger.DisableLog("rdApp.*")

ORDINARY = (
    "c1ccccc1 CC(=O)NC CC#N C#C O=C=O C=C=C CN=[N+]=[N-] C[N+]#[C-] [C-]#N N#N CS(C)=O CS(=O)(=O)C CS(=O)(=O)NC "
    "C[S+](C)C CSSC C[S-] [O-]c1ccccc1 Cc1ncnc2[nH]cnc12 Nc1ncnc2c1ncn2C Nc1nc2c(ncn2C)c(=O)[nH]1 Cn1ccc(=O)[nH]c1=O "
    "Cn1ccc(N)nc1=O O=C1C=CC(=O)C=C1 c1ccoc1 c1ccsc1 [n-]1cncc1 C[n+]1ccccc1 [O-][n+]1ccccc1 C[NH3+] [OH3+] [OH-] "
    "CC(N)C(=O)O C=CC=O ClC(Cl)(Cl)Cl FC(F)F OO CC(=O)C[O-] N=C(N)NC c1ccc2ccccc2c1 c1ccc2[nH]ccc2c1 c1c[nH]cn1 "
    "[BH4-] C[Si](C)(C)C C[P+](C)(C)C O=S=O CNO C1CC1 C1=CCCCC1 O=Cc1ccccc1 BrC=CI CN=C=O CC(=O)OC COC"
)
OXO = ("CS(=O)(=O)[O-]", "COP(=O)([O-])OC", "O=P([O-])([O-])[O-]", "O=S(=O)([O-])[O-]")
SHARED = (
    "CC(=O)[O-] C[N+](=O)[O-] O=[N+]([O-])[O-] NC(=[NH2+])NC NC(N)=[NH2+] c1c[nH]c[nH+]1 CNC([S-])=S "
    "NC(=[NH2+])c1ccccc1"
)


def built(smiles: str) -> tuple[ase.Atoms, Chem.Mol]:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=7, useRandomCoords=True) == 0
    return ase.Atoms([a.GetAtomicNum() for a in mol.GetAtoms()], mol.GetConformer().GetPositions()), mol


def pairs(mol: Chem.Mol) -> np.ndarray:
    return np.array([sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())) for b in mol.GetBonds()])


def as_rdkit(graph) -> Chem.Mol:
    mol = Chem.RWMol()
    for number, charge in zip(graph.numbers.tolist(), graph.charges.tolist(), strict=True):
        atom = Chem.Atom(number)
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    kinds = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
    for (i, j), order in zip(graph.bonds.tolist(), graph.orders.tolist(), strict=True):
        mol.AddBond(i, j, kinds[order])
    made = mol.GetMol()
    Chem.SanitizeMol(made)
    return made


def flat_smiles(mol: Chem.Mol) -> str:
    return Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False)


@pytest.mark.parametrize("smiles", [*ORDINARY.split(), *SHARED.split(), *OXO])
def test_as_written(smiles):
    atoms, mol = built(smiles)
    graph = graph_of(atoms, bonds=pairs(mol))
    assert flat_smiles(as_rdkit(graph)) == flat_smiles(mol)
    assert sorted(graph.charges.tolist()) == sorted(a.GetFormalCharge() for a in mol.GetAtoms())
    # aromatic ones, and those whose order is not the same in all of RDKit's resonance structures
    whole = {tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in mol.GetBonds() if b.GetIsAromatic()}
    if smiles in OXO:
        # RDKit knows no resonance of these: every oxygen or sulfur at an end
        ends = mol.GetSubstructMatches(Chem.MolFromSmarts("[#15,#16]~[OX1]"))
        whole |= {tuple(sorted(pair)) for pair in ends}
    elif smiles in SHARED.split():
        forms = [[b.GetBondTypeAsDouble() for b in form.GetBonds()] for form in Chem.ResonanceMolSupplier(mol)]
        differ = np.ptp(np.array(forms), axis=0) > 0
        whole |= {tuple(pair) for pair in pairs(mol)[differ].tolist()}
    assert {tuple(pair) for pair in graph.bonds[graph.whole].tolist()} == whole


def test_neutral_peptide_is_that_of_its_sequence():
    """Amide, aromatic and indole orders of a whole chain, against RDKit's own residues."""
    sequence = "GAVLIPFWMSTNQYC"
    # the chain may run through itself in space: bonds are from chemistry
    made = peptide(sequence, termini="neutral")
    graph = graph_of(made.atoms, made.topology)
    assert flat_smiles(as_rdkit(graph)) == flat_smiles(Chem.MolFromSequence(sequence))


@pytest.mark.parametrize("ph", [1.0, 7.0, 14.0])
def test_every_protonation(ph):
    made = peptide("ARDCEHKY", ph=ph)
    graph = graph_of(made.atoms, made.topology)
    assert graph.charge == made.charge
    found = {}
    for residue in np.unique(made.topology.residue_numbers).tolist():
        inside = made.topology.residue_numbers == residue
        charge = int(graph.charges[inside].sum())
        if charge:
            found[residue] = charge
    told = {int(label.split()[-1]): charge for label, charge in made.charged}
    assert found == told
    bare = ase.Atoms(made.atoms.numbers, made.atoms.positions)
    again = graph_of(bare, bonds=made.topology.bonds)
    assert (again.charges == graph.charges).all() and (again.orders == graph.orders).all()


def test_order_of_atoms_does_not_matter(rng):
    atoms, mol = built("NC(=[NH2+])NCCCC(C(=O)[O-])NC(=O)Cc1c[nH]c2ccccc12")
    order = rng.permutation(len(atoms))
    graph, other = graph_of(atoms), graph_of(atoms[order])
    assert graph.charge == other.charge == 0
    place = np.argsort(order)
    moved = np.sort(place[graph.bonds], axis=1)
    assert {tuple(p) for p in moved[graph.whole].tolist()} == {tuple(p) for p in other.bonds[other.whole].tolist()}
    assert flat_smiles(as_rdkit(other)) == flat_smiles(mol)


def test_box_of_ions_water_and_a_molecule_across_the_faces():
    box = ase.Atoms(cell=[12.0, 12.0, 12.0], pbc=True)
    for name, at in (("H2O", (0.1, 0.1, 0.1)), ("CH3COOH", (6.0, 6.0, 11.9)), ("H2O", (11.9, 6.0, 3.0))):
        part = molecule(name)
        part.positions += at
        box += part
    box += ase.Atoms("NaClZnMg", [(3, 3, 3), (9, 9, 3), (3, 9, 9), (9, 3, 7)])
    whole = graph_of(box)
    box.wrap()
    wrapped = graph_of(box)
    assert (whole.bonds == wrapped.bonds).all() and (whole.orders == wrapped.orders).all()
    assert wrapped.charges[-4:].tolist() == [1, -1, 2, 2] and wrapped.charge == 4
    assert len(np.unique(wrapped.bonds)) == len(box) - 4
    assert wrapped.orders.tolist().count(2) == 1


def test_iron_is_asked_for():
    atoms = molecule("H2O") + ase.Atoms("Fe", [(0, 0, 4)])
    with pytest.raises(InputError, match=r"charge of the Fe ion.*ions=\{'Fe': 2\}"):
        graph_of(atoms)
    assert graph_of(atoms, ions={"Fe": 3}).charge == 3
    atoms.set_array("residue_name", np.array(["HOH"] * 3 + ["FE2"]))
    assert graph_of(atoms).charge == 2


def test_bad_structures_are_refused():
    made = peptide("AceAlaNme")
    heavy = made.atoms[made.atoms.numbers > 1]
    with pytest.raises(InputError, match=r"too few bonds: hydrogens are missing.*heliodor prepare"):
        graph_of(heavy)
    nameless = ase.Atoms(heavy.numbers, heavy.positions)
    with pytest.raises(InputError, match="hydrogens are missing"):
        graph_of(nameless)
    alpha = int(np.flatnonzero(made.topology.names == "HA")[0])
    kept = np.delete(np.arange(len(made.atoms)), alpha)
    one_off = ase.Atoms(made.atoms.numbers[kept], made.atoms.positions[kept])
    with pytest.raises(InputError, match="hydrogens are missing"):
        graph_of(one_off)
    with pytest.raises(InputError, match="no closed-shell structure"):
        graph_of(molecule("CH3"))
    with pytest.raises(InputError, match="has no bonds"):
        graph_of(ase.Atoms("H", [(0, 0, 0)]))
    with pytest.raises(InputError, match="too few bonds"):
        graph_of(molecule("H2O")[:1])
    crowded = molecule("H2O") + ase.Atoms("O", [(0.0, 0.7632, -1.2)])
    with pytest.raises(InputError, match="cannot have here"):
        graph_of(crowded)
    acid = molecule("CH3COOH")
    acid.info["charge"] = -1
    with pytest.raises(InputError, match=r"add up to \+0 e.*said to be -1"):
        graph_of(acid)
    with pytest.raises(InputError, match="nonmetal"):
        graph_of(molecule("LiH"), bonds=np.array([[0, 1]]))
    with pytest.raises(InputError, match="bonds must join"):
        graph_of(molecule("H2O"), bonds=np.array([[0, 3]]))
    with pytest.raises(InputError, match="does not fit"):
        graph_of(molecule("H2O"), made.topology)


def test_bonds_given_are_the_bonds_used():
    atoms = molecule("C2H6")
    bonds = bonds_by_distance(atoms)
    atoms.positions[4] += 3.0
    assert graph_of(atoms, bonds=bonds).charge == 0
