"""Everything the finished force field is held against, as sections for the page, pictures and numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.analysis.drawing import draw
from heliodor.analysis.show import Shown
from heliodor.api import load
from heliodor.dynamics.files.storage import write_durably
from heliodor.errors import HeliodorError
from heliodor.gems import cooperativity, fit, validate
from heliodor.gems.config import Config
from heliodor.potential import Potential
from heliodor.train.dataset import Dataset
from heliodor.train.references import References

MAIN = "force field"
NAMES = {"model": MAIN, "model-bottom-up": "without top-down fragments"}

SETS = {
    "held-out": ("fragments", "Top-down fragments it has not seen"),
    "whole": ("whole", "The whole molecule, in conformations it has not seen"),
}
"""By kind of structure: name and title of the section."""


def models(folder: Path, config: Config) -> dict[str, Potential]:
    """The trained models by their names for people, in float64."""
    return {
        NAMES[one.name]: load(folder / f"{one.name}.safetensors", device="cpu", dtype="float64")
        for one in fit.fits(config)
    }


def sections(
    folder: Path, config: Config, say: Callable[[str, int, int], None] = lambda what, done, of: None
) -> list[Shown]:
    """What the page shows in front of the analyses of the run."""
    potentials = models(folder, config)
    labelled = Dataset.read(folder / "labelled.h5")
    found = []
    for kind, (name, title) in SETS.items():
        mine = labelled.take(np.flatnonzero(labelled.kind == kind))
        if len(mine) < 2:
            continue
        held = []
        for k, (model, potential) in enumerate(potentials.items()):
            say(f"{model} on {len(mine)} structures ({kind})", k, len(potentials))
            held.append(validate.hold(potential, mine, references_of(potential), model))
        found.append(validate.show(name, title, held, labelled.method))
    if config.validate.helix is not None:
        found.append(cooperativity.show(cooperativity.read_series(folder, potentials)))
    return found


def references_of(potential: Potential) -> References:
    """Energies of elements that a trained model's energies are relative to.

    Raises:
        HeliodorError: a model that does not say.
    """
    found = References.from_card(potential.card)
    if found is None:
        raise HeliodorError(f"the card of {potential.name} holds no reference energies: train it again")
    return found


def judge(folder: Path, config: Config, say: Callable[[str, int, int], None]) -> Mapping[str, Any]:
    """Write ``validation.json`` and a picture of each section."""
    shown = sections(folder, config, say)
    record: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    for section in shown:
        draw(section, folder / f"validation-{section.name}.png")
        record[section.name] = {
            "title": section.title,
            "numbers": [{"name": n.name, "value": n.value, "unit": n.unit} for n in section.numbers],
            "notes": list(section.notes),
            "tables": {
                name: {column: np.asarray(values).tolist() for column, values in table.items()}
                for name, table in section.tables.items()
            },
        }
        for number in section.numbers[:2]:
            facts[f"{section.name}: {number.name.removeprefix(MAIN + ': ')} ({number.unit})"] = round(number.value, 3)
    write_durably(folder / "validation.json", json.dumps(record, indent=1, ensure_ascii=False).encode())
    return facts
