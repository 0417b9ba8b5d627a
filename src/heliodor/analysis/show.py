"""What an analysis hands to people: panels, numbers and notes, drawn as PNG by the command line, in HTML by the report.

Every quantity carries its unit; nothing here knows what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from heliodor.trajectory.parallel import Progress
from heliodor.trajectory.trajectory import Trajectory


@dataclass(frozen=True)
class Axis:
    """Of a panel.

    Attributes:
        label: in words.
        unit: "Å", "ps", "cm⁻¹"; empty for pure numbers.
        low, high: what is shown; None: by the data.
        log: logarithmic.
    """

    label: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    log: bool = False

    @property
    def title(self) -> str:
        """Label and unit: ``"distance (Å)"``."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True, eq=False)
class Curve:
    """Values along x, with a band of errors if there are any.

    Attributes:
        name: in the legend; empty for none.
        x, y: [P]; NaN leaves a gap.
        low, high: [P] of the band; None for none.
        style: "line", "dashed", "points" (as many as there are), "steps" (histograms).
        reference: measured or published, not of this trajectory: drawn apart from the others.
        colours: [P] a value for each point, shown by colour (points only).
        colour_axis: what `colours` are.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    style: Literal["line", "dashed", "points", "steps"] = "line"
    reference: bool = False
    colours: np.ndarray | None = None
    colour_axis: Axis | None = None


@dataclass(frozen=True, eq=False)
class Heat:
    """A map of colours.

    Attributes:
        x: [W] centres along x.
        y: [H] centres along y.
        values: [H, W]; NaN is left blank. Of a map with `kinds` indices into them.
        axis: what the values are; unused with `kinds`.
        kinds: for maps of letters: what each index means, ("H", "α helix"), in order.
        y_names: [H] names in the place of y, such as residues.
    """

    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    axis: Axis = Axis("")
    kinds: tuple[tuple[str, str], ...] = ()
    y_names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Panel:
    """One pair of axes with what is drawn on it.

    Attributes:
        title: what is seen, in a few words.
        x, y: axes.
        curves: in order of drawing.
        heat: under them.
    """

    title: str
    x: Axis
    y: Axis
    curves: tuple[Curve, ...] = ()
    heat: Heat | None = None


@dataclass(frozen=True)
class Number:
    """A result in one line of a table.

    Attributes:
        name: in words.
        value: in `unit`; NaN where it could not be had, which `note` explains.
        error: standard error (block averages), None where there is none.
        unit: empty for pure numbers.
        note: a few words: "Mills 1973: 0.230 Å²/ps", "95 % of frames".
        reference: measured or published value in the same unit, if there is one to hold it against.
        comparable: whether it means the same in another run; otherwise no difference of runs is formed.
    """

    name: str
    value: float
    error: float | None = None
    unit: str = ""
    note: str = ""
    reference: float | None = None
    comparable: bool = True


@dataclass(frozen=True, eq=False)
class Shown:
    """The outcome of one analysis, ready to be drawn and read.

    Attributes:
        name: of the analysis: "rdf".
        title: for people: "Radial distribution functions".
        panels: at least one, or at least one number.
        numbers: results.
        notes: sentences: how it was computed, definitions, what was left out, sources.
        tables: for CSV: columns (name with unit, "r_A") by table name ("rdf_O_O"); columns of one table are equally
            long.
    """

    name: str
    title: str
    panels: tuple[Panel, ...] = ()
    numbers: tuple[Number, ...] = ()
    notes: tuple[str, ...] = ()
    tables: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class Analysis:
    """One analysis in the list of all: found by name, chosen by what a system holds.

    Attributes:
        name: a word: "rdf".
        title: "Radial distribution functions".
        about: a sentence for `heliodor analyze --list`.
        unfit: why it cannot be done with a trajectory, in words; None where it can. Must be quick: topology and
            metadata only.
        show: does it: ``show(trajectory, progress=None, processes=1, **options)``. Options are keyword-only
            parameters of simple types with defaults; their docstring's Args are what the command line explains.
        usual: whether the report does it where it fits; False for those that are asked for by name.
    """

    name: str
    title: str
    about: str
    unfit: Callable[[Trajectory], str | None]
    show: Callable[..., Shown]
    usual: bool = True


def run(
    analysis: Analysis,
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    **options: Any,
) -> Shown:
    """Do an analysis.

    Raises:
        InputError: it does not fit the trajectory; options or frames that cannot be used.
    """
    from heliodor.errors import InputError

    reason = analysis.unfit(trajectory)
    if reason is not None:
        raise InputError(f"{analysis.name} cannot be done with {trajectory.path}: {reason}")
    return analysis.show(trajectory, progress=progress, processes=processes, **options)
