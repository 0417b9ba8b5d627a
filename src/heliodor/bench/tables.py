"""Results as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heliodor.bench.interactions import HOW
from heliodor.bench.result import FORCE, KCAL, Errors, SetResult
from heliodor.errors import InputError

REASONS = 8
"""Shown of why rows were left out; accuracy.csv has them all."""


def markdown(results: Sequence[SetResult]) -> str:
    """Tables of errors: sets of energies, of forces, groups, distances, what the sets are, and what was left out."""
    pieces = []
    for unit, title in ((KCAL, "Energies, kcal/mol"), (FORCE, "Forces, meV/Å")):
        mine = [result for result in results if result.unit == unit]
        if not mine:
            continue
        words = "MAE, RMSE" if unit == FORCE else "MAE, mean error, RMSE"
        pieces.append(f"{title}: {words}.\n\n" + _pivot(["set", "n"], mine, _cells))
        for title_of, head, find in (
            (f"By group, {unit}: {words} (n).", ["set", "group"], _group_cells),
            (f"By distance (1: equilibrium), {unit}: {words} (n).", ["set", "distance"], _distance_cells),
        ):
            if any(find(r) for r in mine):
                pieces.append(f"{title_of}\n\n{_pivot(head, mine, find)}")
    sets = {r.task: [r.task, r.title, r.level, r.note] for r in results}
    pieces.append("What the sets are:\n\n" + table(["set", "what", "reference", "note"], list(sets.values())))
    skipped = [[r.task, r.model, f"{count}", reason] for r in results for reason, count in _reasons(r)]
    if skipped:
        pieces.append("Left out:\n\n" + table(["set", "model", "n", "why"], skipped))
    used = protocols(results)
    if used:
        pieces.append("Protocols:\n\n" + table(["model", "how", "n"], used))
    return "\n\n".join(pieces) + "\n"


def _reasons(r: SetResult) -> list[tuple[str, int]]:
    """Why rows were left out, the rarest reasons together."""
    found = r.skipped.most_common()
    rest = found[REASONS:]
    return found[:REASONS] + ([(f"{len(rest)} other reasons", sum(count for _, count in rest))] if rest else [])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float, signed: bool = False) -> str:
    """Two decimals, or none for what is large."""
    if abs(value) >= 100.0:
        return f"{value:+.0f}" if signed else f"{value:.0f}"
    return f"{value:+.2f}" if signed else f"{value:.2f}"


def _pivot(
    head: list[str], results: Sequence[SetResult], find: Callable[[SetResult], dict[tuple[str, str], str]]
) -> str:
    """One row for each pair of words, one column for each model."""
    models = list(dict.fromkeys(r.model for r in results))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for r in results:
        for key, cell in find(r).items():
            cells.setdefault(key, {})[r.model] = cell
    return table([*head, *models], [[*key, *(found.get(m, "") for m in models)] for key, found in cells.items()])


def _cells(r: SetResult) -> dict[tuple[str, str], str]:
    count = f"{len(r.rows)}" if len(r.rows) == r.total else f"{len(r.rows)} of {r.total}"
    left = sum(r.skipped.values())
    return {(r.task, count): _words(r.errors()) + (f" ({left} left out)" if left else "")}


def _words(e: Errors) -> str:
    if not e.count:
        return "–"
    # of forces there is no mean error
    return ", ".join([number(e.mae), *([number(e.mean, True)] if e.mean == e.mean else []), number(e.rmse)])


def _group_cells(r: SetResult) -> dict[tuple[str, str], str]:
    return {(r.task, name): f"{_words(e)} ({e.count})" for name, e in r.groups().items()}


def _distance_cells(r: SetResult) -> dict[tuple[str, str], str]:
    found = r.by_distance()
    # series of each dimer's own distances have too few at any one of them
    return {(r.task, f"{x:g}"): f"{_words(e)} ({e.count})" for x, e in found.items()} if 2 <= len(found) <= 12 else {}


def protocols(results: Sequence[SetResult]) -> list[list[str]]:
    """Model, protocol in words, and how many energies of reactions were made so."""
    found = Counter((r.model, row.how) for r in results for row in r.good if row.how in HOW)
    return [[model, HOW[how], f"{count}"] for (model, how), count in sorted(found.items())]


def csv_text(results: Sequence[SetResult]) -> str:
    """Every row of every result."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["model", "set", "name", "group", "x", "how", "reference", "value", "error", "unit", "skipped"])
    for r in results:
        for row in r.rows:
            values = [row.reference, row.value, row.error]
            numbers = ["" if v != v else f"{v:.6f}" for v in values]
            x = "" if row.x != row.x else f"{row.x:g}"
            writer.writerow([r.model, r.task, row.name, row.group, x, row.how, *numbers, r.unit, row.skipped])
    return out.getvalue()


def as_json(results: Sequence[SetResult]) -> list[dict[str, Any]]:
    """Statistics of every result, without rows; numbers that are none are null."""
    return [
        {
            "model": r.model,
            "set": r.task,
            "title": r.title,
            "reference_level": r.level,
            "unit": r.unit,
            "rows_in_set": r.total,
            "note": r.note,
            **_errors_json(r.errors()),
            "groups": {name: _errors_json(e) for name, e in r.groups().items()},
            "by_distance": {f"{x:g}": _errors_json(e) for x, e in r.by_distance().items()},
            "protocols": dict(Counter(row.how for row in r.good)),
            "skipped": dict(r.skipped),
        }
        for r in results
    ]


def _errors_json(errors: Errors) -> dict[str, Any]:
    return {k: None if v != v else v for k, v in asdict(errors).items()}


def put_into(page: Path, text: str, name: str = "accuracy") -> None:
    """Replace what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` in a page.

    Raises:
        InputError: the page is missing or has no such place.
    """
    try:
        content = page.read_text()
    except OSError as error:
        raise InputError(f"{page}: {error.strerror}") from None
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    new, count = pattern.subn(lambda match: f"{match.group(1)}\n{text}\n{match.group(2)}", content)
    if count != 1:
        raise InputError(f"{page} must have one line {begin} and one line {end} after it")
    page.write_text(new)
