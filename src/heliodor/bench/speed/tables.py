"""Timings as a table for the terminal, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from heliodor.bench.speed.measure import Timing
from heliodor.bench.speed.parts import Part
from heliodor.bench.speed.rates import Rates

COLUMNS = ("system", "atoms", "kernel", "ms/step", "±", "µs/atom/step", "floor", "ns/day", "MB", "lists", "deviation")
"""Floor: µs for each atom and step that the hardware needs at least, and what part of the time that is."""


def floor_of(timing: Timing, rates: Rates) -> float | None:
    """µs for each atom and step; None where nothing is counted."""
    if timing.operations is None or timing.bytes is None:
        return None
    return 1e6 * max(timing.operations / rates.operations, timing.bytes / rates.bandwidth)


def text(timings: Sequence[Timing], rates: Rates) -> str:
    """The table, a line of titles and one for each size."""
    lines = [list(COLUMNS)] + [_line(timing, rates) for timing in timings]
    widths = [max(len(line[k]) for line in lines) for k in range(len(COLUMNS))]
    ranged = [
        "  ".join(
            cell.ljust(w) if k in (0, 2) else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in ranged)


def parts_text(timing: Timing, rates: Rates) -> str:
    """What the floor of one size is made of, each part in µs for each atom and step."""
    lines = []
    for values in timing.parts:
        part = Part(**values)
        arithmetic, memory = 1e6 * part.operations / rates.operations, 1e6 * part.bytes / rates.bandwidth
        lines.append(
            f"  {part.name:<18} {part.operations / 1e3:9.1f} kFLOP {arithmetic:9.3g} µs   "
            f"{part.bytes / 1e3:8.2f} kB {memory:9.3g} µs"
        )
    return "\n".join(lines)


def csv_text(timings: Sequence[Timing], rates: Rates) -> str:
    """A row for each size."""
    rows = [plain(timing, rates) for timing in timings]
    out = io.StringIO()
    if rows:
        names = [name for name in rows[0] if name != "parts"]
        writer = csv.DictWriter(out, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def plain(timing: Timing, rates: Rates) -> dict[str, Any]:
    """All there is to say of a size, in plain values."""
    low = floor_of(timing, rates)
    return asdict(timing) | {
        "us_per_atom": timing.us_per_atom,
        "ns_per_day": timing.ns_per_day,
        "floor_us_per_atom": low,
        "floor_fraction": None if low is None else low / timing.us_per_atom,
    }


def _line(timing: Timing, rates: Rates) -> list[str]:
    low = floor_of(timing, rates)
    share = "-" if low is None else f"{_number(low)} ({100.0 * low / timing.us_per_atom:.1f} %)"
    return [
        timing.system,
        str(timing.atoms),
        timing.kernel,
        _number(timing.ms_per_step),
        f"{100.0 * timing.spread:.0f} %",
        _number(timing.us_per_atom),
        share,
        _number(timing.ns_per_day),
        f"{timing.memory_MB:.0f}",
        str(timing.rebuilds),
        f"{timing.deviation:.0e}",
    ]


def _number(value: float) -> str:
    """Three figures, no exponent where that is readable."""
    return f"{value:.0f}" if value >= 100.0 else f"{value:#.3g}".rstrip(".")
