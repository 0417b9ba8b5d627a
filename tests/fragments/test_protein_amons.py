"""Amons of all proteins against the design's table, and against proteins written by RDKit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem.rdMolDescriptors import CalcMolFormula

from heliodor.errors import InputError
from heliodor.fragments.bottom_up import bottom_up, molecules
from heliodor.fragments.proteins import SIDE_CHAINS, amons_of_sequence, peptide_graph, protein_amons
from heliodor.fragments.rdkit_graph import graph_from_smiles, mol_from_graph, molecule_key

DESIGN = {1: 7, 2: 12, 3: 25, 4: 63, 5: 136, 6: 295}
"""Of gems.md, section 4a; 603 of seven and 1,190 of eight heavy atoms are in benchmarks/bottom_up_counts.py."""


def test_the_table_of_the_design() -> None:
    amons = protein_amons(6)
    assert Counter(a.n_heavy for a in amons) == DESIGN
    assert [a.smiles for a in amons[:7]] == ["C", "N", "O", "S", "[NH4+]", "[OH-]", "[SH-]"]
    assert list(amons) == sorted(amons, key=lambda a: (a.n_heavy, a.smiles))
    for amon in amons:
        mol = Chem.AddHs(Chem.MolFromSmiles(amon.smiles))
        assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == amon.smiles
        assert Chem.GetFormalCharge(mol) == amon.charge
        assert abs(amon.charge) <= 2
        assert mol.GetNumHeavyAtoms() == amon.n_heavy
        assert (sum(a.GetAtomicNum() for a in mol.GetAtoms()) - amon.charge) % 2 == 0
        assert not any(a.GetNumRadicalElectrons() for a in mol.GetAtoms())


def test_pieces_of_random_proteins_are_among_them(rng: np.random.Generator) -> None:
    known = {a.smiles for a in protein_amons(6, complete=True, every_kekule=True)}
    for _ in range(8):
        letters = "".join(rng.choice(list(SIDE_CHAINS), size=12))
        states = {k: str(rng.choice([s for s in SIDE_CHAINS[c] if s != "SS"])) for k, c in enumerate(letters, 1)}
        ends = str(rng.choice(["NH3+", "NH2", "ACE"])), str(rng.choice(["COO-", "COOH", "NME"]))
        graph = peptide_graph(letters, *ends, states=states)
        assert {a.smiles for a in bottom_up(graph, 6, every_kekule=True)} <= known


def test_sequences_are_what_rdkit_makes_of_them() -> None:
    letters = "GAVLIPMSTNQDEKRHCFYW"
    states = dict.fromkeys((12, 13, 14, 15), "0")
    mine = mol_from_graph(peptide_graph(letters, "NH2", "COOH", states=states))
    theirs = Chem.MolFromSequence(letters)
    for atom in theirs.GetAtoms():
        atom.SetFormalCharge(0)
    theirs = Chem.AddHs(theirs)
    Chem.RemoveStereochemistry(theirs)
    assert CalcMolFormula(mine) == CalcMolFormula(theirs)
    # histidine's proton, arginine's double bond: the skeleton is compared
    bare = [Chem.RemoveHs(m) for m in (mine, theirs)]
    assert bare[0].GetNumBonds() == bare[1].GetNumBonds()


def test_three_alanines() -> None:
    """Counts of Ace-Ala-Ala-Ala-NMe, from its SMILES and from its sequence."""
    written = graph_from_smiles("CC(=O)NC(C)C(=O)NC(C)C(=O)NC(C)C(=O)NC")
    for largest, count in ((5, 30), (6, 46), (8, 105)):
        amons = amons_of_sequence("AAA", largest, n_terminus="ACE", c_terminus="NME")
        assert len(amons) == count
        assert amons == bottom_up(written, largest)


def test_disulfides() -> None:
    bridged = {a.smiles for a in amons_of_sequence("CAC", 6, disulfides=[(1, 3)])}
    assert {"CSSC", "CCSSCC"} <= bridged
    assert "CS" not in bridged - {a.smiles for a in amons_of_sequence("CAC", 6)}
    assert "SS" in bridged


def test_the_same_in_every_process() -> None:
    code = "import hashlib; from heliodor.fragments.proteins import protein_amons as p; "
    code += "print(hashlib.sha256(repr(p(4)).encode()).hexdigest())"
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1


def test_bad_input() -> None:
    with pytest.raises(InputError, match="up to 8 heavy atoms, not 9"):
        protein_amons(9)
    with pytest.raises(InputError, match="residue 2 is 'X'"):
        peptide_graph("AXA")
    with pytest.raises(InputError, match="no state '-'"):
        peptide_graph("AAA", states={2: "-"})
    with pytest.raises(InputError, match="count from 1 to 3"):
        peptide_graph("AAA", states={4: ""})
    with pytest.raises(InputError, match="no end of a chain"):
        peptide_graph("AAA", "ACEX")
    with pytest.raises(InputError, match="residue 2 cannot be in a disulfide"):
        peptide_graph("CAC", disulfides=[(1, 2)])
    with pytest.raises(InputError, match="empty sequence"):
        peptide_graph(" ")


def test_the_molecules_of_proteins_are_as_many_as_the_literature_has() -> None:
    # "2307 chemical graphs": Unke & Meuwly, J. Chem. Theory Comput. 15, 3678 (2019); GEMS uses the same
    amons = protein_amons(8)
    different = molecules(amons)
    assert (len(amons), len(different)) == (2331, 2307)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("CNC(N)=[NH2+]", "C[NH+]=C(N)N", True),
        ("Cc1c[nH+]c[nH]1", "Cc1c[nH]c[nH+]1", True),
        ("CC(=O)[O-]", "CC(O)=O", False),
        ("Cc1cnc[nH]1", "Cc1c[nH]cn1", False),
        ("CCO", "COC", False),
        ("C=CO", "CC=O", False),
    ],
)
def test_drawings_of_one_molecule(one: str, other: str, same: bool) -> None:
    assert (molecule_key(one) == molecule_key(other)) is same
