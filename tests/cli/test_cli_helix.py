"""heliodor helix."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest

from support import shared


@pytest.fixture
def folder() -> Path:
    made = Path("peptides")
    made.mkdir()
    for n in (3, 5):
        for form in ("alpha", "extended"):
            shutil.copy(shared(f"data/derived_systems/AceAla{n}LysH_{form}.xyz"), made)
    return made


def test_table_picture_and_structures(cli: Callable, folder: Path) -> None:
    answer = cli("helix", "--folder", folder, "--no-relax", "-o", "series", "--threads", 1)
    assert answer.code == 0, answer.err
    assert "mean per residue between two lengths" in answer.err
    rows = list(csv.DictReader(Path("series.csv").read_text().splitlines()))
    assert [row["n"] for row in rows] == ["3", "5"]
    step = float(rows[1]["difference_kcal_mol"]) - float(rows[0]["difference_kcal_mol"])
    assert float(rows[1]["double_difference_kcal_mol_per_residue"]) == pytest.approx(step / 2)
    assert rows[0]["double_difference_kcal_mol_per_residue"] == ""
    frames = ase.io.read("series.xyz", ":")
    assert [(frame.info["n"], frame.info["form"]) for frame in frames] == [
        (n, form) for n in (3, 5) for form in ("alpha", "extended")
    ]
    assert Path("series.png").read_bytes()[:4] == b"\x89PNG"
    assert "exists already" in cli("helix", "--folder", folder, "--no-relax", "-o", "series").error


def test_json_and_relaxation(cli: Callable, folder: Path) -> None:
    words = ("helix", "--folder", folder, "--steps", 4, "--json", "--threads", 1)
    answer = cli(*words)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["n"] == [3, 5] and found["converged"] == [False, False]
    assert "not converged" in answer.err
    assert all(
        after >= before / 2
        for before, after in zip(found["helical_bonds_before"], found["helical_bonds_after"], strict=True)
    )
    still = json.loads(cli(*words, "--no-relax", "--overwrite").out)
    assert all(a < b for a, b in zip(found["energy_alpha_eV"], still["energy_alpha_eV"], strict=True))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--lengths", "3"), "--lengths"),
        (("--lengths", "three-five"), "--lengths"),
        (("--sequence", "AceAla5Nme"), "{n}"),
        (("--folder", "nowhere"), "no folder"),
        (("--fmax", "0"), "--fmax"),
        (("--folder", "."), "names must be like"),
    ],
)
def test_what_cannot_be_done(cli: Callable, words: tuple[str, ...], said: str) -> None:
    answer = cli("helix", *words)
    assert answer.code == 2
    assert said in answer.error
    assert not list(Path().iterdir())
