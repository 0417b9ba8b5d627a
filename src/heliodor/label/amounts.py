"""Amounts as people write them: memory, and durations as they are shown."""

from __future__ import annotations

import re

from heliodor.errors import InputError

_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BYTES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def parse_memory(text: str) -> int:
    """Bytes of an amount such as ``"4 GB"``, ``"512MiB"``.

    Raises:
        InputError: no positive number with such a unit.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]+)\s*", text)
    value = float(match.group(1)) * _BYTES.get(match.group(2).lower(), 0) if match else 0.0
    if value <= 0.0:
        raise InputError(
            f"cannot read {text!r} as an amount of memory above zero; write for example '4 GB', '500 MB' or '2 GiB'"
        )
    return round(value)


def format_duration(seconds: float) -> str:
    """``"45 s"``, ``"3.2 min"``, ``"12.5 h"``, ``"4.1 d"``."""
    for unit, scale, from_ in (("d", 86400.0, 2 * 86400.0), ("h", 3600.0, 5400.0), ("min", 60.0, 90.0)):
        if seconds >= from_:
            return f"{seconds / scale:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10.0 else f"{seconds:.2g} s"


def format_memory(size: float) -> str:
    """``"3.1 GB"``, ``"420 MB"``."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} bytes"
