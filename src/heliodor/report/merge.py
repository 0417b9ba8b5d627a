"""The same analysis of several runs as one: curves together, maps side by side, numbers in columns with differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from heliodor.analysis.show import Axis, Curve, Heat, Number, Panel, Shown


@dataclass(frozen=True, eq=False)
class Drawn:
    """A curve and how it is told from others.

    Attributes:
        curve: to be drawn, named as in the legend.
        colour: index of its colour: of the run where several are compared, else of the curve.
        dash: index of its dashes: of the curve within its run, 0 for one run.
    """

    curve: Curve
    colour: int
    dash: int


@dataclass(frozen=True, eq=False)
class Figure:
    """A panel of one or more runs."""

    title: str
    x: Axis
    y: Axis
    drawn: tuple[Drawn, ...]
    heat: Heat | None


@dataclass(frozen=True)
class Row:
    """A number of each run; the first run is the one others are held against.

    Attributes:
        name, unit: as of `Number`.
        references: different ones, in the order of the runs.
        numbers: one per run, None where a run has none.
        note: of all runs that say something, in words.
    """

    name: str
    unit: str
    references: tuple[float, ...]
    numbers: tuple[Number | None, ...]
    note: str

    def difference(self, k: int) -> tuple[float, float | None, float | None]:
        """Of run k from the first: value, combined error √(e₀² + e_k²), and their ratio z; None where not known.

        Nothing of numbers that mean something else in each run (`Number.comparable`).
        """
        first, other = self.numbers[0], self.numbers[k]
        if first is None or other is None or not (first.comparable and other.comparable):
            return math.nan, None, None
        gap = other.value - first.value
        if first.error is None or other.error is None:
            return gap, None, None
        error = math.hypot(first.error, other.error)
        return gap, error, gap / error if error > 0.0 else None


@dataclass(frozen=True, eq=False)
class Section:
    """One analysis on the page."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def merged(shown: Sequence[Shown | None], runs: Sequence[str]) -> Section:
    """The outcomes of one analysis, of each run in order (None where a run has none), as one section.

    Raises:
        ValueError: no outcome at all.
    """
    there = [(k, outcome) for k, outcome in enumerate(shown) if outcome is not None]
    if not there:
        raise ValueError("there is nothing to be merged")
    several = len(runs) > 1
    panels: dict[tuple[str, str, str], list[tuple[int, Panel]]] = {}
    for k, outcome in there:
        seen: dict[str, int] = {}
        for panel in outcome.panels:
            # panels of one title are told apart by their place
            place = seen[panel.title] = seen.get(panel.title, 0) + 1
            key = (panel.title, f"{panel.x.unit} {place}", panel.y.unit)
            panels.setdefault(key, []).append((k, panel))
    figures = [figure for alike in panels.values() for figure in _figures(alike, runs)]
    notes: dict[str, list[str]] = {}
    for k, outcome in there:
        for note in outcome.notes:
            notes.setdefault(note, []).append(runs[k])
    told = [note if not several or len(by) == len(there) else f"{', '.join(by)}: {note}" for note, by in notes.items()]
    first = there[0][1]
    return Section(first.name, first.title, tuple(figures), _rows(shown, runs), tuple(told))


def _figures(panels: list[tuple[int, Panel]], runs: Sequence[str]) -> list[Figure]:
    several = len(runs) > 1
    if any(panel.heat is not None for _, panel in panels):
        return [
            Figure(f"{panel.title}, {runs[k]}" if several else panel.title, panel.x, panel.y, _alone(panel), panel.heat)
            for k, panel in panels
        ]
    if not several:
        panel = panels[0][1]
        return [Figure(panel.title, panel.x, panel.y, _alone(panel), None)]
    if any(curve.colours is not None for _, panel in panels for curve in panel.curves):
        # colours mean something already: no room to tell runs apart by them
        return [Figure(f"{p.title}, {runs[k]}", p.x, p.y, _alone(p), None) for k, p in panels]
    drawn, references, seen = [], [], set()
    for k, panel in panels:
        dash = 0
        for curve in panel.curves:
            if curve.reference:
                if curve.name not in seen:
                    seen.add(curve.name)
                    references.append(Drawn(curve, 0, 0))
                continue
            name = f"{runs[k]} · {curve.name}" if curve.name else runs[k]
            drawn.append(Drawn(replace(curve, name=name), k, dash))
            dash += 1
    first = panels[0][1]
    return [
        Figure(first.title, _around(first.x, panels, "x"), _around(first.y, panels, "y"), (*drawn, *references), None)
    ]


def _around(axis: Axis, panels: list[tuple[int, Panel]], which: str) -> Axis:
    """Limits that hold those of all runs."""
    lows = [getattr(panel, which).low for _, panel in panels]
    highs = [getattr(panel, which).high for _, panel in panels]
    low = None if any(v is None for v in lows) else min(lows)
    high = None if any(v is None for v in highs) else max(highs)
    return replace(axis, low=low, high=high)


def _alone(panel: Panel) -> tuple[Drawn, ...]:
    drawn, colour = [], 0
    for curve in panel.curves:
        drawn.append(Drawn(curve, colour, 0))
        colour += not curve.reference
    return tuple(drawn)


def _rows(shown: Sequence[Shown | None], runs: Sequence[str]) -> tuple[Row, ...]:
    found: dict[tuple[str, str, int], list[Number | None]] = {}
    for k, outcome in enumerate(shown):
        if outcome is None:
            continue
        seen: dict[tuple[str, str], int] = {}
        for number in outcome.numbers:
            key = (number.name, number.unit)
            place = seen[key] = seen.get(key, 0) + 1
            found.setdefault((*key, place), [None] * len(runs))[k] = number
    rows = []
    for (name, unit, _), numbers in found.items():
        there = [number for number in numbers if number is not None]
        notes = list(dict.fromkeys(number.note for number in there if number.note))
        references = dict.fromkeys(number.reference for number in there if number.reference is not None)
        rows.append(Row(name, unit, tuple(references), tuple(numbers), "; ".join(notes)))
    return tuple(rows)
