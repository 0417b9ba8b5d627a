"""Names from bonds alone, against files that carry them."""

from __future__ import annotations

import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from heliodor.topology import Topology, topology_of
from heliodor.trajectory.perceive import recognised
from support import shared

EXAMPLES = Path(__file__).parents[2] / "examples"
STANDARD = {"HID": "HIS", "HIE": "HIS", "HIP": "HIS", "CYX": "CYS", "CYM": "CYS", "ASH": "ASP", "GLH": "GLU"}
PROTEINS = (
    "proteins/chignolin_ai2bmd.pdb",
    "proteins/trpcage_ai2bmd.pdb",
    "proteins/ww_ai2bmd.pdb",
    "proteins/ubiquitin_1d3z_model1.pdb",
    "proteins/bpti_1pit_model1.pdb",
    "proteins/gb3_1p7e.pdb",
    "peptides/aaqaa3_alpha_protonated.pdb",
)


def bare(atoms: ase.Atoms) -> Topology:
    return topology_of(ase.Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc))


def standard(names: np.ndarray) -> list[str]:
    return [STANDARD.get(name, name) for name in names.tolist()]


@pytest.mark.parametrize("file", PROTEINS)
@pytest.mark.parametrize("shuffled", [False, True])
def test_proteins_are_named_as_in_their_files(file: str, shuffled: bool) -> None:
    mdtraj = pytest.importorskip("mdtraj")
    truth = mdtraj.load(str(shared("data/structures") / file))[0]
    numbers = np.array([atom.element.number for atom in truth.top.atoms])
    atoms = ase.Atoms(numbers=numbers, positions=10.0 * truth.xyz[0])
    order = np.random.default_rng(3).permutation(len(atoms)) if shuffled else np.arange(len(atoms))
    found = recognised(bare(atoms[order]))
    assert found is not None and found.named
    known = [truth.top.atom(int(k)) for k in order]
    assert standard(found.residue_names) == [STANDARD.get(atom.residue.name, atom.residue.name) for atom in known]
    offset = {atom.residue.resSeq - number for atom, number in zip(known, found.residue_numbers, strict=True)}
    assert len(offset) == 1
    # residues stay whole wherever the file puts their atoms
    assert found.residues.max() + 1 == truth.n_residues
    for mine, atom in zip(found.names, known, strict=True):
        unique = ("N", "CA", "C", "CB", "CG", "SG", "CD", "NE", "CZ", "NZ", "OG", "OG1", "ND1", "NE1", "SD", "OH", "H")
        if atom.name in unique and atom.residue.index > 0:
            assert mine == atom.name, (atom, mine)
        if not shuffled and atom.element.number > 1:
            assert mine == atom.name, (atom, mine)


def test_example_peptide() -> None:
    """Names of the shipped file came from a builder."""
    atoms = ase.io.read(EXAMPLES / "ace-ala3-nme.xyz")
    assert isinstance(atoms, ase.Atoms)
    found = recognised(bare(atoms))
    assert found is not None
    order = np.argsort(found.residues, kind="stable")
    words = found.residue_names[order][np.unique(found.residues[order], return_index=True)[1]]
    assert sorted(words.tolist()) == ["ACE", "ALA", "ALA", "ALA", "NME"]
    assert sorted(found.names[found.residue_names == "NME"].tolist()) == ["C", "H", "H1", "H2", "H3", "N"]


def peptide(smiles: str) -> Topology:
    """Built by RDKit, which knows nothing of our rules; hydrogens come last in its order."""
    chem = pytest.importorskip("rdkit.Chem")
    mol = chem.AddHs(chem.MolFromSmiles(smiles))
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    bonds = np.array(sorted(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())) for b in mol.GetBonds()))
    far = 100.0 * np.arange(3 * len(numbers)).reshape(-1, 3)
    return topology_of(ase.Atoms(numbers=numbers, positions=far), bonds=bonds)


def words(topology: Topology) -> list[str]:
    _, first = np.unique(topology.residues, return_index=True)
    return topology.residue_names[first].tolist()


@pytest.mark.parametrize(
    ("side", "name"),
    [
        ("C", "ALA"),
        ("CCCNC(N)=[NH2+]", "ARG"),
        ("CC(N)=O", "ASN"),
        ("CC(=O)[O-]", "ASP"),
        ("CC(=O)O", "ASH"),
        ("CS", "CYS"),
        ("C[S-]", "CYM"),
        ("CCC(N)=O", "GLN"),
        ("CCC(=O)[O-]", "GLU"),
        ("CCC(=O)O", "GLH"),
        ("Cc1c[nH]cn1", "HIE"),
        ("Cc1cnc[nH]1", "HID"),
        ("Cc1c[nH]c[nH+]1", "HIP"),
        ("C(C)CC", "ILE"),
        ("CC(C)C", "LEU"),
        ("CCCC[NH3+]", "LYS"),
        ("CCCCN", "LYN"),
        ("CCSC", "MET"),
        ("Cc1ccccc1", "PHE"),
        ("CO", "SER"),
        ("C(O)C", "THR"),
        ("Cc1c[nH]c2ccccc12", "TRP"),
        ("Cc1ccc(O)cc1", "TYR"),
        ("C(C)C", "VAL"),
    ],
)
def test_every_side_chain(side: str, name: str) -> None:
    found = recognised(peptide(f"CC(=O)NC({side})C(=O)NC"))
    assert found is not None
    assert words(found) == ["ACE", name, "NME"]


def test_glycine_proline_and_free_ends() -> None:
    found = recognised(peptide("[NH3+]CC(=O)N1CCCC1C(=O)NC(C)C(=O)[O-]"))
    assert found is not None
    assert words(found) == ["GLY", "PRO", "ALA"]
    assert found.residue_numbers.max() == 3
    assert {"H1", "H2", "H3", "OXT"} <= set(found.names.tolist())


def test_cyclic_peptide_and_disulfide() -> None:
    ring = recognised(peptide("C1C(=O)NC(C)C(=O)NC(CO)C(=O)NCC(=O)N1"))
    assert ring is not None and sorted(words(ring)) == ["ALA", "GLY", "GLY", "SER"]
    bridge = recognised(peptide("CC(=O)NC(CSSCC(NC(C)=O)C(=O)NC)C(=O)NC"))
    assert bridge is not None and words(bridge).count("CYX") == 2
    assert set(bridge.chains.tolist()) == {"A", "B"}


@pytest.mark.parametrize("smiles", ["CCO", "c1ccccc1C(=O)NC", "CC(=O)NC(CCF)C(=O)NC", "OC(=O)CC(N)CC"])
def test_other_molecules_are_not_taken_for_peptides(smiles: str) -> None:
    assert recognised(peptide(smiles)) is None


def test_waters_among_others() -> None:
    atoms = molecule("H2O")
    other = molecule("CH3OH")
    other.positions += 20.0
    more = molecule("H2O")
    more.positions -= 20.0
    found = recognised(bare(atoms + other + more))
    assert found is not None
    assert found.residue_names.tolist() == ["HOH"] * 3 + ["MOL"] * 6 + ["HOH"] * 3
    assert found.names[:3].tolist() == ["O", "H1", "H2"]
    assert found.residue_numbers.tolist() == [1] * 3 + [2] * 6 + [3] * 3
    assert recognised(bare(other)) is None


def test_time_grows_with_the_number_of_atoms() -> None:
    """20,000 waters; anything quadratic would take minutes."""
    n = 20_000
    oxygen = 3 * np.arange(n)
    bonds = np.sort(np.concatenate([np.stack([oxygen, oxygen + k], axis=1) for k in (1, 2)]), axis=1)
    atoms = ase.Atoms(numbers=np.tile([8, 1, 1], n), positions=np.zeros((3 * n, 3)))
    before = time.process_time()
    found = recognised(topology_of(atoms, bonds=bonds))
    assert found is not None and (found.residue_names == "HOH").all()
    assert time.process_time() - before < 30.0
