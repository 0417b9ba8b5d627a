"""heliodor models: licences are shown and asked for, files imported, known answers recomputed."""

from __future__ import annotations

import io
import json
import pickle

import pytest

from heliodor import registry
from heliodor.errors import DownloadError


@pytest.fixture
def asked(monkeypatch):
    """What is accepted when something is fetched; nothing leaves this machine."""
    calls = []

    def fetch_official(entry, *, progress=True):
        calls.append(entry.name)
        raise DownloadError("this test has no server")

    monkeypatch.setattr("heliodor.fetch.fetch_official", fetch_official)
    return calls


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_list_names_restricted_licences(cli):
    listed = {row["name"]: row for row in json.loads(cli("models", "list", "--json").out)}
    assert listed["mace-off23-small"]["restricted"] is True
    assert listed["so3lr"]["restricted"] is False
    text = cli("models", "list").out
    assert "Academic Software License (ASL), restricts use" in text
    assert "licence MIT\n" in text


def test_info_of_a_model_that_is_not_here(cli):
    card = json.loads(cli("models", "info", "mace-off24-medium", "--json").out)
    assert card["where"] == "not here"
    assert card["restricted"] is True
    assert "MACE-OFF24_medium.model" in card["official"]["url"]


def test_fetch_shows_the_licence_and_stops(cli, asked):
    result = cli("models", "fetch", "mace-off23-small")
    assert result.code == 2
    assert "https://github.com/gabor1/ASL" in result.err
    assert "--accept-licence" in result.err
    assert asked == []


def test_fetch_with_the_licence_accepted(cli, asked):
    result = cli("models", "fetch", "mace-off23-small", "--accept-licence")
    assert result.code == 2
    assert result.err.index("https://github.com/gabor1/ASL") < result.err.index("this test has no server")
    assert asked == ["mace-off23-small"]


@pytest.mark.parametrize(("answer", "accepted"), [("yes\n", True), ("YES\n", True), ("y\n", False), ("", False)])
def test_fetch_asks_on_a_terminal(answer, accepted, cli, asked, monkeypatch):
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert cli("models", "fetch", "mace-off23-large").code == 2
    assert asked == (["mace-off23-large"] if accepted else [])


def test_verify(cli):
    result = cli("models", "verify", "heliodor-mini")
    assert result.code == 0
    assert result.out.splitlines()[-1] == "reproduced"
    assert "as shipped with heliodor" in result.out
    assert "tolerance" in result.out
    data = json.loads(cli("models", "verify", "heliodor-mini", "--json").out)
    assert data["passed"] is True
    assert all(answer["passed"] and answer["source"] for answer in data["answers"])


def test_verify_of_something_else(cli):
    path = registry.find_model("heliodor-mini").path
    result = cli("models", "verify", path, "--as", "so3lr")
    assert result.code == 1
    assert "FAILED" in result.out
    assert result.out.splitlines()[-1] == "NOT reproduced"
    absent = cli("models", "verify", "mace-off23-small")
    assert absent.code == 2
    assert "models fetch mace-off23-small" in absent.error


def test_to_lammps_writes_what_lammps_reads(cli, tmp_path):
    path = tmp_path / "model.mliap"
    told = cli(
        "models", "to-lammps", "heliodor-mini", "-o", str(path), "--charge", "-2", "--long-range-cutoff", "9"
    ).out
    assert f"pair_style mliap unified {path} 0" in told
    unified = pickle.loads(path.read_bytes())
    assert (unified.charge, unified.rcutfac) == (-2.0, 4.5)
    assert "H" in unified.element_types
    again = cli("models", "to-lammps", "heliodor-mini", "-o", str(path))
    assert (again.code, "--overwrite" in again.err) == (2, True)
    broken = cli("models", "to-lammps", "heliodor-mini", "-o", str(tmp_path / "x.pt"), "--charge", "0.5")
    assert (broken.code, (tmp_path / "x.pt").exists()) == (2, False)
