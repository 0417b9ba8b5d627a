"""Durations as people write them."""

from __future__ import annotations

import re

from heliodor.errors import InputError

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str | float) -> float:
    """Seconds of a time such as ``"10 min"``, ``"1.5 h"``, ``"90 s"``; a number (not a text) is one of seconds.

    Raises:
        InputError: no time above zero, or a text without a unit.
    """
    if isinstance(text, str):
        match = re.fullmatch(
            r"\s*([0-9.eE+]+)\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)\s*", text, re.IGNORECASE
        )
        number, unit = match.groups() if match else ("nan", "s")
    else:
        number, unit = str(text), "s"
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if not 0.0 < value < float("inf"):
        raise InputError(f"cannot read {text!r} as a time above zero; write for example '10 min', '90 s' or '2 h'")
    return value * _SECONDS[unit[0].lower()]
