"""What a model says of a prediction it does not trust."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Doubt:
    """A model is asked outside what it knows: one of what `Potential.doubts(system, prediction)` returns.

    Attributes:
        atoms: indices over the whole batch; empty where no atoms can be named.
        text: what is doubtful in a few words, without names of atoms: "outside the training data (descriptor distance
            4.1, limit 2.5)". The same doubt about the same atoms is the same text up to its numbers.
    """

    atoms: tuple[int, ...]
    text: str
