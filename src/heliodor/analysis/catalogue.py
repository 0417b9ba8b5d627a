"""All analyses of trajectories, by name."""

from __future__ import annotations

import importlib
from functools import cache

from heliodor.analysis.show import Analysis
from heliodor.errors import InputError, suggestion

ROOMS = (
    "heliodor.analysis.proteins",
    "heliodor.analysis.conformations",
    "heliodor.analysis.liquids",
    "heliodor.analysis.spectra",
    "heliodor.analysis.membranes",
)
"""Packages with an ``ANALYSES`` tuple, in the order of a report."""


@cache
def catalogue() -> dict[str, Analysis]:
    """Every analysis, in the order of a report."""
    return {analysis.name: analysis for room in ROOMS for analysis in importlib.import_module(room).ANALYSES}


def find(name: str) -> Analysis:
    """One by name.

    Raises:
        InputError: there is none of that name.
    """
    known = catalogue()
    name = name.strip().lower().replace("-", "_")
    if name not in known:
        raise InputError(f"there is no analysis {name!r}{suggestion(name, known)}; known: {', '.join(known)}")
    return known[name]
