"""heliodor bench accuracy: tables, pictures, going on, a page, refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

SET = Path(__file__).parents[1] / "data" / "bench" / "S66x8_part.json"
SHORT = ("bench", "accuracy", "--model", "heliodor-mini", "--device", "cpu", "--sets", SET)


def test_a_set_of_ones_own(cli):
    answer = cli(*SHORT, "--json")
    assert answer.code == 0, answer.err
    (found,) = json.loads(answer.out)
    assert found["reference_level"] == "CCSD(T)/CBS, as revised by Brauer et al. 2016"
    assert found["count"] == found["rows_in_set"] == 16
    assert found["protocols"] == {"fragments": 16}
    with Path("accuracy/accuracy.csv").open() as file:
        rows = list(csv.DictReader(file))
    errors = [float(row["value"]) - float(row["reference"]) for row in rows]
    assert found["mae"] == pytest.approx(sum(map(abs, errors)) / 16, abs=1e-5)
    assert found["mean"] == pytest.approx(sum(errors) / 16, abs=1e-5)
    for name in ("errors", "s66x8-part"):
        assert Path(f"accuracy/{name}.png").read_bytes()[:4] == b"\x89PNG"
    # the same again takes what is there, and a second model goes beside it
    kept = sorted(Path("accuracy/rows").iterdir())
    page = Path("page.md")
    page.write_text("<!-- begin accuracy -->\n<!-- end accuracy -->\n")
    answer = cli(*SHORT, "--model", "so3lr", "--page", page)
    assert answer.code == 0, answer.err
    assert set(kept) < set(Path("accuracy/rows").iterdir())
    assert f"heliodor-mini: MAE {found['mae']:.2f}" in answer.out
    assert Path("accuracy/accuracy.md").read_text() in page.read_text()
    assert "| set | n | heliodor-mini | so3lr |" in page.read_text()


def test_quick_and_list(cli):
    answer = cli(*SHORT, "--quick", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)[0]["count"] == 16
    answer = cli("bench", "accuracy", "--list", "--sets", SET)
    assert answer.code == 0
    assert "16 rows" in answer.out


def test_sets_are_listed_without_their_data(cli, monkeypatch, tmp_path):
    monkeypatch.delenv("HELIODOR_SHARED", raising=False)
    monkeypatch.chdir(tmp_path)
    answer = cli("bench", "accuracy", "--list")
    assert answer.code == 0
    assert "66 dimers at 8 distances; CCSD(T)/CBS" in answer.out
    assert "no reference data: give their folder" in answer.err
    listed = json.loads(cli("bench", "accuracy", "--list", "--json").out)
    assert {"s66x8", "x23", "biaryls", "sapt10k", "aspirin-rmd17"} <= {one["set"] for one in listed}
    answer = cli("bench", "accuracy", "--list", "--sets", "s66x8")
    assert answer.code == 2


def test_bad_input_is_refused_in_one_line(cli, tmp_path):
    for words, message in (
        (("--sets", "s66", "--data", "nowhere"), "there is no folder nowhere"),
        (("--sets", "s66x9", "--data", tmp_path), "did you mean 's66x8'"),
        (("--sets", "mine.json"), "mine.json: No such file"),
        (("--sets", SET, "--model", "so3lr", "--model", "so3lr"), "given twice"),
        (("--sets", SET, "--output", SET), "is a file"),
        (("--sets", SET, "--protocol", "other"), "protocol must be one of"),
    ):
        answer = cli("bench", "accuracy", *words)
        assert answer.code == 2
        assert message in answer.error
    Path("bad.json").write_text("[]")
    assert "no list 'reactions'" in cli("bench", "accuracy", "--sets", "bad.json").error
