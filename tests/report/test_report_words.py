"""Numbers as text, tables as CSV, pieces of HTML."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest

from heliodor.analysis.show import Number, Shown
from heliodor.report.html import embedded, script
from heliodor.report.merge import merged
from heliodor.report.tables import csv_text, file_name, rows_csv
from heliodor.report.words import measured


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.23046, 0.0049, "0.230 ± 0.005"),
        (0.23046, 0.0149, "0.230 ± 0.015"),
        (335.2, 27.3, "335 ± 27"),
        (335.2, 4.2, "335 ± 4"),
        (-1.5, 0.196, "−1.5 ± 0.2"),
        (1.234, None, "1.234"),
        (1.234, 0.0, "1.234"),
        (8.6956521739, 6e-17, "8.696"),
        (0.0, None, "0"),
        (123456789.0, 2_100_000.0, "(1.23 ± 0.02) × 10⁸"),
        (2.3e-9, None, "2.3 × 10⁻⁹"),
        (math.nan, 1.0, "–"),
    ],
)
def test_measured(value, error, text):
    assert measured(value, error) == text


def test_unit_stands_behind():
    assert measured(1.0, 0.1, "Å") == "1.00 ± 0.10 Å"


def test_csv_keeps_every_bit(rng):
    numbers = rng.normal(size=50) * 10.0 ** rng.integers(-30, 30, 50)
    text = csv_text({"x_A": numbers, "word": np.array(['a,"b'] * 50)})
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [float(row["x_A"]) for row in rows] == numbers.tolist()
    assert rows[0]["word"] == 'a,"b'


def test_numbers_that_are_none_are_empty_cells():
    assert csv_text({"x": np.array([1.0, np.nan])}) == 'x\n1.0\n""\n'
    section = merged([Shown("a", "A", numbers=(Number("n", 2.0, None, "K", reference=1.5),))], ["run"])
    assert rows_csv(section.rows, ["run"]) == "name,unit,value,error,reference,note\nn,K,2.0,,1.5,\n"


def test_json_cannot_leave_its_element():
    hostile = {"name": "</script><script>alert(1)</script><!--", "and": "&lt;"}
    text = embedded(hostile)
    assert "<" not in text
    assert json.loads(text) == hostile
    assert "</script" not in script("'</script>'").removesuffix("</script>")


def test_file_names_suit_every_system():
    assert file_name("../a b", "φ/ψ", "") == ".._a_b_x"
    assert "/" not in file_name("a/b")
