"""heliodor vib: what it prints and writes, what it says of structures that are no minimum, what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from PIL import Image

import heliodor.cli.vib
import heliodor.hessian
from heliodor.analysis.spectrum import FRAMES

MINI = ("--model", "heliodor-mini", "--device", "cpu")


def test_water(cli, water):
    answer = cli("vib", water, "--model", "so3lr", "--device", "cpu", "--symmetry-number", 2)
    assert answer.code == 0, answer.err
    for piece in (
        "3 atoms, H2O, charge 0",
        "exact Hessian in float64",
        "(asked for: 0.0001)",
        "atoms moved by up to 0.0",
        "red. mass/amu  IR/(km/mol)",
        "     1     1633.9          1.083        82.8",
        "zero point   +0.58648 eV = +56.59 kJ/mol = +13.52 kcal/mol",
        "298.15 K, 1 bar; ideal gas, rigid rotor, harmonic oscillators, symmetry number 2",
        "S            1.95525 meV/K = 188.65 J/(mol K)",
        "written      vib.csv, vib.png, vib.xyz",
    ):
        assert piece in answer.out
    assert "note" not in answer.err
    with Path("vib.csv").open() as file:
        rows = list(csv.DictReader(file))
    frequencies = [float(row["frequency_per_cm"]) for row in rows]
    assert frequencies == pytest.approx([1634, 3855, 3971], abs=1)
    frames = ase.io.read("vib.xyz", ":")
    assert len(frames) == 3 * FRAMES
    assert frames[FRAMES].info["mode"] == 2
    assert frames[FRAMES].info["frequency_per_cm"] == pytest.approx(frequencies[1], abs=1e-3)
    np.testing.assert_allclose(frames[0].positions, frames[FRAMES].positions)
    with Image.open("vib.png") as picture:
        assert min(picture.size) > 400
    assert sorted(path.name for path in Path().iterdir()) == ["vib.csv", "vib.png", "vib.xyz", "water.xyz"]


def test_json_and_overwriting(cli, water):
    first = cli("vib", water, *MINI, "--output", "one.png", "--temperature", 350, "--pressure", 2, "--json")
    assert first.code == 0, first.err
    result = json.loads(first.out)
    assert "relaxation" in first.err
    assert result["files"] == {"table": "one.csv", "picture": "one.png", "animation": "one.xyz"}
    assert [mode["mode"] for mode in result["modes"]] == [1, 2, 3]
    assert result["kind"] == "nonlinear"
    assert result["imaginary_modes"] == 0
    assert result["relaxation_steps"] > 0
    assert result["fmax_eV_per_A"] <= 1e-4
    thermo = result["thermochemistry"]
    assert (thermo["temperature_K"], thermo["pressure_bar"], thermo["model"]) == (350.0, 2.0, "ideal gas")
    expected = thermo["enthalpy_eV"] - 350.0 * thermo["entropy_eV_per_K"]
    assert thermo["gibbs_energy_eV"] == pytest.approx(expected)
    again = cli("vib", water, *MINI, "--output", "one")
    assert again.code == 2
    assert "one.csv exists already" in again.error
    # what the first run relaxed needs no relaxation, and is not overwritten by its own animation
    resting = cli("vib", "one.xyz", *MINI, "--frame", 0, "--output", "two", "--fmax", 2e-4)
    assert "not needed, the largest force is" in resting.out
    own = cli("vib", "one.xyz", *MINI, "--frame", 0, "--output", "one", "--overwrite")
    assert "one.xyz is the structure itself" in own.error


def test_a_structure_that_is_no_minimum(cli, write):
    flat = molecule("NH3")
    flat.positions[:, 2] = 0.0
    answer = cli("vib", write("flat.xyz", flat), *MINI)
    assert answer.code == 0, answer.err
    assert "     1     913." in answer.out
    assert "i " in answer.out
    assert "1 mode has an imaginary frequency (913." in answer.err
    assert "not a minimum" in answer.err
    assert "heliodor opt vib.xyz --frame 4" in answer.err
    down = cli("opt", "vib.xyz", *MINI, "--dtype", "float64", "--frame", 4, "--fmax", 0.001)
    assert down.code == 0, down.err
    pyramid = cli("vib", "opt.xyz", *MINI, "--output", "pyramid", "--json")
    assert json.loads(pyramid.out)["imaginary_modes"] == 0


def test_without_relaxation(cli, water):
    answer = cli("vib", water, *MINI, "--no-relax")
    assert answer.code == 0, answer.err
    assert "(not at rest)" in answer.out
    assert "was left so (--no-relax)" in answer.err
    assert "translations and rotations came out at up to" in answer.err
    np.testing.assert_allclose(ase.io.read("vib.xyz", 0).positions, ase.io.read(water).positions, atol=1e-7)
    enough = cli("vib", water, *MINI, "--fmax", 5, "--output", "loose")
    assert "not needed, the largest force is" in enough.out


def test_some_atoms(cli, write):
    path = write("methanol.xyz", molecule("CH3OH"))
    answer = cli("vib", path, *MINI, "--atoms", "O 3", "--fmax", 0.01, "--json")
    assert answer.code == 0, answer.err
    assert "2 atoms vibrate, 4 are frozen" in answer.err
    result = json.loads(answer.out)
    assert result["moving_atoms"] == [1, 3]
    assert result["kind"] == "partial"
    assert len(result["modes"]) == 6
    assert result["symmetry_number"] is None
    moved = ase.io.read("vib.xyz", ":")[4].positions - ase.io.read(path).positions
    assert (np.abs(np.delete(moved, [1, 3], axis=0)) < 1e-7).all()


def test_a_periodic_structure(cli, write):
    atoms = molecule("H2O")
    atoms.set_cell([5.0, 5.0, 5.0])
    atoms.pbc = True
    answer = cli("vib", write("box.extxyz", atoms), *MINI, "--long-range-cutoff", 5, "--fmax", 0.01)
    assert answer.code == 0, answer.err
    assert "IR" not in answer.out
    assert "harmonic oscillators only" in answer.out
    assert ", cell fixed" in answer.out
    assert Path("vib.png").exists()


def test_interrupted_in_the_middle_nothing_is_left(cli, water, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(heliodor.hessian, "_rows", stopped)
    answer = cli("vib", water, *MINI)
    assert answer.code == 130
    assert [path.name for path in Path().iterdir()] == ["water.xyz"]


def test_bad_input_is_refused_in_one_line(cli, water, write, monkeypatch):
    write("atom.xyz", molecule("O"))
    for words, message in (
        ((water, "--fmax", 0), "--fmax must be a positive number of eV/Å"),
        ((water, "--temperature", -3), "--temperature must be a positive number of K"),
        ((water, "--pressure", "inf"), "--pressure must be a positive number of bar"),
        ((water, "--symmetry-number", 0), "--symmetry-number"),
        ((water, "--atoms", "7"), "counted from 0 to 2"),
        ((water, "--output", "nowhere/x"), "there is no folder"),
        ((water, "--output", "water"), "water.xyz exists already"),
        ((water, "--output", "water.xyz", "--overwrite"), "is the structure itself"),
        (("atom.xyz",), "has no vibrations"),
        ((water, "--charge", 1), "unpaired"),
        ((water, "--dtype", "float16"), "dtype must be"),
    ):
        answer = cli("vib", *words, *MINI)
        assert answer.code == 2, words
        assert message in answer.error
        assert sorted(path.name for path in Path().iterdir()) == ["atom.xyz", "water.xyz"]
    monkeypatch.setattr(heliodor.cli.vib, "STEPS", 2)
    tight = cli("vib", water, *MINI)
    assert tight.code == 1
    assert "in 2 steps and not to 0.0001: relax it with 'heliodor opt' first" in tight.error
    assert not Path("vib.csv").exists()
