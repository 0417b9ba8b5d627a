"""heliodor prepare on files: what is told and written, and one clear error for each bad input."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest

from heliodor.cli import main
from support import DATA

TEN = DATA / "prepare" / "crambin_1-10.pdb"
LINES = [line for line in TEN.read_text().splitlines() if line.startswith("ATOM")]
WATER = "HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O"


def test_help_shows_both_ways(cli: Callable) -> None:
    answer = cli("prepare", "--help")
    assert answer.code == 0
    assert "heliodor prepare FILE [OPTIONS] is short for" in " ".join(answer.out.split())
    assert "protein" in answer.out


def test_a_file_is_prepared_and_can_be_run(cli: Callable) -> None:
    answer = cli("prepare", TEN)
    assert answer.code == 0, answer.err
    assert "charge       +1 (1 residues positive, 0 negative)" in answer.out
    assert "ends of chain A: THR 1 NH3+ ... ARG 10 COO-" in answer.out
    atoms = ase.io.read("crambin_1-10-prepared.xyz")
    assert len(atoms) == 147
    assert atoms.info["charge"] == 1
    assert set(atoms.arrays["residue_name"]) == {"THR", "CYS", "PRO", "SER", "ILE", "VAL", "ALA", "ARG"}
    record = json.loads(Path("crambin_1-10-prepared.prepare.json").read_text())
    assert record["source"]["file"] == str(TEN)
    assert len(record["source"]["sha256"]) == 64
    assert record["charge"] == 1
    assert record["built"] == {"residues": 0, "heavy_atoms": 0, "end_atoms": 1}
    again = cli("prepare", TEN)
    assert again.code == 2
    assert "exists already" in again.error
    ran = cli("md", "crambin_1-10-prepared.xyz", "--time", "1 fs", "--output", "crambin_1-10-prepared.h5")
    assert ran.code == 0, ran.err
    # a run of the same name leaves the record of the preparation alone
    assert json.loads(Path("crambin_1-10-prepared.prepare.json").read_text()) == record


def test_json_and_the_long_form(cli: Callable) -> None:
    answer = cli("prepare", "protein", TEN, "--json", "--caps", "both", "-o", "capped")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["charge"] == 1
    assert told["residues"]["ACE"] == told["residues"]["NME"] == 1
    assert told["files"] == {"structure": "capped.xyz", "pdb": "capped.pdb", "record": "capped.prepare.json"}
    assert all(Path(name).exists() for name in told["files"].values())


def shifted(by: float) -> list[str]:
    return [f"{line[:21]}B{line[22:30]}{float(line[30:38]) + by:8.3f}{line[38:]}" for line in LINES]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "is empty"),
        (["hello", "world"], "holds no atoms"),
        ([WATER], "holds water only"),
        ([*LINES[:20], LINES[20][:40]], "line 21: no coordinates"),
        ([LINES[0][:30] + "     nan" + LINES[0][38:], *LINES[1:]], "line 1: no coordinates"),
        ([*LINES, *shifted(0.0)], "two atoms on one spot"),
        ([*LINES, *shifted(0.3)], "two atoms on one spot"),
        ([line.replace("PRO", "XYZ") for line in LINES], "modified residues in the chains: A XYZ 5"),
        (
            [line for line in LINES if int(line[22:26]) not in (4, 5)],
            "chains are broken at 1 place: A CYS 3 to A SER 6",
        ),
    ],
)
def test_bad_files(cli: Callable, write: Callable, lines: list[str], words: str) -> None:
    path = write("bad.pdb", "\n".join([*lines, "END", ""]) if lines else "")
    answer = cli("prepare", path)
    assert answer.code == 2
    assert words in answer.error
    assert not Path("bad-prepared.xyz").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--box", "5"], "too small for a solute"),
        (["--box", "wide"], "as a box"),
        (["--box", "40", "--solvate", "5"], "not both"),
        (["--solvate", "-1"], "margin of water"),
        (["--salt", "0.1"], "--salt goes with water"),
        (["--solvate", "5", "--salt", "0.2"], "would need Na+"),
        (["--waters", "some"], "--waters must be keep or drop"),
        (["--caps", "one"], "--caps must be none or both"),
        (["--ph", "20"], "pH must be between"),
        (["--chains", "Z"], "there is no chain Z"),
        (["--keep-cell"], "has no periodic box to keep"),
        (["--ligand", "LIG"], "NAME=SMILES"),
        (["--force-field", "gaff"], "no force field 'gaff'"),
        (["--no-minimise", "--equilibrate"], "leave --no-minimise out"),
        (["--model", "unknown"], "no model called 'unknown'"),
        (["-o", "missing/stem"], "there is no folder"),
    ],
)
def test_bad_options(cli: Callable, options: list[str], words: str) -> None:
    answer = cli("prepare", TEN, *options)
    assert answer.code == 2
    assert words in answer.error


def test_mistyped_and_missing(cli: Callable) -> None:
    assert "did you mean 'heliodor prepare molecule'" in cli("prepare", "molecul").error
    assert "there is no file nothing.pdb" in cli("prepare", "nothing.pdb").error


def test_clashes_need_the_relaxation(cli: Callable, write: Callable) -> None:
    """A second chain whose leftmost atom comes 1.2 Å to the right of the rightmost of the first."""
    places = [[float(line[k : k + 8]) for k in (30, 38, 46)] for line in LINES]
    right, left = max(places), min(places)
    shift = [right[k] - left[k] + (1.2 if k == 0 else 0.0) for k in range(3)]
    moved = [
        f"{line[:21]}B{line[22:30]}{''.join(f'{x + dx:8.3f}' for x, dx in zip(place, shift, strict=True))}{line[54:]}"
        for line, place in zip(LINES, places, strict=True)
    ]
    path = write("close.pdb", "\n".join([*LINES, *moved, "END", ""]))
    answer = cli("prepare", path, "--no-minimise")
    assert answer.code == 2
    assert "are 1.20 Å apart" in answer.error
    assert "leave --no-minimise out" in answer.error
    answer = cli("prepare", path)
    assert answer.code == 0, answer.err
    assert "closer than 1.6 Å before the relaxation" in answer.out


@pytest.mark.parametrize("package", ["openmm", "pdbfixer"])
def test_missing_extra(cli: Callable, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    answer = cli("prepare", TEN)
    assert answer.code == 2
    assert f"needs the package '{package}': pip install 'heliodor[prepare]'" in answer.error


def test_help_stays_light() -> None:
    import subprocess

    code = "import sys, heliodor.cli; print([m for m in ('torch', 'openmm', 'rdkit', 'scipy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert main(["prepare", "--help"]) == 0


def test_the_structure_handed_in_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.pdb").write_bytes(TEN.read_bytes())
    assert main(["prepare", "my.pdb", "--output", "my", "--overwrite"]) == 2
    assert "my.pdb is the structure handed in: choose another --output" in capsys.readouterr().err
    assert Path("my.pdb").read_bytes() == TEN.read_bytes()
