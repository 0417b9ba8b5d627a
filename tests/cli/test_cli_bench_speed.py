"""heliodor bench speed: table, files, going on, refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

SHORT = (
    "bench",
    "speed",
    "--model",
    "heliodor-mini",
    "--device",
    "cpu",
    "--threads",
    "1",
    "--steps",
    "3",
    "--kernels",
    "reference",
    "--warmup",
    "1",
)


def test_a_molecule_is_timed_once(cli):
    words = (*SHORT, "--systems", "molecule")
    answer = cli(*words, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    (row,) = found["rows"]
    assert (row["atoms"], row["model"], row["ensemble"], row["threads"]) == (20, "heliodor-mini", "nvt", 1)
    assert 0.0 < row["deviation"] < 1e-4
    assert row["memory_MB"] > 1.0
    assert row["us_per_atom"] == pytest.approx(1e3 * row["ms_per_step"] / 20)
    rates = found["rates"]
    low = max(row["operations"] / rates["operations_per_s"], row["bytes"] / rates["bytes_per_s"])
    assert row["floor_us_per_atom"] == pytest.approx(1e6 * low)
    assert 0.0 < row["floor_fraction"] < 1.0
    assert Path("speed/speed.png").read_bytes()[:4] == b"\x89PNG"
    with Path("speed/speed.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert float(line["ms_per_step"]) == row["ms_per_step"]
    assert json.loads(Path("speed/speed.json").read_text())["rows"][0]["ns_per_day"] == row["ns_per_day"]
    # the same again takes what is there
    answer = cli(*words)
    assert answer.code == 0, answer.err
    assert "(from before)" in answer.err
    assert "µs/atom/step" in answer.out
    assert "maps of atoms" in answer.out


def test_what_no_model_takes_is_said(cli):
    """A model without a long-range cutoff has no periodic box: one sentence, and the rest is timed."""
    answer = cli(*SHORT[:2], "-m", "spookynet-gfn2", *SHORT[4:], "--systems", "water", "--sizes", "192,384")
    assert answer.code == 2
    assert "without a long-range cutoff" in answer.error
    assert "384 atoms" in answer.out


def test_bad_input_is_refused_in_one_line(cli, tmp_path):
    Path("file").write_text("")
    for words, message in (
        (("--systems", "watr"), "did you mean 'water'"),
        (("--systems", ","), "names at least one"),
        (("--sizes", "many"), "numbers of atoms such as 192,1536"),
        (("--sizes", "0"), "numbers of atoms such as 192,1536"),
        (("--ensemble", "nph"), "ensemble must be one of nvt, nve, npt"),
        (("--output", "file"), "is a file"),
        (("--limit", "0"), "positive number of seconds"),
        (("--model", "heliodor-mini"), "given twice"),
        (("--model", "no-such-model"), "no-such-model"),
        (("--long-range-cutoff", "far"), "must be a number of Å"),
    ):
        answer = cli(*SHORT, *words)
        assert answer.code == 2, words
        assert message in answer.error
