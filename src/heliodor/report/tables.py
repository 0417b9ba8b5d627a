"""Tables as CSV: numbers at full precision, units in the names of columns."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from heliodor.analysis.show import Shown
from heliodor.report.merge import Row

Table = Mapping[str, np.ndarray]


def csv_text(table: Table) -> str:
    """Columns under their names; empty where there is no number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.keys())
    columns = [[_cell(value) for value in np.asarray(column).tolist()] for column in table.values()]
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue()


def rows_csv(rows: Sequence[Row], runs: Sequence[str]) -> str:
    """The numbers of a section: value and error of each run, and the reference."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    several = len(runs) > 1
    heads = [f"{word} {run}" if several else word for run in runs for word in ("value", "error")]
    writer.writerow(["name", "unit", *heads, "reference", "note"])
    for row in rows:
        cells: list[object] = []
        for number in row.numbers:
            cells += ["", ""] if number is None else [_cell(number.value), _cell(number.error)]
        writer.writerow([row.name, row.unit, *cells, " ".join(str(_cell(x)) for x in row.references), row.note])
    return out.getvalue()


def tables_of(shown: Shown) -> dict[str, str]:
    """CSV text by table name; a table whose columns differ in length is left out, for it is none."""
    found = {}
    for name, table in shown.tables.items():
        lengths = {len(np.asarray(column)) for column in table.values()}
        if len(lengths) == 1:
            found[name] = csv_text(table)
    return found


def file_name(*words: str) -> str:
    """Words as a name that every system takes."""
    return "_".join(re.sub(r"[^A-Za-z0-9.+-]+", "_", word).strip("_") or "x" for word in words if word)


def _cell(value: object) -> object:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return value
