"""heliodor fragment and heliodor gems on the command line."""

import json

import ase.build
import ase.io
import pytest
import yaml

from heliodor.cli import main
from heliodor.train.dataset import Dataset

pytest.importorskip("rdkit")


def said(capsys):
    return json.loads(capsys.readouterr().out)


def test_pieces_of_a_smiles(capsys, tmp_path):
    # propane: methane, ethane, propane
    assert main(["fragment", "smiles:CCC", "--bottom-up", "--json"]) == 0
    found = said(capsys)
    assert found["graphs"] == 3 and found["by_heavy_atoms"] == {"1": 1, "2": 1, "3": 1}
    out = tmp_path / "pieces.smi"
    assert main(["fragment", "smiles:CCC", "--bottom-up", "-o", str(out)]) == 0
    assert [line.split("\t")[0] for line in out.read_text().splitlines()] == ["C", "CC", "CCC"]


def test_pieces_of_a_sequence_as_structures_and_as_a_data_set(capsys, tmp_path):
    pytest.importorskip("openmm")
    for name in ("a.xyz", "a.h5"):
        out = str(tmp_path / name)
        assert main(["fragment", "AceGlyNme", "--bottom-up", "--max-heavy", "2", "-o", out]) == 0
    frames = ase.io.read(tmp_path / "a.xyz", index=":")
    data = Dataset.read(tmp_path / "a.h5")
    assert [frame.info["group"] for frame in frames] == data.group.tolist()
    # C, N, O, C=O, CC, CN
    assert sorted(set(data.group)) == sorted(["C", "N", "O", "C=O", "CC", "CN"])


def test_spheres_out_of_a_structure(capsys, tmp_path):
    chain = tmp_path / "chain.xyz"
    from heliodor.fragments.embed import embed

    ase.io.write(chain, embed("CCCCCCCC", 1, 0)[0], format="extxyz")
    out = tmp_path / "spheres.xyz"
    command = ["fragment", str(chain), "--top-down", "--radius", "2", "--json", "-o", str(out)]
    assert main(command) == 0
    found = said(capsys)
    frames = ase.io.read(out, index=":")
    assert found["fragments"] == len(frames) > 1 and found["by_charge"] == {"0": len(frames)}
    # an alkane each, CnH2n+2
    for frame in frames:
        carbons = int((frame.numbers == 6).sum())
        assert int((frame.numbers == 1).sum()) == 2 * carbons + 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["CCC"], "either --bottom-up or --top-down"),
        (["CCC", "--bottom-up", "--top-down"], "either --bottom-up or --top-down"),
        (["CCC", "--bottom-up"], "is a sequence and SMILES: write smiles:CCC"),
        (["xyzzy", "--bottom-up"], "no file, no SMILES, and no sequence"),
        (["CCC", "--top-down"], "there is no file CCC"),
        (["CCC", "--bottom-up", "-o", "pieces.pdb"], "--output ends in .smi"),
    ],
)
def test_bad_words(arguments, words, capsys):
    assert main(["fragment", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error


def test_structures_that_are_no_whole_molecules(capsys, tmp_path):
    path = tmp_path / "radical.xyz"
    ase.io.write(path, ase.build.molecule("CH3"))
    assert main(["fragment", str(path), "--bottom-up"]) == 2
    assert "heliodor: error:" in capsys.readouterr().err


def test_gems_explains_itself(capsys):
    assert main(["gems", "--explain"]) == 0
    assert set(yaml.safe_load(capsys.readouterr().out)) >= {"bottom_up", "top_down", "label", "train"}


def test_gems_stops_where_it_is_told(capsys, tmp_path):
    pytest.importorskip("openmm")
    folder = tmp_path / "made"
    assert main(["gems", "AceGlyNme", "--until", "prepare", "-o", str(folder), "--json"]) == 0
    found = said(capsys)
    assert found["stages"]["prepare"]["atoms"] == 19 and (folder / "system.xyz").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "which molecule?"),
        (["AceGlyNme", "--set", "label.methd=gfn2"], "unknown entry label.methd; did you mean 'method'"),
        (["AceGlyNme", "--set", "label"], "--set wants NAME=VALUE"),
        (["AceGlyNme", "--set", "seed=[1"], "is not a value"),
        (["AceGlyNme", "--config", "nowhere.yaml"], "there is no file nowhere.yaml"),
        (["nowhere.pdb"], "there is no file nowhere.pdb"),
    ],
)
def test_gems_and_bad_words(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["gems", *arguments]) == 2
    assert words in capsys.readouterr().err
