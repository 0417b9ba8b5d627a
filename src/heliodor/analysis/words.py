"""Numbers as people write them."""

from __future__ import annotations

import math


def value_with_error(value: float, error: float | None = None) -> str:
    """``"0.231 ± 0.012"``: the error to two figures, the value to the same place; five figures without an error."""
    if not math.isfinite(value):
        return "not known"
    if error is None or not math.isfinite(error) or error <= 0.0:
        return f"{value:.5g}"
    exponent = math.floor(math.log10(error))
    decimals = 1 - exponent
    if decimals < 0 or abs(value) >= 1e7 or (abs(value) < 1e-4 and error < 1e-4):
        digits = max(0, math.floor(math.log10(max(abs(value), error))) - exponent + 1)
        return (
            f"{value:.{digits}e} ± {error:.1e}" if abs(value) >= 1e7 or error < 1e-4 else f"{value:.0f} ± {error:.0f}"
        )
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"
