"""What checks found, in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from heliodor.train.data.consistency import Consistency

NAMED = 8
"""Structures listed in a line."""


@dataclass(frozen=True, eq=False)
class Finding:
    """One thing that is wrong, or may be.

    Attributes:
        severity: an error is to be mended before training; a warning is to be known.
        about: what it concerns, in a word or two.
        text: what it is.
        structures: which have it; none if it concerns the set.
    """

    severity: Literal["error", "warning"]
    about: str
    text: str
    structures: Int[np.ndarray, "k"] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __str__(self) -> str:
        if not len(self.structures):
            return self.text
        named = ", ".join(str(k) for k in self.structures[:NAMED].tolist())
        more = " ..." if len(self.structures) > NAMED else ""
        count = len(self.structures)
        return f"{self.text}: {count} structure{'s' * (count > 1)} ({named}{more})"


@dataclass(frozen=True, eq=False)
class Report:
    """All findings about a set, errors first.

    Attributes:
        count: structures that were looked at.
        facts: sentences by title.
        consistency: of energies with forces.
    """

    count: int
    findings: tuple[Finding, ...]
    facts: Mapping[str, str]
    consistency: Consistency

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    def about(self, word: str) -> tuple[Finding, ...]:
        """Those that concern something, such as "units"."""
        return tuple(finding for finding in self.findings if finding.about == word)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "structures": self.count,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "findings": [
                {"severity": f.severity, "about": f.about, "text": f.text, "structures": f.structures.tolist()}
                for f in self.findings
            ],
            "consistency": {
                "pairs": len(self.consistency.pairs),
                "slope": self.consistency.slope,
                "scale": self.consistency.scale,
                "correlation": self.consistency.correlation,
                "verdict": self.consistency.verdict,
            },
            **self.facts,
        }
