"""conformations: filled by its files."""

from __future__ import annotations

from heliodor.analysis.show import Analysis

ANALYSES: tuple[Analysis, ...] = ()
