"""Numbers as people read them: to the figures that their errors allow, with units."""

from __future__ import annotations

import math

MANY = 1e5
FEW = 1e-4
"""Sizes beyond which a number is written with a power of ten."""

EXACT = 1e-7
"""Fraction of a value below which an error is that of arithmetic."""

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def measured(value: float, error: float | None = None, unit: str = "") -> str:
    """``"0.230 ± 0.005 Å²/ps"``: the error to one figure (two if it begins with a one), the value to the same place.

    Without an error four figures; "–" for what is no number.
    """
    if not math.isfinite(value):
        return "–"
    if error is None or not math.isfinite(error) or error <= EXACT * abs(value):
        text = _plain(value)
    else:
        scale = max(abs(value), error)
        power = math.floor(math.log10(scale)) if scale >= MANY or scale < FEW else 0
        decimals = _decimals(error / 10.0**power)
        value_text = _signed(value / 10.0**power, decimals)
        text = f"{value_text} ± {error / 10.0**power:.{decimals}f}"
        if power:
            text = f"({text}) × 10{str(power).translate(_RAISED)}"
    return f"{text} {unit}".rstrip()


def count(number: int) -> str:
    """``"12 345"`` with thin spaces."""
    return f"{number:,}".replace(",", "\u202f")


def size(n_bytes: int) -> str:
    """``"3.2 MB"``."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"


def _decimals(error: float) -> int:
    power = math.floor(math.log10(error))
    leading = error / 10.0**power
    # 0.96 rounds to 1.0, which begins with a one; not worth a second figure
    return max(0, (1 if leading < 1.95 else 0) - power)


def _plain(value: float) -> str:
    if value == 0.0:
        return "0"
    if abs(value) >= MANY or abs(value) < FEW:
        power = math.floor(math.log10(abs(value)))
        return f"{_minus(f'{value / 10.0**power:.3g}')} × 10{str(power).translate(_RAISED)}"
    return _minus(f"{value:.4g}")


def _signed(value: float, decimals: int) -> str:
    return _minus(f"{value:.{decimals}f}")


def _minus(text: str) -> str:
    return text.replace("-", "−")
