"""Every choice of a distillation, read from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heliodor.choices import explain_fields, option, read_fields
from heliodor.errors import InputError


@dataclass(frozen=True, kw_only=True)
class StudentChoices:
    """The model that learns."""

    name: str = option("student", "Its name, kept in the card.")
    architecture: str = option("so3lr", "so3lr, mace or spookynet.")
    size: str | Mapping[str, Any] = option(
        "small", "small, medium, large, or fields of the architecture, such as {n_features: 64, n_layers: 2}."
    )
    start: str | None = option(None, "A model whose weights it begins with, by name or file; decides on the shape.")
    physics: bool = option(True, "Take the teacher's repulsion over, unchanged, where both have SO3LR's form.")


@dataclass(frozen=True, kw_only=True)
class StructureChoices:
    """What is asked of the teacher."""

    recipe: str | Mapping[str, int] = option(
        "small", "Of generated structures: tiny, small, wide, or numbers by family, see docs/structures.md."
    )
    dynamics: int = option(
        0,
        "Start the teacher's own dynamics (300, 500, 1000 K) from so many of them; adds four distant frames of each.",
    )
    max_force: float = option(15.0, "eV/Å; structures with a larger force are left out.")
    periodic_cutoff: float = option(
        12.0, "Å, of the long-range terms in periodic boxes, for teacher and student alike; 6 is cheaper to train with."
    )
    validation: float = option(
        0.02, "Share that the training watches, whole groups of it; of generated structures a sixteenth or several."
    )
    test: float = option(0.03, "Share that is held out until the end, likewise.")


@dataclass(frozen=True, kw_only=True)
class ActiveChoices:
    """Structures chosen by the disagreement of a committee of students."""

    rounds: int = option(0, "How often; 0: all structures are learned from at once.")
    begin: float = option(0.3, "Share of the structures learned from in the first round.")
    take: int = option(500, "Structures taken in each round.")
    members: int = option(2, "Students of the committee.")
    time: str = option("5 min", "Training of each member in each round.")


@dataclass(frozen=True, kw_only=True)
class DistilChoices:
    """All choices of one distillation."""

    seed: int = option(0, "Of everything random.")
    student: StudentChoices = field(default_factory=StudentChoices, metadata={"help": "The model that learns."})
    structures: StructureChoices = field(default_factory=StructureChoices, metadata={"help": "What is asked."})
    features: int = option(
        0, "Before the training, match so many principal components of the teacher's last features; 0 for none."
    )
    features_epochs: float = option(2.0, "Passes over the structures for that.")
    active: ActiveChoices = field(default_factory=ActiveChoices, metadata={"help": "Active selection."})
    train: Mapping[str, Any] = option(
        {"time": "30 min"}, "How, such as {time: 2 h}; see heliodor.train.settings.TrainSettings."
    )


def read_distil_choices(values: Mapping[str, Any]) -> DistilChoices:
    """Choices from what a YAML file holds.

    Raises:
        InputError: a name that no choice has, or a value that cannot be.
    """
    choices = read_fields(DistilChoices, values)
    s, a = choices.structures, choices.active
    for name, share in (("structures.validation", s.validation), ("structures.test", s.test)):
        if not 0.0 < share < 0.5:
            raise InputError(f"{name} is a share above 0 and below 0.5, not {share:g}")
    if not 0.0 < a.begin < 1.0 or a.take < 1 or a.members < 2 or a.rounds < 0:
        raise InputError("active: begin lies between 0 and 1, take is 1 or more, members 2 or more, rounds 0 or more")
    if s.periodic_cutoff < 4.5 or s.max_force <= 0:
        raise InputError("structures: periodic_cutoff is at least 4.5 Å and max_force above zero")
    if choices.features < 0 or not choices.features_epochs > 0:
        raise InputError("features is a number of components from 0 on, features_epochs above zero")
    return choices


def explain(choices: DistilChoices | None = None) -> str:
    """All choices with their values as commented YAML; the defaults if none are given."""
    return explain_fields(DistilChoices() if choices is None else choices)
