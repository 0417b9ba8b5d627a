"""heliodor prepare peptide, molecule, liquid, membrane: files, what is told, refusals before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import pytest

pytest.importorskip("openmm")
pytest.importorskip("rdkit")
pytest.importorskip("packmol")


def test_peptide(cli):
    answer = cli("prepare", "peptide", "AceAla3Nme", "--fold", "alpha")
    assert answer.code == 0, answer.err
    for piece in (
        "42 atoms, C12H22N4O4",
        "1 ACE, 3 ALA, 1 NME",
        "none (gas phase)",
        "charge       0",
        "aceala3nme.pdb",
    ):
        assert piece in answer.out
    assert "decided      backbone angles are within" in answer.out
    atoms = ase.io.read("aceala3nme.xyz")
    assert len(atoms) == 42
    assert atoms.info["charge"] == 0
    assert set(atoms.arrays["residue_name"].tolist()) == {"ACE", "ALA", "NME"}
    assert len(ase.io.read("aceala3nme.pdb")) == 42
    record = json.loads(Path("aceala3nme.prepare.json").read_text())
    assert record["sequence"] == "ACE-ALA-ALA-ALA-NME"
    # nothing is replaced without being asked
    again = cli("prepare", "peptide", "AceAla3Nme", "--fold", "alpha")
    assert again.code == 2
    assert "exists" in again.error
    assert cli("prepare", "peptide", "AceAla3Nme", "--fold", "alpha", "--overwrite").code == 0


def test_a_charged_peptide_as_json_in_water(cli):
    answer = cli("prepare", "peptide", "AceLys+H+", "--solvate", 3, "-o", "wet", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["charge"] == 1
    assert found["residues"]["HOH"] == found["waters_added"] > 50
    atoms = ase.io.read("wet.xyz")
    assert atoms.pbc.all()
    assert atoms.info["charge"] == 1


def test_molecule(cli):
    answer = cli("prepare", "molecule", "CC(=O)Nc1ccc(O)cc1", "--name", "PCM", "-o", "paracetamol")
    assert answer.code == 0, answer.err
    assert "20 atoms, C8H9NO2" in answer.out
    assert len(ase.io.read("paracetamol.xyz")) == 20
    text = Path("paracetamol.pdb").read_text()
    assert "PCM" in text
    assert "CONECT" in text


def test_a_radical_keeps_its_spin_in_the_file(cli):
    assert cli("prepare", "molecule", "C[CH2]", "-o", "ethyl").code == 0
    assert ase.io.read("ethyl.xyz").info["spin"] == 1


def test_conformers(cli):
    answer = cli("prepare", "molecule", "CCO", "--conformers", 2, "-o", "ethanol")
    assert answer.code == 0, answer.err
    assert "ethanol-1.xyz: 0.00 kcal/mol" in answer.out
    assert Path("ethanol-2.pdb").exists()
    wet = cli("prepare", "molecule", "CCO", "--conformers", 2, "--solvate", 5, "-o", "other")
    assert wet.code == 2
    assert "do not go together" in wet.error


def test_liquid(cli):
    answer = cli("prepare", "liquid", "water:40", "ethanol:5", "--density", "0.95", "--seed", 3)
    assert answer.code == 0, answer.err
    assert "40 HOH, 5 EOH" in answer.out
    assert "0.9500 g/cm³" in answer.out
    atoms = ase.io.read("liquid.xyz")
    assert len(atoms) == 165
    assert atoms.pbc.all()
    again = cli("prepare", "liquid", "water:40", "ethanol:5", "--box", "12,12,13", "-o", "other", "--json")
    assert json.loads(again.out)["cell_A"] == [[12.0, 0.0, 0.0], [0.0, 12.0, 0.0], [0.0, 0.0, 13.0]]


def test_membrane_of_the_patch(cli):
    answer = cli("prepare", "membrane", "DLPE", "--lipids", 128)
    assert answer.code == 0, answer.err
    assert "128 DLPE, 5120 HOH" in answer.out
    assert "54.9 Å² a lipid" in answer.out
    assert len(ase.io.read("dlpe.xyz")) == 128 * 97 + 3 * 5120


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["peptide", ""], "empty sequence"),
        (["peptide", "AAXA"], "no amino acid"),
        (["peptide", "AAA", "--fold", "helical"], "no fold"),
        (["peptide", "AAA", "--phi", "-60"], "come together"),
        (["peptide", "AAA", "--solvate", "5", "--box", "30"], "not both"),
        (["peptide", "AAA", "-o", "no/such/folder/x"], "folder"),
        (["molecule", "CC("], "no valid SMILES"),
        (["molecule", "C[Fe]"], "metal Fe"),
        (["molecule", "CCBr"], "knows only"),
        (["molecule", "C", "--name", "methane"], "residue name"),
        (["molecule", "missing.sdf"], "cannot read missing.sdf"),
        (["liquid", "wather:10"], "did you mean 'water'"),
        (["liquid", "water:64", "--density", "5"], "too dense"),
        (["liquid", "water:64", "--box", "a,b"], "cannot read 'a,b' as a box"),
        (["liquid", "water:10", "[Na+]:1", "--density", "1"], "knows only"),
        (["membrane", "POPX"], "no membrane of 'POPX'"),
        (["membrane", "POPC", "--lipids", "127"], "even number"),
        (["membrane", "POPC", "--waters", "640", "--water-per-lipid", "5"], "give one of"),
    ],
)
def test_refusals_write_nothing(cli, words, said):
    answer = cli("prepare", *words)
    assert answer.code == 2
    assert said in answer.error
    assert not [path for path in Path().rglob("*") if path.suffix in (".xyz", ".pdb", ".json")]


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (["peptide", "AceAlaNme"], "PeptideBuilder"),
        (["molecule", "CCO"], "rdkit"),
        (["liquid", "water:5"], "packmol"),
        (["membrane", "POPC"], "openmm"),
    ],
)
def test_a_missing_package_is_named(cli, words, package, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    if package == "packmol":
        monkeypatch.setitem(sys.modules, "packmol.cli", None)
    answer = cli("prepare", *words)
    assert answer.code == 2
    assert "heliodor[prepare]" in answer.error
    assert package in answer.error


def test_a_model_without_charges_refuses_a_charged_peptide_at_once(cli, monkeypatch):
    import lzma

    from support import DATA

    Path("MACE-OFF23_small.model").write_bytes(lzma.decompress((DATA / "mace" / "vector.model.xz").read_bytes()))
    monkeypatch.setattr("heliodor.prepare.peptides.peptide", None)
    answer = cli("prepare", "peptide", "AceAla30Lys+H+", "--model", "MACE-OFF23_small.model")
    assert answer.code == 2
    assert "A LYS 31 (+1)" in answer.error
    assert "LYN" in answer.error
