"""heliodor report: the page, what is printed, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase.build import molecule


@pytest.fixture
def trajectory() -> Path:
    path = Path("drop.xyz")
    images = []
    for k in range(12):
        atoms = molecule("CH3OH")
        atoms.rattle(0.02, seed=k)
        atoms.info["time_fs"] = 5.0 * k
        images.append(atoms)
    ase.io.write(path, images, format="extxyz")
    return path


def test_page_beside_the_trajectory(cli, trajectory):
    answer = cli("report", trajectory, "--only", "size", "--csv", "tables")
    assert answer.code == 0, answer.err
    assert "written      drop.html" in answer.out
    assert any(line.startswith("size ") for line in answer.err.splitlines())
    assert "No log (.csv)".lower() in Path("drop.html").read_text().lower()
    assert any(Path("tables").iterdir())
    again = cli("report", trajectory)
    assert again.code == 2
    assert "drop.html" in again.error
    assert "overwrite" in again.error


def test_json_and_comparison(cli, trajectory):
    Path("other.xyz").write_bytes(trajectory.read_bytes())
    answer = cli("report", trajectory, "--compare", "other.xyz", "--only", "size", "-o", "both", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["report"] == "both.html"
    assert found["analyses"] == ["size"]
    assert found["checks"].keys() == {"drop", "other"}
    assert Path("both.html").stat().st_size == found["bytes"]


def test_what_was_asked_for_and_does_not_fit_is_told(cli, trajectory):
    answer = cli("report", trajectory, "--only", "size,ramachandran")
    assert answer.code == 0, answer.err
    assert "not done     ramachandran: " in answer.out


def test_single_frame(cli):
    ase.io.write("one.xyz", molecule("H2O"), format="extxyz")
    answer = cli("report", "one.xyz")
    assert answer.code == 0, answer.err
    assert "look at      Frames: a single frame" in answer.out


def test_cut_off_file(cli, trajectory):
    text = trajectory.read_text()
    trajectory.write_text(text[: int(0.9 * len(text))])
    answer = cli("report", trajectory, "--only", "size")
    assert answer.code == 0, answer.err
    assert "look at      File: the last frame is cut off" in answer.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("report", "none.h5"), "there is no file none.h5"),
        (("report", "drop.dcd"), "--topology"),
        (("report", "drop.xyz", "--only", "sze"), "did you mean 'size'"),
        (("report", "drop.xyz", "--compare", "none.h5"), "there is no file none.h5"),
        (("report", "drop.xyz", "-o", "nowhere/r.html"), "nowhere"),
        (("report", "drop.h5"), "drop.h5"),
    ],
)
def test_bad_input_is_one_line(cli, trajectory, words, told):
    Path("drop.dcd").write_bytes(b"CORD")
    with h5py.File("drop.h5", "w") as file:
        file["x"] = np.zeros(3)
    answer = cli(*words)
    assert answer.code == 2
    assert told in answer.error
    assert not list(Path().glob("**/*.html"))
