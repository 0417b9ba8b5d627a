"""Figures as JSON for the page's own drawing routine; arrays as base64 of 32-bit numbers."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from heliodor.analysis.show import Axis, Curve, Heat
from heliodor.report.merge import Drawn, Figure

POINTS = 4000
"""Points of a line that are drawn; of more, the lowest and highest of each stretch, so that no peak is lost."""

SCATTERED = 6000
"""Single points that are drawn; of more, evenly chosen ones."""

CELLS = 1200
"""Columns and rows of a map that are drawn."""


def figure_json(figure: Figure) -> dict[str, Any]:
    """What the page draws."""
    return {
        "title": figure.title,
        "x": _axis(figure.x),
        "y": _axis(figure.y),
        "curves": [_curve(drawn) for drawn in figure.drawn],
        "heat": None if figure.heat is None else _heat(figure.heat),
    }


def thinned(figure: Figure) -> str:
    """What of a figure is not drawn, in words; empty where all is."""
    lines = [d.curve for d in figure.drawn if d.curve.style != "points" and len(d.curve.x) > POINTS]
    points = [d.curve for d in figure.drawn if d.curve.style == "points" and len(d.curve.x) > SCATTERED]
    if points:
        return f"{SCATTERED} of {max(len(c.x) for c in points)} points are drawn, evenly chosen."
    if lines:
        return f"Of {max(len(c.x) for c in lines)} points the lowest and highest of each stretch are drawn."
    return ""


def wide(figure: Figure) -> bool:
    """Whether it wants the whole width: maps of many residues along time."""
    heat = figure.heat
    return heat is not None and (bool(heat.kinds) or bool(heat.y_names)) and len(heat.x) > 60


def packed(values: np.ndarray) -> str:
    """Base64 of little-endian 32-bit floating-point numbers."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()


def _bytes(values: np.ndarray) -> str:
    """Base64 of whole numbers from -1 (none) to 126."""
    whole = np.where(np.isfinite(values), values, -1.0)
    return base64.b64encode(whole.astype(np.int8).tobytes()).decode()


def _axis(axis: Axis) -> dict[str, Any]:
    return {"title": axis.title, "low": _finite(axis.low), "high": _finite(axis.high), "log": axis.log}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _curve(drawn: Drawn) -> dict[str, Any]:
    curve = drawn.curve
    keep = _kept(curve)
    found: dict[str, Any] = {
        "name": curve.name,
        "x": packed(np.asarray(curve.x)[keep]),
        "y": packed(np.asarray(curve.y)[keep]),
        "style": curve.style,
        "reference": curve.reference,
        "colour": drawn.colour,
        "dash": drawn.dash,
    }
    if curve.low is not None and curve.high is not None:
        found |= {"low": packed(np.asarray(curve.low)[keep]), "high": packed(np.asarray(curve.high)[keep])}
    if curve.colours is not None:
        found["colours"] = packed(np.asarray(curve.colours)[keep])
        if curve.colour_axis is not None:
            found["colour_axis"] = _axis(curve.colour_axis)
    return found


def _kept(curve: Curve) -> np.ndarray:
    n = len(curve.x)
    if curve.style == "points":
        return np.arange(n) if n <= SCATTERED else np.linspace(0, n - 1, SCATTERED).astype(int)
    if n <= POINTS:
        return np.arange(n)
    y = np.asarray(curve.y, dtype=float)
    edges = np.linspace(0, n, POINTS // 2 + 1).astype(int)
    kept = []
    for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        piece = y[first:last]
        if np.isnan(piece).all():
            kept.append(first)
            continue
        kept += sorted({first + int(np.nanargmin(piece)), first + int(np.nanargmax(piece))})
    return np.array(kept)


def _heat(heat: Heat) -> dict[str, Any]:
    values, x, y = (
        np.asarray(heat.values, dtype=float),
        np.asarray(heat.x, dtype=float),
        np.asarray(heat.y, dtype=float),
    )
    columns = np.arange(len(x)) if len(x) <= CELLS else np.linspace(0, len(x) - 1, CELLS).astype(int)
    rows = np.arange(len(y)) if len(y) <= CELLS or heat.y_names else np.linspace(0, len(y) - 1, CELLS).astype(int)
    values = values[np.ix_(rows, columns)]
    found: dict[str, Any] = {
        "x": packed(x[columns]),
        "y": packed(y[rows]),
        "z": _bytes(values) if heat.kinds else packed(values),
        "axis": _axis(heat.axis),
        "kinds": [list(kind) for kind in heat.kinds],
        "names": list(heat.y_names),
    }
    return found
