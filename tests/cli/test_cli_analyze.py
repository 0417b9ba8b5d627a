"""heliodor analyze: what it writes can be read, and what it is asked wrongly it says in a line."""

import csv
import json
import warnings

import numpy as np
import pytest

from heliodor.analysis import catalogue as known
from heliodor.analysis.show import Analysis, Axis, Curve, Number, Panel, Shown
from heliodor.cli import main
from heliodor.errors import InputError
from trajectories import waters, write_frames


@pytest.fixture
def run(tmp_path, rng):
    atoms = waters(3)
    steps = rng.normal(0, 0.02, (12, len(atoms), 3))
    return write_frames(tmp_path / "water.h5", atoms, atoms.positions + np.cumsum(steps, axis=0), velocities=steps)


def test_a_named_analysis_with_an_option(run, tmp_path, capsys):
    assert main(["analyze", str(run), "rdf", "--set", "reach=4", "--output", str(tmp_path / "out"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (entry,) = answer["analyses"]
    assert entry["name"] == "rdf"
    assert answer["frames"] == 12
    files = sorted((tmp_path / "out").iterdir())
    assert any(path.suffix == ".png" for path in files)
    tables = [path for path in files if path.suffix == ".csv" and "numbers" not in path.name]
    with tables[0].open() as file:
        rows = list(csv.reader(file))
    assert 3.5 < float(rows[-1][0]) <= 4.0
    # again, it would destroy what is there
    assert main(["analyze", str(run), "rdf", "--output", str(tmp_path / "out")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_all_that_fit(run, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(["analyze", str(run), "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "27 molecules" in printed.out
    for name in ("rdf", "density"):
        assert f"\n{name} " in printed.out or f"{name}:" in printed.err, name
    assert "ramachandran" not in printed.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rdg"], "there is no analysis 'rdg'; did you mean 'rdf'"),
        (["rdf", "--set", "reech=3"], "rdf has no option 'reech'; did you mean 'reach'"),
        (["rdf", "--set", "reach"], "write an option as name=value"),
        (["rdf", "--set", "reach=far"], "reach cannot be 'far'"),
        (["--set", "reach=3"], "belongs to one analysis: name it"),
        (["ramachandran"], "ramachandran cannot be done"),
        (["rdf", "--topology", "none.pdb"], "there is no file none.pdb"),
    ],
)
def test_bad_wishes(run, arguments, words, capsys):
    assert main(["analyze", str(run), *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert words in error[-1]
    assert not list(run.parent.glob("*.png"))


def test_without_a_file_and_with_a_broken_one(tmp_path, capsys):
    assert main(["analyze"]) == 2
    assert "give a TRAJECTORY" in capsys.readouterr().err
    (tmp_path / "a.h5").write_bytes(b"nonsense")
    assert main(["analyze", str(tmp_path / "a.h5")]) == 2
    assert "cannot be read as HDF5" in capsys.readouterr().err


def test_every_analysis_is_listed(capsys):
    assert main(["analyze", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == list(known.catalogue())
    assert len(listed) >= 20
    assert all(entry["about"] for entry in listed)
    assert main(["analyze", "--list"]) == 0
    assert "diffusion" in capsys.readouterr().out


def failing(trajectory, *, progress=None, processes=1):
    raise InputError("it will not")


def drawing(trajectory, *, progress=None, processes=1, height: float = 1.0, words: tuple[str, ...] = ()):
    x = np.arange(3.0)
    curve = Curve("a", x, height * x, low=x - 1, high=x + 1)
    panel = Panel("p", Axis("time", "ps"), Axis("height", "Å"), (curve,))
    number = Number("height", height, 0.1, "Å", note=",".join(words))
    return Shown(
        "drawing", "Drawing", (panel,), (number,), ("as told",), {"t": {"x_ps": x, "name, of": ["a", "b,c", ""]}}
    )


def test_one_that_fails_does_not_stop_the_others(run, tmp_path, capsys, monkeypatch):
    both = {
        "failing": Analysis("failing", "Failing", "fails", lambda t: None, failing),
        "drawing": Analysis("drawing", "Drawing", "draws", lambda t: None, drawing),
    }
    monkeypatch.setattr(known, "catalogue", lambda: both)
    assert main(["analyze", str(run), "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "note: failing: it will not" in printed.err
    assert "height: 1.00 ± 0.10 Å" in printed.out
    with (tmp_path / "water-drawing-t.csv").open() as file:
        assert list(csv.reader(file)) == [["x_ps", "name, of"], ["0", "a"], ["1", "b,c"], ["2", ""]]
    assert main(["analyze", str(run), "failing"]) == 2
    arguments = ["drawing", "--set", "height=2.5", "--set", "words=x,y", "--overwrite", "--output", str(tmp_path)]
    assert main(["analyze", str(run), *arguments]) == 0
    assert "height: 2.50 ± 0.10 Å (x,y)" in capsys.readouterr().out
