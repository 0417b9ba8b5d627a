"""heliodor select: what it writes, going on, refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import typer
from ase.build import molecule

import heliodor.cli
from heliodor.cli import select


@pytest.fixture(autouse=True, scope="module")
def registered():
    """Until the command line lists it itself."""
    if "select" not in {command.name for command in heliodor.cli.app.registered_commands}:
        select.register(heliodor.cli.app)
    assert isinstance(heliodor.cli.app, typer.Typer)


@pytest.fixture
def run() -> Path:
    """Three conformations of ethanol's atoms, shaken, 10 of each in turn, names kept."""
    rng = np.random.default_rng(0)
    start = molecule("CH3CH2OH")
    start.set_array("atom_name", np.array([f"A{k}" for k in range(9)]))
    start.set_array("residue_name", np.array(["ETH"] * 9))
    start.info["charge"] = 0
    frames = []
    for k in range(30):
        atoms = start.copy()
        atoms.positions[2] += ((0, 0, 0), (0.3, 0.3, 0.2), (-0.3, 0.1, -0.3))[k % 3]
        atoms.positions += rng.normal(scale=0.01, size=(9, 3)) + rng.normal(scale=20.0, size=3)
        frames.append(atoms)
    ase.io.write("run.extxyz", frames)
    return Path("run.extxyz")


SMALL = ("--preset", "s4", "--thin", "none", "--preference=-0.02", "--farthest", 0, "--stride", 1)


def test_representatives_table_and_picture(cli, run):
    answer = cli("select", run, *SMALL, "--output", "few.extxyz")
    assert answer.code == 0, answer.err
    assert "30 frames of C2H6O (9 atoms)" in answer.out
    assert "3, of 10 to 10 structures" in answer.out
    few = ase.io.read("few.extxyz", index=":")
    assert sorted(atoms.info["frame"] % 3 for atoms in few) == [0, 1, 2]
    whole = ase.io.read(run, index=":")
    for atoms in few:
        assert atoms.info["source"] == "run.extxyz"
        assert atoms.info["cluster_size"] == 10
        assert list(atoms.arrays["atom_name"]) == [f"A{k}" for k in range(9)]
        np.testing.assert_allclose(atoms.get_all_distances(), whole[atoms.info["frame"]].get_all_distances(), atol=1e-5)
    with Path("few.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    assert all(int(row["representative"]) % 3 == int(row["frame"]) % 3 for row in rows)
    assert sum(int(row["chosen"]) for row in rows) == 3
    assert Path("few.png").read_bytes()[:4] == b"\x89PNG"


def test_kept_distances_and_json(cli, run):
    words = ("select", run, run, *SMALL, "--distances", "d.npy", "--json", "--seed", 3)
    first = json.loads(cli(*words, "--scan").out)
    assert np.load("d.npy").shape == (60, 60)
    again = json.loads(cli(*words, "--overwrite").out)
    assert first == again
    assert first["counts"]["clusters"] == 3
    assert sum(first["cluster_size"]) == 60


def test_sets(cli, write):
    frames = []
    for name in ("H2O", "NH3", "CH4"):
        for k in range(4):
            atoms = molecule(name)
            atoms.rattle(0.01, seed=k)
            frames.append(atoms)
    ase.io.write("set.extxyz", frames)
    answer = cli("select", "set.extxyz", "--preset", "groups", "--output", "g.extxyz")
    assert answer.code == 0, answer.err
    assert "3 groups" in answer.out
    assert len(ase.io.read("g.extxyz", index=":")) == 3
    answer = cli(
        "select", "set.extxyz", "--preset", "mixed", "--count", 3, "--model", "heliodor-mini", "-o", "m.extxyz"
    )
    assert answer.code == 0, answer.err
    assert {len(atoms) for atoms in ase.io.read("m.extxyz", index=":")} == {3, 4, 5}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--preset", "s9"), "there is no preset"),
        (("--preference", "5"), "0 or below"),
        (("--preference", "low"), "a number of Å² or median"),
        (("--output", "few.pdb"), "extended xyz"),
        (("--model", "heliodor-mini"), "belongs to the preset mixed"),
        (("--preset", "groups", "--scan"), "--scan belongs"),
        (("--scratch", "nowhere"), "no folder"),
        (("--damping", "0.2"), "damping"),
        (("--atoms", "resname XYZ"), "leaves no atom"),
        (("--distances", "d.h5"), "NumPy file"),
    ],
)
def test_refusals(cli, run, words, message):
    answer = cli("select", run, *words)
    assert answer.code == 2
    assert message in answer.error


def test_different_molecules_and_existing_files(cli, run, write):
    other = write("other.extxyz", molecule("CH3OH"))
    answer = cli("select", run, other)
    assert answer.code == 2
    assert "conformations are of one molecule" in answer.error
    assert cli("select", "absent.h5").code == 2
    Path("selected.csv").write_text("mine")
    assert "selected.csv exists" in cli("select", run).error
    assert Path("selected.csv").read_text() == "mine"
