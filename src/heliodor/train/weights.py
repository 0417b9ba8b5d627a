"""Weights of the properties in the loss: whose they are, the papers' own, and how they change along a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from heliodor.errors import InputError, suggestion

SHAPES = ("linear", "cosine")

WEIGHT_FIELDS = {
    "energy": "energy_weight",
    "forces": "forces_weight",
    "stress": "stress_weight",
    "dipole": "dipole_weight",
    "hirshfeld_ratios": "hirshfeld_weight",
    "charges": "charges_weight",
    "node_energies": "node_energies_weight",
}
"""The setting for the weight of each property of a `Dataset`."""

_COMMON = {"energy": 1.0, "forces": 1.0, "dipole": 1.0, "hirshfeld_ratios": 0.1}
WEIGHTS = {
    "robust": _COMMON,
    "huber": _COMMON,
    "mse": _COMMON,
    "so3lr": {"forces": 10.0, "dipole": 1.0, "hirshfeld_ratios": 1.0},
    "mace": {"energy": 1.0, "forces": 100.0, "stress": 1.0},
}
"""Weights where none are given, by loss: those that SO3LR's published hyperparameters state, and the defaults of
MACE's own trainer."""

STAGE_TWO_WEIGHTS = {"mace": {"energy": 1000.0, "forces": 100.0, "stress": 10.0}}
"""Weights of stage two where none are given, by loss: the defaults of MACE's own trainer."""


@dataclass(frozen=True)
class Ramp:
    """From one value to another between two moments of a run; constant before and after.

    Attributes:
        start: value at first.
        end: value at last.
        shape: "linear", or "cosine": half a period of it, level at both ends.
        begin: fraction of the run at which the change begins.
        until: fraction of the run at which it is over.
    """

    start: float
    end: float
    shape: str = "linear"
    begin: float = 0.0
    until: float = 1.0

    def at(self, progress: float) -> float:
        """The value where so much of the run (0 to 1) is over."""
        if self.until <= self.begin:
            return self.start if progress < self.begin else self.end
        part = min(max((progress - self.begin) / (self.until - self.begin), 0.0), 1.0)
        if self.shape == "cosine":
            part = 0.5 * (1.0 - math.cos(math.pi * part))
        return self.start + (self.end - self.start) * part

    @property
    def largest(self) -> float:
        return max(self.start, self.end)


def read_ramp(value: Any, name: str) -> Ramp:
    """A ramp from names and values such as ``{start: 1, end: 100, shape: cosine, begin: 0.2, until: 0.8}``.

    Raises:
        InputError: an unknown or missing name, or values that mean nothing; `name` says whose.
    """
    if isinstance(value, Ramp):
        return value
    known = [f.name for f in fields(Ramp)]
    if not isinstance(value, Mapping):
        raise InputError(f"{name} must be a number, or such as {{start: 1, end: 100}}, not {value!r}")
    found: dict[str, Any] = {}
    for key, given in value.items():
        if key not in known:
            raise InputError(f"{name} has no entry {key!r}{suggestion(key, known)} (there are {', '.join(known)})")
        found[key] = given if key == "shape" else _number(given, f"{name}.{key}")
    for key in ("start", "end"):
        if key not in found:
            raise InputError(f"{name} lacks {key!r}: a weight that changes has a start and an end")
    ramp = Ramp(**found)
    if ramp.shape not in SHAPES:
        raise InputError(
            f"{name}.shape is one of {', '.join(SHAPES)}, not {ramp.shape!r}{suggestion(ramp.shape, SHAPES)}"
        )
    if not 0.0 <= ramp.begin <= ramp.until <= 1.0:
        raise InputError(
            f"{name} changes from begin to until, fractions of the run: 0 <= {ramp.begin:g} <= {ramp.until:g} <= 1 "
            "does not hold"
        )
    return ramp


def _number(value: Any, name: str) -> float:
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not math.isfinite(number):
        raise InputError(f"{name} must be a number, not {value!r}")
    return number
