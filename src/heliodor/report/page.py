"""The page: parts put together, data and scripts inlined."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from heliodor.errors import MissingExtraError
from heliodor.report.checks import WORDS, worst
from heliodor.report.facts import FOREIGN, Facts
from heliodor.report.figures import figure_json, thinned, wide
from heliodor.report.frames import Film
from heliodor.report.html import (
    check_list,
    contents,
    embedded,
    facts_html,
    light,
    numbers_table,
    script,
    settings_html,
)
from heliodor.report.merge import Section
from heliodor.report.sound import Soundness
from heliodor.report.still import still
from heliodor.report.tables import file_name

STYLES = ("style.css", "print.css")
SCRIPTS = ("page.js", "plots.js", "gl.js", "ribbon.js", "molecule.js", "viewer.js")

TABLES = 2_500_000
"""Characters of packed tables that a page holds; what is beyond is left to ``--csv``."""


@dataclass
class Embedded:
    """What the scripts of the page read."""

    figures: list[dict[str, Any]] = field(default_factory=list)
    tables: list[dict[str, str]] = field(default_factory=list)
    packed: int = 0


@dataclass(frozen=True, eq=False)
class Part:
    """A section with its tables by file name, as CSV text."""

    section: Section
    tables: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Content:
    """All that a page shows.

    Attributes:
        facts, soundness, films: of each run; a film is None where frames could not be read.
        sound, done: sections of the log and of the analyses, with their tables.
        failed: title and reason of analyses that failed.
        left_out: name and reason of analyses that do not fit.
        problem: why there is no viewer.
        title: of the page; that of the runs if empty.
    """

    facts: tuple[Facts, ...]
    soundness: tuple[Soundness, ...]
    films: tuple[Film, ...]
    sound: tuple[Part, ...]
    done: tuple[Part, ...]
    failed: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, str], ...]
    problem: str = ""
    title: str = ""


def plotly_script() -> str:
    """plotly.js, as the installed package brings it.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise MissingExtraError("plotly", "report") from None
    return str(get_plotlyjs())


def page(content: Content) -> str:
    """The whole file."""
    from heliodor import __version__

    runs = [one.name for one in content.facts]
    data = Embedded()
    verdict = worst(tuple(check for sound in content.soundness for check in sound.checks))
    parts = [_head(content, verdict)]
    index: list[tuple[str, str, Mapping[str, str]]] = []
    parts.append(_viewer(content, runs))
    index.append(("motion", "Motion", {}))
    parts.append(_what(content))
    index.append(("run", "What was run", {}))
    parts.append(_sound(content, runs, data))
    index.append(("sound", "Is it sound", {}))
    parts.append(_did(content, runs, data))
    index.append(("did", "What it did", {part.section.name: part.section.title for part in content.done}))
    title = content.title or f"{' and '.join(runs[:2])}{' and others' if len(runs) > 2 else ''} – heliodor report"
    holds = {
        "runs": runs,
        "figures": data.figures,
        "tables": data.tables,
        "films": [film.data for film in content.films],
    }
    return Template(asset("page.html")).substitute(
        version=escape(__version__),
        title=escape(title),
        style="".join(asset(name) for name in STYLES),
        name=escape(content.title or " · ".join(runs)),
        state=escape(content.facts[0].headline if len(runs) == 1 else f"{len(runs)} runs compared"),
        contents=contents(index),
        content="\n".join(parts),
        data=embedded(holds),
        scripts="\n".join(script(text) for text in (plotly_script(), *(asset(name) for name in SCRIPTS))),
    )


def asset(name: str) -> str:
    """A file of this package."""
    return (files("heliodor.report") / "assets" / name).read_text(encoding="utf-8")


def _head(content: Content, verdict: str) -> str:
    names = [one.name for one in content.facts]
    if len(names) == 1:
        lines = f'<p class="headline">{escape(content.facts[0].headline)}</p>'
    else:
        lines = "".join(
            f'<p class="headline"><b>{escape(one.name)}</b> {escape(one.headline)}</p>' for one in content.facts
        )
    checks = [check for sound in content.soundness for check in sound.checks]
    told = [f"{sum(c.verdict == v for c in checks)} {WORDS[v]}" for v in WORDS if any(c.verdict == v for c in checks)]
    state = f'<p class="headline">{light(verdict)} <a href="#sound">Checks: {", ".join(told)}</a></p>'
    return f'<section id="top"><h1>{escape(" and ".join(names))}</h1>{lines}{state}</section>'


def _what(content: Content) -> str:
    found = content.facts
    foreign = "".join(
        f'<p class="note">{escape(one.name + ": " if len(found) > 1 else "")}{FOREIGN}</p>'
        for one in found
        if one.foreign
    )
    cited = list(dict.fromkeys(one.citation for one in found if one.citation))
    citation = "".join(
        f'<p class="cite" id="cite{k}">{escape(text)}</p>'
        f'<button type="button" class="quiet" data-copy="cite{k}">Copy</button>'
        for k, text in enumerate(cited)
    )
    if citation:
        citation = f"<h3>To cite</h3>{citation}"
    return (
        f'<section id="run"><h2>What was run</h2>{foreign}{facts_html(found)}{settings_html(found)}{citation}</section>'
    )


def _sound(content: Content, runs: Sequence[str], data: Embedded) -> str:
    lists = []
    for name, sound in zip(runs, content.soundness, strict=True):
        heading = f"<h3>{escape(name)}</h3>" if len(runs) > 1 else ""
        lists.append(heading + check_list(sound.checks))
    figures = [_figure(f, part.section.name, data) for part in content.sound for f in part.section.figures]
    rows = [row for part in content.sound for row in part.section.rows]
    notes = [note for part in content.sound for note in part.section.notes]
    buttons = [_tables(part, data) for part in content.sound]
    numbers = numbers_table(rows, runs) if rows else ""
    return (
        f'<section id="sound"><h2>Is it sound</h2>{"".join(lists)}{_grid(figures)}{numbers}{_notes(notes)}'
        f"{_tools(''.join(buttons))}</section>"
    )


def _did(content: Content, runs: Sequence[str], data: Embedded) -> str:
    parts = []
    for part in content.done:
        section = part.section
        figures = [_figure(f, section.name, data) for f in section.figures]
        numbers = numbers_table(section.rows, runs) if section.rows else ""
        parts.append(
            f'<section class="section" id="{escape(section.name)}"><h3>{escape(section.title)}</h3>{_grid(figures)}'
            f"{numbers}{_notes(section.notes)}{_tools(_tables(part, data))}</section>"
        )
    if not content.done:
        parts.append("<p>No analysis was done.</p>")
    if content.failed:
        lines = "".join(f"<li><b>{escape(title)}</b>: {escape(reason)}</li>" for title, reason in content.failed)
        parts.append(f'<h3 id="failed">Not done</h3><ul class="note">{lines}</ul>')
    if content.left_out:
        lines = "".join(f"<li><b>{escape(name)}</b>: {escape(reason)}</li>" for name, reason in content.left_out)
        parts.append(
            f'<details class="more"><summary>{len(content.left_out)} analyses that do not fit</summary>'
            f'<ul class="note">{lines}</ul></details>'
        )
    return f'<section id="did"><h2>What it did</h2>{"".join(parts)}</section>'


def _figure(figure: Any, name: str, data: Embedded) -> str:
    drawn = figure_json(figure)
    drawn["file"] = file_name(name, figure.title)
    data.figures.append(drawn)
    kind = ' class="wide"' if wide(figure) else ""
    less = thinned(figure)
    caption = f"<figcaption>{escape(less)}</figcaption>" if less else ""
    about = f"{figure.title}: {figure.y.title} against {figure.x.title}"
    return (
        f'<figure{kind}><p class="title">{escape(figure.title)}</p>'
        f'<div class="plot" role="img" aria-label="{escape(about)}" data-figure="{len(data.figures) - 1}"></div>'
        f'<div class="keys"></div>{caption}<div class="tools">'
        f'<button type="button" class="quiet" data-plot="reset">Reset zoom</button>'
        f'<button type="button" class="quiet" data-plot="png">PNG</button>'
        f'<button type="button" class="quiet" data-plot="svg">SVG</button></div></figure>'
    )


def _grid(figures: Sequence[str]) -> str:
    if not figures:
        return ""
    lone = " lone" if len(figures) == 1 and 'class="wide"' not in figures[0][:30] else ""
    return f'<div class="figures{lone}">{"".join(figures)}</div>'


def _notes(notes: Sequence[str]) -> str:
    lines = "".join(f"<p>{escape(note)}</p>" for note in dict.fromkeys(notes))
    return f'<div class="note">{lines}</div>' if lines else ""


def _tables(part: Part, data: Embedded) -> str:
    buttons, beyond = [], []
    for name, text in part.tables.items():
        packed = base64.b64encode(zlib.compress(text.encode(), 6)).decode()
        if data.packed + len(packed) > TABLES:
            beyond.append(name)
            continue
        data.packed += len(packed)
        data.tables.append({"name": f"{name}.csv", "text": packed})
        buttons.append(
            f'<button type="button" class="quiet" data-table="{len(data.tables) - 1}" '
            f'aria-label="Save {escape(name)}.csv">{escape(name)}</button>'
        )
    if beyond:
        listed = escape(", ".join(beyond))
        buttons.append(f'<span class="note">Too long for this page, written with --csv FOLDER: {listed}</span>')
    return "".join(buttons)


def _tools(buttons: str) -> str:
    return f'<div class="tools"><span class="data">Tables as CSV</span>{buttons}</div>' if buttons else ""


def _viewer(content: Content, runs: Sequence[str]) -> str:
    if not content.films:
        return f'<section id="motion"><h2>Motion</h2><p>{escape(content.problem)}</p></section>'
    first = content.films[0]
    picked = ""
    if len(runs) > 1:
        options = "".join(f'<option value="{k}">{escape(run)}</option>' for k, run in enumerate(runs))
        picked = f'<label>Run <select data-part="run">{options}</select></label>'
    words = [
        word if len(runs) == 1 else f"{run}: {word}"
        for run, film in zip(runs, content.films, strict=True)
        for word in film.words
    ]
    return Template(asset("viewer.html")).substitute(
        still=still(first.first, first.topology, first.main), run=picked, notes=_notes(words)
    )
