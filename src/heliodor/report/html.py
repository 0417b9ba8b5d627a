"""Pieces of HTML; every text is escaped here, so that no name from a file becomes markup."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from heliodor.analysis.show import Number
from heliodor.report.checks import WORDS, Check
from heliodor.report.facts import Facts
from heliodor.report.merge import Row
from heliodor.report.words import measured

_SHAPES = {
    "ok": '<circle cx="8" cy="8" r="7"/>',
    "look": '<path d="M8 1 15 14.5H1z"/>',
    "bad": '<path d="M5 1h6l4 4v6l-4 4H5l-4-4V5z"/>',
    "unknown": '<path d="M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm0 2a5 5 0 1 1 0 10A5 5 0 0 1 8 3z"/>',
}


def embedded(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def script(text: str) -> str:
    """A script element."""
    return "<script>\n" + text.replace("</script", "<\\/script").replace("<!--", "<\\!--") + "\n</script>"


def definitions(rows: Iterable[tuple[str, str]]) -> str:
    """A list of labels and texts; long hashes and commands in a fixed width."""
    parts = []
    for label, text in rows:
        fixed = label.startswith("SHA") or label == "command"
        inner = f"<code>{escape(text)}</code>" if fixed else escape(text)
        parts.append(f"<dt>{escape(label)}</dt><dd>{inner}</dd>")
    return f"<dl>{''.join(parts)}</dl>"


def light(verdict: str) -> str:
    """A verdict as shape, colour and word."""
    word = WORDS[verdict]  # type: ignore[index]
    shape = f'<svg viewBox="0 0 16 16" aria-hidden="true">{_SHAPES[verdict]}</svg>'
    return f'<span class="light {verdict}">{shape}{word}</span>'


def check_list(checks: Iterable[Check]) -> str:
    """Checks under each other."""
    lines = [
        f'<li>{light(check.verdict)}<span class="what">{escape(check.name)}</span>'
        f'<span class="why">{escape(check.words)}</span></li>'
        for check in checks
    ]
    return f'<ul class="checks">{"".join(lines)}</ul>'


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[tuple[str, str]]],
    *,
    marked: Sequence[bool] = (),
    notes: Sequence[str] = (),
    kind: str = "",
) -> str:
    """Rows of (class, text); the first cell of each is its head.

    Args:
        marked: rows that differ.
        notes: under the heads of rows, in small print.
        kind: class of the table.
    """
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    lines = []
    for k, row in enumerate(rows):
        first, *rest = row
        cells = "".join(f'<td class="{name}">{escape(text)}</td>' for name, text in rest)
        differs = ' class="differs"' if marked and marked[k] else ""
        note = f"<small>{escape(notes[k])}</small>" if notes and notes[k] else ""
        lines.append(f'<tr{differs}><th scope="row">{escape(first[1])}{note}</th>{cells}</tr>')
    body = "".join(lines)
    inner = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll" tabindex="0" role="region" aria-label="Table">{inner}</div>'


def numbers_table(rows: Sequence[Row], runs: Sequence[str]) -> str:
    """Value ± error and unit, reference, remark; of several runs also differences from the first, with z."""
    if len(runs) > 1:
        return _compared(rows, runs)
    referenced = any(row.references for row in rows)
    noted = any(row.note for row in rows)
    lines = []
    for row in rows:
        cells = [("", row.name), ("value", number_text(row.numbers[0]))]
        if referenced:
            cells.append(("value", " / ".join(measured(x, unit=row.unit) for x in row.references)))
        if noted:
            cells.append(("small", row.note))
        lines.append(cells)
    return table(["quantity", "value", *["reference"] * referenced, *["remark"] * noted], lines)


def _compared(rows: Sequence[Row], runs: Sequence[str]) -> str:
    referenced = any(row.references for row in rows)
    heads = ["quantity", "unit", *runs]
    for run in runs[1:]:
        heads += [f"{run} − {runs[0]}" if len(runs) > 2 else "difference", "z"]
    lines = []
    for row in rows:
        cells = [("", row.name), ("small", row.unit)]
        cells += [("value", "–" if n is None else measured(n.value, n.error)) for n in row.numbers]
        for k in range(1, len(runs)):
            gap, error, z = row.difference(k)
            cells += [("value", measured(gap, error)), ("value", "–" if z is None else f"{z:+.1f}".replace("-", "−"))]
        if referenced:
            cells.append(("value", " / ".join(measured(x) for x in row.references)))
        lines.append(cells)
    notes = [row.note for row in rows]
    return table([*heads, *["reference"] * referenced], lines, notes=notes)


def number_text(number: Number | None) -> str:
    """``"0.230 ± 0.005 Å²/ps"``; a dash for none."""
    return "–" if number is None else measured(number.value, number.error, number.unit)


def facts_html(found: Sequence[Facts]) -> str:
    """Of one run as lists; of several as one table, rows that differ marked."""
    if len(found) == 1:
        groups = [f"<div><h4>{escape(title)}</h4>{definitions(rows)}</div>" for title, rows in found[0].groups]
        return f'<div class="columns">{"".join(groups)}</div>'
    labels: dict[str, list[str]] = {}
    for k, one in enumerate(found):
        for _, rows in one.groups:
            for label, text in rows:
                labels.setdefault(label, ["–"] * len(found))[k] = text
    labels.pop("this report", None)
    marked = [len(set(texts)) > 1 for texts in labels.values()]
    lines = [[("", label), *(("", text) for text in texts)] for label, texts in labels.items()]
    return table(["", *(one.name for one in found)], lines, marked=marked, kind="facts")


def settings_html(found: Sequence[Facts]) -> str:
    """All settings of one run; of several what differs, and the rest folded away."""
    if not any(one.settings for one in found):
        return ""
    if len(found) == 1:
        told = found[0].settings
        rows = "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(text)}</dd></div>" for key, text in told.items())
        inner = f'<div class="settings"><dl>{rows}</dl></div>'
        return f'<details class="more"><summary>All {len(told)} settings</summary>{inner}</details>'
    keys = list(dict.fromkeys(key for one in found for key in one.settings))
    texts = {key: [one.settings.get(key, "–") for one in found] for key in keys}
    heads = ["setting", *(one.name for one in found)]
    differ = {key: row for key, row in texts.items() if len(set(row)) > 1}
    lines = [[("", key), *(("", text) for text in row)] for key, row in differ.items()]
    same = [[("", key), ("", row[0])] for key, row in texts.items() if key not in differ]
    shown = table(heads, lines) if lines else "<p>All settings are the same.</p>"
    folded = table(["setting", "value"], same)
    return (
        f"<h3>Settings that differ</h3>{shown}"
        f'<details class="more"><summary>{len(same)} settings that are the same</summary>{folded}</details>'
    )


def contents(entries: Sequence[tuple[str, str, Mapping[str, str]]]) -> str:
    """The list of contents: (id, title, {id: title} below it)."""
    lines = []
    for key, title, below in entries:
        inner = "".join(f'<li><a href="#{escape(k)}">{escape(t)}</a></li>' for k, t in below.items())
        under = f"<ol>{inner}</ol>" if inner else ""
        lines.append(f'<li><a href="#{escape(key)}">{escape(title)}</a>{under}</li>')
    return f"<ol>{''.join(lines)}</ol>"
