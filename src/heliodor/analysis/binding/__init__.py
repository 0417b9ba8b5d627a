"""Binding curves: two rigid molecules pulled apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliodor.lazy import attach

if TYPE_CHECKING:
    from heliodor.analysis.binding.curve import BindingCurve, binding_curve
    from heliodor.analysis.binding.draw import draw_binding
    from heliodor.analysis.binding.fragments import two_fragments

__all__ = ["BindingCurve", "binding_curve", "draw_binding", "two_fragments"]

_HOMES = {
    "BindingCurve": "heliodor.analysis.binding.curve",
    "binding_curve": "heliodor.analysis.binding.curve",
    "draw_binding": "heliodor.analysis.binding.draw",
    "two_fragments": "heliodor.analysis.binding.fragments",
}

__getattr__, __dir__ = attach(__name__, _HOMES)
