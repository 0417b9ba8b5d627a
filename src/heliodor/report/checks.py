"""A verdict in a word and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "look", "bad", "unknown"]

WORDS: dict[Verdict, str] = {"ok": "ok", "look": "look", "bad": "bad", "unknown": "not known"}

ORDER: tuple[Verdict, ...] = ("ok", "unknown", "look", "bad")
"""From best to worst."""


@dataclass(frozen=True)
class Check:
    """One line of the list of checks.

    Attributes:
        name: what was looked at.
        verdict: "ok"; "look": a person should; "bad": not to be trusted; "unknown": nothing to judge by.
        words: why.
    """

    name: str
    verdict: Verdict
    words: str


def worst(checks: tuple[Check, ...]) -> Verdict:
    """Of several; "unknown" for none."""
    return max((check.verdict for check in checks), key=ORDER.index, default="unknown")
