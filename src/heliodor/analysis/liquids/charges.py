"""Statistics of what the model says of atoms: partial charges and Hirshfeld ratios."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float

from heliodor.analysis.liquids.histogram import Histogram
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.analysis.statistics import mean_with_error
from heliodor.errors import InputError
from heliodor.trajectory.block import Block
from heliodor.trajectory.parallel import Progress, over_blocks
from heliodor.trajectory.trajectory import Trajectory

QUANTITIES = {
    "charges": ("partial charge", "e", "charge_e"),
    "hirshfeld_ratios": ("Hirshfeld ratio", "", "hirshfeld_ratio"),
}
"""Name, unit and column of what may be stored of each atom."""

WIDTH = 0.005
"""Of a bin, in e or as a ratio."""


@dataclass(frozen=True, eq=False)
class OfElement:
    """One quantity of the atoms of one element in T frames.

    Attributes:
        symbol: of the element.
        count: atoms.
        mean: over the atoms, of each frame.
        spread: standard deviation over atoms and frames.
        value: middles of the bins of the distribution.
        probability: its density.
    """

    symbol: str
    count: int
    mean: Float[np.ndarray, "T"]
    spread: float
    value: Float[np.ndarray, "B"]
    probability: Float[np.ndarray, "B"]


@dataclass(frozen=True, eq=False)
class OfAtoms:
    """One quantity of all N atoms.

    Attributes:
        quantity: of `QUANTITIES`.
        elements: by ascending atomic number.
        mean, spread: of each atom along time.
        skipped: frames left out, whose values are no numbers.
    """

    quantity: str
    elements: tuple[OfElement, ...]
    mean: Float[np.ndarray, "N"]
    spread: Float[np.ndarray, "N"]
    skipped: int = 0


def atomic_statistics(
    trajectory: Trajectory, quantity: str, *, progress: Progress | None = None, processes: int = 1
) -> OfAtoms:
    """Means and distributions of "charges" or "hirshfeld_ratios".

    Raises:
        InputError: the file does not hold it, values that are no numbers in all frames (in some: these are left out),
            frames that cannot be read.
    """
    if quantity not in QUANTITIES:
        raise InputError(f"{quantity!r} is no quantity of atoms; known: {', '.join(QUANTITIES)}")
    numbers = trajectory.topology.numbers
    elements = np.unique(numbers)
    members = [np.flatnonzero(numbers == z) for z in elements]
    histograms = [Histogram(WIDTH) for _ in elements]
    means: list[list[np.ndarray]] = [[] for _ in elements]
    used = 0
    first, sums, squares = None, np.zeros(len(numbers)), np.zeros(len(numbers))
    for values in over_blocks(
        trajectory, _values, quantity, wanted=(quantity,), progress=progress, processes=processes
    ):
        if not len(values):
            continue
        used += len(values)
        first = values[0] if first is None else first
        # about the first frame: squares of small numbers lose no digits
        sums += (values - first).sum(0)
        squares += np.square(values - first).sum(0)
        for histogram, mean, member in zip(histograms, means, members, strict=True):
            histogram.add(values[:, member])
            mean.append(values[:, member].mean(1))
    if first is None:
        raise InputError(f"{trajectory.path} holds {quantity.replace('_', ' ')} that are no numbers in all frames")
    shift = sums / used
    variance = np.maximum(squares / used - shift**2, 0.0)
    average = first + shift
    found = []
    for histogram, mean, member in zip(histograms, means, members, strict=True):
        spread = float(np.sqrt(variance[member].mean() + average[member].var()))
        symbol = str(trajectory.topology.symbols[member[0]])
        found.append(OfElement(symbol, len(member), np.concatenate(mean), spread, histogram.centres, histogram.density))
    return OfAtoms(quantity, tuple(found), average, np.sqrt(variance), len(trajectory) - used)


def _values(block: Block, quantity: str) -> Float[np.ndarray, "k N"]:
    values: np.ndarray = getattr(block, quantity)
    return values[np.isfinite(values).all(1)]


def skipped_words(skipped: int, what: str) -> list[str]:
    """A sentence about frames that were left out, if any were."""
    return [f"{skipped} frame(s) with {what} that are no numbers are left out."] if skipped else []


def _told(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    progress(before + done, total)


def show(trajectory: Trajectory, *, progress: Progress | None = None, processes: int = 1) -> Shown:
    """Partial charges and Hirshfeld ratios by element: means and distributions; of each atom in a table."""
    held = [quantity for quantity in QUANTITIES if quantity in trajectory.holds]
    panels, numbers = [], []
    notes: list[str] = []
    topology = trajectory.topology
    labels = np.array([topology.label(k) for k in range(len(topology))])
    table: dict[str, np.ndarray] = {"atom": np.arange(len(topology)), "label": labels}
    tables: dict[str, dict[str, np.ndarray]] = {}
    frames = len(trajectory)
    for number, quantity in enumerate(held):
        name, unit, column = QUANTITIES[quantity]
        told: Progress | None = None
        if progress is not None:
            told = partial(_told, progress, number * frames, len(held) * frames)
        found = atomic_statistics(trajectory, quantity, progress=told, processes=processes)
        notes += skipped_words(found.skipped, quantity.replace("_", " "))
        panels.append(
            Panel(
                f"distribution of the {name} by element",
                Axis(name, unit),
                Axis("probability density", f"1/{unit}" if unit else "", 0.0),
                tuple(Curve(item.symbol, item.value, item.probability, style="steps") for item in found.elements),
            )
        )
        for item in found.elements:
            mean, error = mean_with_error(item.mean)
            numbers.append(Number(f"{name} of {item.symbol}", mean, error, unit, f"spread {item.spread:.3f}"))
            tables[f"{column}_{item.symbol}"] = {column: item.value, "probability_density": item.probability}
        table |= {f"{column}_mean": found.mean, f"{column}_spread": found.spread}
    return Shown(
        name="charges",
        title="Charges and Hirshfeld ratios",
        panels=tuple(panels),
        numbers=tuple(numbers),
        notes=(
            "Of all atoms of an element in all frames, as the model gave them along the run; a Hirshfeld ratio is the "
            "volume of an atom in its surroundings over that of the free atom. Spreads are standard deviations.",
            *notes,
        ),
        tables={"atoms": table, **tables},
    )
