"""write_report: what is done, what is told, what is refused."""

from __future__ import annotations

import builtins
import csv
import io
import json
import re
import time
from pathlib import Path

import ase
import numpy as np
import pytest

from heliodor.errors import InputError, MissingExtraError
from heliodor.report import write_report
from heliodor.report.write import run_names
from heliodor.topology import topology_of
from heliodor.trajectory.open import open_trajectory
from heliodor.trajectory.trajectory import Trajectory


def data_of(path: Path) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1])


@pytest.mark.usefixtures("fake")
def test_failures_are_told_and_the_rest_goes_on(run, tmp_path):
    told = []
    written = write_report(run(), tmp_path / "r.html", tell=lambda what, how: told.append((what, how)))
    assert written.analyses == ("every",)
    misfits = written.failed.pop("One that cannot be drawn")
    assert misfits.startswith("what it hands over cannot be drawn: IndexError")
    assert written.failed == {
        "One that fails": "there are too few frames for that",
        "One with a defect": "ZeroDivisionError: oh",
    }
    assert written.left_out == {"unfit": "it has no wings"}
    assert ("breaks", "failed: ZeroDivisionError: oh") in told
    text = written.path.read_text()
    assert written.bytes == written.path.stat().st_size
    assert "there are too few frames for that" in text
    for word in ("some-model", "ab" * 32, "Someone, 2026", "heliodor md ethanol.xyz", "NVT at 300 K", "C₂H₆O"):
        assert word in text
    assert "A note with &lt;markup&gt; &amp; signs." in text
    assert "http://" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)


@pytest.mark.usefixtures("fake")
def test_only_and_without(run, tmp_path):
    path = run()
    assert write_report(path, tmp_path / "a.html", only=["asked"]).analyses == ("asked",)
    assert write_report(path, tmp_path / "b.html", without=["every", "breaks", "fails", "misfits"]).analyses == ()
    with pytest.raises(InputError, match="no analysis 'evry'; did you mean 'every'"):
        write_report(path, tmp_path / "c.html", only=["evry"])
    assert not (tmp_path / "c.html").exists()


@pytest.mark.usefixtures("fake")
def test_existing_files_are_kept(run, tmp_path):
    page = tmp_path / "r.html"
    page.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        write_report(run(), page)
    assert page.read_text() == "mine"
    write_report(run(), page, overwrite=True)
    with pytest.raises(InputError, match="at least one"):
        write_report([], tmp_path / "none.html")


@pytest.mark.usefixtures("fake")
def test_names_from_files_are_no_markup(run, tmp_path):
    path = run("<img src=x onerror=alert(1)>")
    record = json.loads(path.with_suffix(".json").read_text())
    record["command"] = "</script><script>alert(2)</script>"
    path.with_suffix(".json").write_text(json.dumps(record))
    text = write_report(path, tmp_path / "r.html").path.read_text()
    assert "<img" not in text.replace("'<img", "").replace('"<img', "").split("<script>")[0]
    assert "alert(2)</script>" not in text


@pytest.mark.usefixtures("fake")
def test_tables_as_files(run, tmp_path):
    written = write_report([run("one"), run("two", temperature=350.0)], tmp_path / "r.html", csv=tmp_path / "tables")
    names = {path.name for path in written.tables}
    assert {"one_curve.csv", "two_curve.csv", "every_numbers.csv", "one_temperature.csv"} <= names
    rows = list(csv.DictReader(io.StringIO((tmp_path / "tables" / "one_curve.csv").read_text())))
    assert [float(row["x_A"]) for row in rows] == np.linspace(0.1, 10.0, 50).tolist()
    with pytest.raises(InputError, match="exists"):
        write_report(run("one"), tmp_path / "s.html", only=["every"], csv=tmp_path / "tables")


@pytest.mark.usefixtures("fake")
def test_comparison_shows_settings_that_differ(run, tmp_path):
    text = write_report([run("one"), run("two", temperature=350.0)], tmp_path / "r.html").path.read_text()
    differ = text.partition("Settings that differ")[2].partition("</table>")[0]
    assert "350 K" in differ
    assert "friction" not in differ
    figures = {figure["title"]: figure for figure in data_of(tmp_path / "r.html")["figures"]}
    assert [c["name"] for c in figures["lines"]["curves"]] == ["one · with band", "two · with band", "measured"]
    assert {"letters, one", "letters, two"} <= figures.keys()


def test_runs_of_one_name_are_told_apart():
    assert run_names([Path("a/run.h5"), Path("b/run.h5")]) == ["a/run", "b/run"]
    assert run_names([Path("a/run.h5"), Path("a/run.xyz")]) == ["a/run (1)", "a/run (2)"]


@pytest.mark.usefixtures("fake")
def test_without_plotly_the_extra_is_named(run, tmp_path, monkeypatch):
    real = builtins.__import__

    def none(name, *rest):
        if name.startswith("plotly"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", none)
    with pytest.raises(MissingExtraError, match=r"heliodor\[report\]"):
        write_report(run(), tmp_path / "r.html")


@pytest.mark.usefixtures("fake")
def test_a_protein_of_a_thousand_frames_stays_small(run, tmp_path, rng):
    """642 atoms as in crambin, thermal noise of 0.3 Å in every frame: what does not compress."""
    first = rng.uniform(-12.0, 12.0, (642, 3))

    class Source:
        def read(self, frames, atoms, wanted):
            noise = np.stack([np.random.default_rng(int(k)).normal(scale=0.3, size=(642, 3)) for k in frames])
            positions = first + noise
            return {"positions": positions if atoms is None else positions[:, atoms]}

    small = open_trajectory(run())
    atoms = ase.Atoms("C642", positions=40.0 * first)
    protein = Trajectory(
        path=small.path,
        topology=topology_of(atoms),
        masses=atoms.get_masses(),
        pbc=np.zeros(3, dtype=bool),
        time=np.arange(1000) * 100.0,
        holds=frozenset(),
        source=Source(),
    )
    begun = time.perf_counter()
    written = write_report(protein, tmp_path / "r.html", only=["every"])
    assert time.perf_counter() - begun < 60.0
    assert written.bytes < 15e6
    assert data_of(written.path)["films"][0]["frames"] == 1000
