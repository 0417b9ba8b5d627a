"""Peptides against RDKit (formula, chirality, bonds), MDTraj (angles, DSSP) and the systems of the papers."""

from __future__ import annotations

from collections import Counter

import ase.io
import numpy as np
import pytest

from support import shared

pytest.importorskip("openmm")
pytest.importorskip("PeptideBuilder")
pytest.importorskip("rdkit")

from heliodor.errors import InputError
from heliodor.prepare.chain import FOLDS
from heliodor.prepare.output import pdb_text
from heliodor.prepare.peptides import handedness, measured_angles, peptide
from heliodor.prepare.prepared import Prepared
from heliodor.prepare.sequence import ONE_LETTER, parse_sequence
from heliodor.topology import bonds_by_distance

# proline apart: its ring decides on phi
ALL = "ACDEFGHIKLMNQRSTVWY"


STATES_LETTER = {"D": "ASH", "E": "GLH", "K": "LYN", "H": "HIE"}


@pytest.fixture(scope="module")
def everything() -> Prepared:
    """All amino acids but proline, neutral where they can be, as an alpha helix."""
    neutral = {"D": "ASH", "E": "GLH", "K": "LYN", "H": "HID"}
    return peptide("-".join(neutral.get(a, ONE_LETTER[a]) for a in ALL), fold="alpha", termini="neutral")


def perceived(prepared: Prepared):
    """What RDKit sees in bare coordinates."""
    from rdkit import Chem
    from rdkit.Chem import rdDetermineBonds

    rows = [f"{a.symbol} {a.x:.5f} {a.y:.5f} {a.z:.5f}" for a in prepared.atoms]
    mol = Chem.MolFromXYZBlock("\n".join([str(len(rows)), "", *rows]) + "\n")
    rdDetermineBonds.DetermineBonds(mol, charge=prepared.charge)
    Chem.AssignStereochemistryFrom3D(mol)
    return mol


def in_mdtraj(prepared: Prepared, tmp_path):
    mdtraj = pytest.importorskip("mdtraj")
    path = tmp_path / "peptide.pdb"
    path.write_text(pdb_text(prepared))
    return mdtraj, mdtraj.load(str(path))


@pytest.mark.parametrize(
    ("sequence", "fold", "name", "charge"),
    [
        ("AceAla15Nme", "alpha", "AceAla15Nme_alpha", 0),
        ("AceAla15Nme", "310", "AceAla15Nme_310", 0),
        ("AceAla3Nme", "extended", "AceAla3Nme_extended", 0),
        ("AceAla5Lys+H+", "alpha", "AceAla5LysH_alpha", 1),
        ("AceAla3Lys+H+", "extended", "AceAla3LysH_extended", 1),
    ],
)
def test_the_systems_of_the_papers(sequence, fold, name, charge):
    made = peptide(sequence, fold=fold)
    path = shared(f"data/derived_systems/{name}.xyz")
    reference = ase.io.read(path)
    assert Counter(made.atoms.get_chemical_symbols()) == Counter(reference.get_chemical_symbols())
    assert made.charge == made.atoms.info["charge"] == charge
    # the same graph: elements of bonded atoms
    symbols = [made.topology.symbols, np.array(reference.get_chemical_symbols())]
    bonds = [made.topology.bonds, bonds_by_distance(reference)]
    counts = [
        Counter("".join(sorted((s[i], s[j]))) for i, j in b.tolist()) for s, b in zip(symbols, bonds, strict=True)
    ]
    assert counts[0] == counts[1]


def test_numbers_of_atoms_of_the_papers():
    assert len(peptide("AceAla3Nme").atoms) == 42
    lysine = peptide("AceAla15Lys+H+", fold="alpha")
    assert len(lysine.atoms) == 180
    assert lysine.charge == 1
    assert lysine.charged == (("A LYS 16", 1),)


def test_all_residues_have_the_formula_and_bonds_of_rdkit(everything):
    from rdkit import Chem
    from rdkit.Chem.rdMolDescriptors import CalcMolFormula

    neutral = Chem.AddHs(Chem.MolFromSequence(ALL))
    # arginine keeps its proton
    expected = Counter(atom.GetSymbol() for atom in neutral.GetAtoms()) + Counter({"H": 1})
    assert Counter(everything.atoms.get_chemical_symbols()) == expected, CalcMolFormula(neutral)
    assert everything.charge == 1
    seen = {tuple(pair) for pair in bonds_by_distance(everything.atoms).tolist()}
    assert seen == {tuple(pair) for pair in everything.topology.bonds.tolist()}
    assert len(seen) == neutral.GetNumBonds() + 1


def test_all_residues_are_l(everything):
    """CIP labels from the coordinates: S at every alpha carbon but R in cysteine; the second centres of Ile and Thr."""
    from rdkit import Chem

    t = everything.topology
    block = Chem.RWMol()
    for z in t.numbers.tolist():
        block.AddAtom(Chem.Atom(z))
    for i, j in t.bonds.tolist():
        carbonyl = {str(t.names[i]), str(t.names[j])} == {"C", "O"}
        block.AddBond(i, j, Chem.BondType.DOUBLE if carbonyl else Chem.BondType.SINGLE)
    conformer = Chem.Conformer(len(t))
    conformer.SetPositions(everything.atoms.positions)
    block.AddConformer(conformer)
    block.UpdatePropertyCache(strict=False)
    Chem.AssignStereochemistryFrom3D(block)
    labels = {
        (str(t.residue_names[k]), str(t.names[k])): block.GetAtomWithIdx(k).GetPropsAsDict().get("_CIPCode")
        for k in range(len(t))
    }
    for (residue, name), label in labels.items():
        if name == "CA" and residue != "GLY":
            assert label == ("R" if residue == "CYS" else "S"), residue
    assert labels["ILE", "CB"] == "S"
    assert labels["THR", "CB"] == "R"
    volumes = handedness(everything)
    assert (volumes[np.isfinite(volumes)] > 1.0).all()
    assert np.isnan(volumes).sum() == 1


def test_inchi_of_coordinates_is_that_of_the_sequence():
    from rdkit import Chem

    acid = peptide("ASH-GLY-LYN", termini="neutral", fold="beta")
    assert Chem.MolToInchi(perceived(acid)) == Chem.MolToInchi(Chem.MolFromSequence("DGK"))
    made = peptide("Cys-Ser-Ala", termini="neutral", fold="beta")
    assert Chem.MolToInchi(perceived(made)) == Chem.MolToInchi(Chem.MolFromSequence("CSA"))
    amide = peptide("AceGlyAlaNH2", fold="beta")
    assert Chem.MolToInchi(perceived(amide)) == Chem.MolToInchi(Chem.MolFromSmiles("CC(=O)NCC(=O)N[C@@H](C)C(N)=O"))


@pytest.mark.parametrize(("fold", "letter"), [("alpha", "H"), ("310", "G"), ("extended", "C"), ("ppii", "C")])
def test_folds_are_those_mdtraj_sees(fold, letter, tmp_path):
    made = peptide("AceAla8SerLeu2Nme", fold=fold)
    mdtraj, trajectory = in_mdtraj(made, tmp_path)
    for function, wanted in ((mdtraj.compute_phi, FOLDS[fold][0]), (mdtraj.compute_psi, FOLDS[fold][1])):
        angles = np.degrees(function(trajectory)[1][0])
        assert len(angles) == 11
        assert np.abs((angles - wanted + 180.0) % 360.0 - 180.0).max() < 1.0
    omegas = np.degrees(mdtraj.compute_omega(trajectory)[1][0])
    assert np.abs((omegas - FOLDS[fold][2] + 180.0) % 360.0 - 180.0).max() < 1.0
    letters = [x.replace(" ", "C") for x in mdtraj.compute_dssp(trajectory, simplified=False)[0]]
    assert set(letters[3:-3]) == {letter}, letters


def test_angles_of_ones_own(tmp_path):
    made = peptide("AAAA", phi=-100.0, psi=20.0)
    measured = measured_angles(made)
    assert np.nanmax(np.abs(measured - [-100.0, 20.0])) < 0.2
    assert np.isnan(measured[0, 0]) and np.isnan(measured[-1, 1])


def test_proline_keeps_its_ring():
    made = peptide("AceAlaProAlaNme", fold="beta")
    measured = measured_angles(made)
    assert measured[1, 0] == pytest.approx(-65.0, abs=0.5)
    assert measured[0, 0] == pytest.approx(-139.0, abs=0.5)
    assert any("proline" in note for note in made.notes)


@pytest.mark.parametrize(
    ("sequence", "options", "charge"),
    [
        ("DEHKRCY", {"ph": 7.0}, 0),  # -1 -1 0 +1 +1, ends cancel
        ("DEHKRCY", {"ph": 1.0}, 4),  # H K R and the amino end
        ("DEHKRCY", {"ph": 11.5}, -2),  # R only; D E and the carboxyl end
        ("DEHKRCY", {"ph": 7.0, "caps": "ACE,NME"}, 0),
        ("ACE-HIP-LYN-ASH-GLH-NME", {}, 1),
        ("GG", {"termini": "neutral"}, 0),
        ("KK", {}, 2),
        ("KDEK", {"ph": 14.0}, -3),
        ("EAD", {"ph": 0.5}, 1),
    ],
)
def test_charges(sequence, options, charge):
    from heliodor.system import System

    made = peptide(sequence, fold="beta", **options)
    assert made.charge == charge == sum(q for _, q in made.charged)
    # a closed shell: the count of electrons is even
    assert (int(made.topology.numbers.sum()) - made.charge) % 2 == 0
    # by RDKit's formula: each charge is a proton more or less than in the neutral molecule
    if made.topology.residue_names[0] != "ACE":
        from rdkit import Chem

        letters = {v: k for k, v in ONE_LETTER.items()} | {v: k for k, v in STATES_LETTER.items()} | {"HIP": "H"}
        starts = np.flatnonzero(np.diff(made.topology.residues, prepend=-1))
        text = "".join(letters[name] for name in made.topology.residue_names[starts].tolist())
        neutral = Chem.AddHs(Chem.MolFromSequence(text))
        hydrogens = sum(atom.GetAtomicNum() == 1 for atom in neutral.GetAtoms())
        assert (made.topology.numbers == 1).sum() == hydrogens + charge
        assert len(made.topology.bonds) == neutral.GetNumBonds() + charge
    assert float(System.from_atoms(made.atoms).charge[0]) == charge


def test_bulky_side_chains_do_not_run_into_each_other():
    made = peptide("WFYWFYWIVI", fold="alpha")
    bonds = made.topology.bonds
    lengths = np.linalg.norm(np.diff(made.atoms.positions[bonds], axis=1)[:, 0], axis=1)
    from ase.data import covalent_radii

    strain = lengths / covalent_radii[made.topology.numbers[bonds]].sum(1)
    # a ring threaded by a side chain stretches its bonds by a fifth and more
    assert strain.min() > 0.8 and strain.max() < 1.1


def test_the_same_seed_gives_the_same_structure():
    first, again = (peptide("AKA", seed=3) for _ in range(2))
    # OpenMM adds up forces in parallel, in any order
    assert np.allclose(first.atoms.positions, again.atoms.positions, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "caps", "name"),
    [
        ("AAAK", None, "ALA-ALA-ALA-LYS"),
        ("AA", "ACE,NME", "ACE-ALA-ALA-NME"),
        ("ACE-ALA2-LYN-NME", None, "ACE-ALA-ALA-LYN-NME"),
        ("AcAla3NHMe", None, "ACE-ALA-ALA-ALA-NME"),
        ("Ac-Ala2-Lys+H+", None, "ACE-ALA-ALA-LYS"),
        ("AceGlyNH2", None, "ACE-GLY-NH2"),
        ("GK", "NH2", "GLY-LYS-NH2"),
    ],
)
def test_ways_to_write_a_sequence(text, caps, name):
    assert parse_sequence(text, caps).name == name
    assert parse_sequence(text, caps).proton == text.endswith("+H+")


@pytest.mark.parametrize(
    ("text", "caps", "said"),
    [
        ("", None, "empty sequence"),
        ("  ", None, "empty sequence"),
        ("AAXA", None, "'X' .* no amino acid"),
        ("ACE-NME", None, "no amino acid"),
        ("ALA", None, "can mean the residue Ala or the sequence A-L-A"),
        ("aaa", None, "D-residues"),
        ("Ala-DAL-Ala", None, "D-residue"),
        ("D-Ala-Ala", None, "D-residue"),
        ("Ala-Lsy", None, "did you mean 'LYS'"),
        ("AlaNmeAla", None, "cap NME .* its end"),
        ("AceAla3Nme", "ACE", "one too many"),
        ("AAA", "XYZ", "no cap"),
        ("Ala0Gly", None, "1 to 200"),
        ("A" * 300, None, "too long"),
    ],
)
def test_sequences_that_cannot_be(text, caps, said):
    with pytest.raises(InputError, match=said):
        parse_sequence(text, caps)


@pytest.mark.parametrize(
    ("sequence", "options", "said"),
    [
        ("AAA", {"fold": "alfa"}, "did you mean 'alpha'"),
        ("AAA", {"phi": -60.0}, "come together"),
        ("AAA", {"phi": -60.0, "psi": 300.0}, "between -180"),
        ("AAA", {"ph": 15.0}, "pH must lie"),
        ("AAA", {"ph": float("nan")}, "pH must lie"),
        ("AAA", {"termini": "both"}, "termini are"),
        ("A", {}, "single amino acid"),
        ("AceAla3+H+", {}, "0 basic residues"),
        ("AceLysAlaLys+H+", {}, "2 basic residues"),
        ("AceLys+H+", {"termini": "charged"}, "neutral ends"),
        ("AAAAAA", {"phi": 0.0, "psi": 0.0}, "runs into itself"),
    ],
)
def test_requests_that_cannot_be(sequence, options, said):
    with pytest.raises(InputError, match=said):
        peptide(sequence, **options)
