"""What a benchmark is (a Task), what it gives (Rows), and their errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from heliodor.potential import Potential

KCAL = "kcal/mol"
FORCE = "meV/Å"

QUICK = 24
"""Rows of a set that --quick computes, evenly spread."""


@dataclass(frozen=True)
class Row:
    """One number of a model against its reference, in the unit of its task.

    Attributes:
        name: of the reaction, molecule, crystal or structure.
        reference: nan where skipped.
        value: the model's; nan where skipped.
        group: such as "charged"; errors are given for each group too.
        x: relative distance (1: equilibrium) where the set is a series of them, else nan.
        how: in a word how the number was made, such as "fragments".
        skipped: why there is no number; empty if there is one.
        weight: how many numbers are averaged in this one (components of forces), for means and roots of mean squares.
        mean_absolute: for weight > 1: the mean absolute error of those numbers; the value is then their root mean
            square error, the reference 0.
    """

    name: str
    reference: float = float("nan")
    value: float = float("nan")
    group: str = ""
    x: float = float("nan")
    how: str = ""
    skipped: str = ""
    weight: int = 1
    mean_absolute: float = float("nan")

    @property
    def error(self) -> float:
        """Model minus reference."""
        return self.value - self.reference


@dataclass(frozen=True, eq=False)
class Task:
    """One set of reference data and how to compute its rows.

    Attributes:
        name: short, as in ``--sets``.
        title: what it is, in a few words.
        level: of the reference, in words.
        unit: of rows and errors.
        key: SHA-256 of the data and of the settings that decide rows, but not of the model.
        items: names of all rows.
        quick: names of those that ``--quick`` computes; empty: none.
        evaluate: yields the rows of some items.
        note: what a reader of the result has to know.
        cost: "seconds", "minutes" or "hours" of one core for a model such as SO3LR.
    """

    name: str
    title: str
    level: str
    unit: str
    key: str
    items: tuple[str, ...]
    quick: tuple[str, ...]
    evaluate: Callable[[Potential, Sequence[str]], Iterator[Row]]
    note: str = ""
    cost: str = "seconds"


@dataclass(frozen=True)
class Errors:
    """Statistics of errors, in the unit of the task; nan where there are no numbers.

    Attributes:
        count: rows with a number.
        mae: mean absolute error.
        mean: mean error, model minus reference.
        rmse: root of the mean square error.
        largest: the largest absolute error.
        worst: its row's name.
    """

    count: int
    mae: float
    mean: float
    rmse: float
    largest: float
    worst: str


@dataclass(frozen=True)
class SetResult:
    """A model's rows of one set.

    Attributes:
        model: its name.
        task: name of the set.
        total: rows the set has; more than ``rows`` where only a part was asked for.
    """

    model: str
    task: str
    title: str
    level: str
    unit: str
    note: str
    total: int
    rows: tuple[Row, ...] = field(repr=False)

    @property
    def good(self) -> tuple[Row, ...]:
        """Rows with a number."""
        return tuple(row for row in self.rows if not row.skipped)

    @property
    def skipped(self) -> Counter[str]:
        """How many rows were left out, by reason."""
        return Counter(row.skipped for row in self.rows if row.skipped)

    def errors(self) -> Errors:
        """Over all rows with a number."""
        return errors_of(self.good)

    def groups(self) -> dict[str, Errors]:
        """By group, where there is more than one."""
        names = sorted({row.group for row in self.good if row.group})
        if len(names) < 2:
            return {}
        return {name: errors_of([row for row in self.good if row.group == name]) for name in names}

    def by_distance(self) -> dict[float, Errors]:
        """By relative distance, for series of distances."""
        places = sorted({row.x for row in self.good if np.isfinite(row.x)})
        return {x: errors_of([row for row in self.good if row.x == x]) for x in places}


def errors_of(rows: Sequence[Row]) -> Errors:
    """Statistics of rows that all have numbers; a row counts as many times as its weight says."""
    nothing = float("nan")
    if not rows:
        return Errors(0, nothing, nothing, nothing, nothing, "")
    error: Float[np.ndarray, "R"] = np.array([row.error for row in rows])
    absolute = np.array([abs(row.error) if row.weight == 1 else row.mean_absolute for row in rows])
    weight = np.array([float(row.weight) for row in rows])
    worst = int(np.abs(error).argmax())
    averaged = any(row.weight > 1 for row in rows)
    return Errors(
        len(rows),
        float(np.average(absolute, weights=weight)),
        nothing if averaged else float(error.mean()),
        float(np.sqrt(np.average(np.square(error), weights=weight))),
        float(np.abs(error[worst])),
        rows[worst].name,
    )


def spread_out(names: Sequence[str], count: int) -> tuple[str, ...]:
    """At most ``count`` of them, evenly spread."""
    if len(names) <= count:
        return tuple(names)
    places = np.unique(np.linspace(0, len(names) - 1, count).round().astype(int))
    return tuple(names[k] for k in places)
