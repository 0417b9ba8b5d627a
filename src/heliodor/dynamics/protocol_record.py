"""What a protocol's folder says has been done, and with what: nothing is gone on with that is not the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ase
import numpy as np

from heliodor.dynamics.files.storage import write_durably
from heliodor.dynamics.protocol import BESIDE_MINIMIZE, Stage
from heliodor.dynamics.provenance import identity
from heliodor.dynamics.restraints.frozen import frozen_from
from heliodor.dynamics.settings import Settings
from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.system import read_charge, read_spin

RECORD = "protocol.json"
"""In the folder: what the protocol was begun with, and one entry per finished stage with settings and results."""

SAME = 1e-6
"""Å and amu; differences that rounding in a file may make."""

OTHER = {
    "model": "another model",
    "numbers": "another molecule",
    "charge": "another charge",
    "spin": "another spin",
    "pbc": "other periodic directions",
    "cell": "another cell",
    "positions": "another structure",
    "masses": "other masses",
    "fixed": "other fixed atoms",
}
"""What a record says of the beginning, and how to call it where it differs."""

SHOWN = 40
"""Characters; longer values are not told in errors."""


def read_record(folder: Path, atoms: ase.Atoms, potential: Potential, stages: Sequence[Stage]) -> dict[str, Any]:
    """What the folder says has been done, if it is of this protocol."""
    begun = {
        "model": identity(potential)["sha256"],
        "numbers": atoms.numbers.tolist(),
        "charge": read_charge(atoms),
        "spin": read_spin(atoms),
        "pbc": atoms.pbc.tolist(),
        "cell": atoms.cell.array.tolist(),
        "positions": atoms.positions.tolist(),
        "masses": atoms.get_masses().tolist(),
        "fixed": frozen_from(atoms).nonzero().flatten().tolist(),
    }
    path = folder / RECORD
    # of stages that were begun, finished or not
    moved = sorted(p for p in folder.glob("[0-9][0-9]-*") if p.suffix in (".h5", ".restart"))
    if not path.exists():
        if moved:
            raise InputError(f"{folder} holds {moved[0].name} and no {RECORD} to go with it; take another folder")
        return {**begun, "stages": []}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same = {name: _same(found[name], begun[name]) for name in OTHER}
        kept = [entry["settings"] for entry in found["stages"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged or of another version ({error}); take another folder") from None
    if not kept and not moved:
        # refused or failed before anything moved, which binds nobody
        return {**begun, "stages": []}
    for name, words in OTHER.items():
        if not same[name]:
            raise InputError(f"{folder} holds a protocol begun with {words}; take another folder")
    for number, (stage, settings) in enumerate(zip(stages, kept, strict=False), 1):
        if settings_of(stage) != settings:
            raise InputError(
                f"{folder} holds stage {number} ({stage.name}) done with other settings; take another folder, or put "
                "the protocol back as it was"
            )
    return found


def write_record(folder: Path, entries: dict[str, Any]) -> None:
    """Put the record in the folder, if it says anything new."""
    text = json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
    path = folder / RECORD
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_durably(path, text.encode())


def _same(old: Any, new: Any) -> bool:
    """Text and numbers, those but for rounding."""
    if isinstance(new, str):
        return bool(old == new)
    a, b = np.asarray(old, dtype=np.float64), np.asarray(new, dtype=np.float64)
    return a.shape == b.shape and bool((np.abs(a - b) <= SAME).all())


def settings_of(stage: Stage) -> dict[str, Any]:
    """All that the result of a stage depends on."""
    chosen = compared(stage.settings)
    if stage.relaxation is not None:
        chosen = asdict(stage.relaxation) | {name: chosen[name] for name in BESIDE_MINIMIZE}
    return {"name": stage.name, **chosen}


def compared(settings: Settings) -> dict[str, Any]:
    """Settings but for those that change no result."""
    chosen = settings.to_dict()
    del chosen["walltime"]
    # through JSON, so that what is compared with a file went the same way
    return json.loads(json.dumps(chosen))
