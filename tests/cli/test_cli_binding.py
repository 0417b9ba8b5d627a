"""heliodor binding: table, picture, differences, refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import ase
import pytest
from ase.build import molecule

SHORT = ("--model", "so3lr", "--device", "cpu", "--range", "-0.2:3", "--step", 0.4)


def dimer(distance: float) -> ase.Atoms:
    """Water above water, oxygen to hydrogen."""
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:] = -pair.positions[3:] + (0.0, 0.76, 2.2 + distance)
    return pair


def test_table_picture_and_difference(cli, write):
    files = [write("wild.xyz", dimer(0.0)), write("variant.xyz", dimer(0.3))]
    answer = cli("binding", *files, *SHORT)
    assert answer.code == 0, answer.err
    assert "fragments    H2O (0 e) and H2O (0 e)" in answer.out
    assert "variant minus wild" in answer.out
    assert "terms        so3krates" in answer.out
    with Path("binding.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["complex"] for row in rows} == {"wild", "variant"}
    assert Path("binding.png").read_bytes()[:4] == b"\x89PNG"
    again = cli("binding", files[0], *SHORT)
    assert again.code == 2
    assert "binding.csv" in again.error
    answer = cli("binding", files[0], *SHORT, "--overwrite", "--json", "--fragments", "0-2", "--axis", "0,0,1")
    found = json.loads(answer.out)["complexes"][0]
    assert found["axis"] == [0.0, 0.0, 1.0]
    assert found["lowest_kcal_per_mol"] == pytest.approx(found["lowest_eV"] * 23.0605, rel=1e-5)
    assert found["displacement_A"] == [-0.2, 0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.0]


def test_charged_fragments(cli, write):
    ammonium = ase.Atoms(
        "NH4", [[0, 0, 0], [0.59, 0.59, 0.59], [-0.59, -0.59, 0.59], [-0.59, 0.59, -0.59], [0.59, -0.59, -0.59]]
    )
    pair = ammonium + molecule("H2O")
    pair.positions[5:] += (0.0, 0.0, 3.5)
    answer = cli("binding", write("ion.xyz", pair), *SHORT, "--fragment-charges", "1,0", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)["complexes"][0]
    assert found["fragment_charges_e"] == [1.0, 0.0]
    assert abs(found["interaction_eV"][-1]) < 1.0


def test_bad_input_is_refused_in_one_line(cli, write):
    pair = write("pair.xyz", dimer(0.0))
    water = write("water.xyz", molecule("H2O"))
    box = dimer(0.0)
    box.set_cell([9.0, 9.0, 9.0])
    box.pbc = True
    boxed = write("box.extxyz", box)
    before = sorted(Path().iterdir())
    for words, message in (
        ((water,), "water.xyz: the structure is 1 molecule: H2O (atoms 0-2), not two molecules"),
        ((boxed,), "a periodic structure cannot be pulled apart"),
        ((pair, "--fragments", "0-99"), "atoms are counted from 0 to 5"),
        ((pair, "--fragments", "0-2", "--fragments", "3-5"), "--fragments must be given once or once for each"),
        ((pair, "--fragment-charges", "1"), "--fragment-charges must be Q1,Q2"),
        ((pair, "--fragment-charges", "1,0"), "unpaired"),
        ((pair, "--range", "1:5"), "must range from 0 or less"),
        ((pair, "--range", "x"), "--range must be LOW:HIGH"),
        ((pair, "--step", -1), "the step must be positive"),
        ((pair, "--axis", "1,2"), "--axis must be three numbers"),
        ((pair, "--axis", "0,0,0"), "no length"),
        ((pair, "--protocol", "free"), "protocol must be one of"),
        ((pair, "--output", "binding.txt"), "end the name binding.txt in .csv"),
        (("missing.xyz",), "there is no file missing.xyz"),
    ):
        answer = cli("binding", *words, "--model", "so3lr", "--device", "cpu")
        assert answer.code == 2, words
        assert message in answer.error
        assert sorted(Path().iterdir()) == before
