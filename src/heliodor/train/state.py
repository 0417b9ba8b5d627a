"""The state of a run on disk: everything that decides what comes next, whole at every moment."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.train.dataset import PER_ATOM, PER_STRUCTURE, Dataset
from heliodor.train.settings import NOT_OF_THE_RESULT, TrainSettings

FORMAT = "heliodor-training-1"

ROWS = 100_000
"""Of a set's arrays, read at a time."""


def fingerprint(model: Potential, training: Dataset, validation: Dataset, settings: TrainSettings) -> str:
    """SHA-256 of all that decides a run's result."""
    digest = hashlib.sha256(FORMAT.encode())
    chosen = {k: v for k, v in settings.to_dict().items() if k not in NOT_OF_THE_RESULT}
    digest.update(json.dumps(chosen, sort_keys=True, default=dict).encode())
    digest.update(type(model).__name__.encode())
    config = getattr(model, "config", None)
    shape = config.to_dict() if config is not None else {}
    kept = {"config": shape, "references": model.card.get("reference_energies")}
    digest.update(json.dumps(kept, sort_keys=True, default=str).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + np.ascontiguousarray(value.detach().cpu().numpy()).tobytes())
    frozen = sorted(name for name, p in model.named_parameters() if not p.requires_grad)
    if frozen:
        digest.update("\0".join(["frozen", *frozen]).encode())
    for dataset in (training, validation):
        for name in ("offsets", *PER_ATOM, *PER_STRUCTURE):
            values = getattr(dataset, name)
            # some at a time: a set may lie on the disk because it does not fit in memory
            for begin in range(0, len(values), ROWS):
                part = values[begin : begin + ROWS]
                if values.dtype.kind in "OU":
                    digest.update(("\0" * (begin > 0) + "\0".join(map(str, part))).encode())
                else:
                    # files keep some numbers in fewer bits
                    wide = np.float64 if values.dtype.kind == "f" else np.int64
                    digest.update(np.ascontiguousarray(part, dtype=wide).tobytes())
    return digest.hexdigest()


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write to a temporary name, flush, rename.

    Raises:
        InputError: the disk is full, or cannot be written; the last good state stays.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise InputError(
            f"{path} could not be written ({error}): make room and start the same run again, it goes on from its last "
            "checkpoint"
        ) from None


def read_state(path: Path, key: str) -> dict[str, Any] | None:
    """The state of an unfinished run, or nothing.

    Raises:
        InputError: the file is damaged, or belongs to a run of other data, settings or model.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        same = state["key"] == key and state["format"] == FORMAT
    except Exception as error:  # a damaged file fails in many ways
        raise InputError(f"{path} is damaged ({error}): delete it to train from the beginning") from None
    if not same:
        raise other_run(path.parent)
    return state


def other_run(folder: Path) -> InputError:
    return InputError(
        f"{folder} holds a run of other data, settings or another model: choose another folder, or delete this one"
    )


def write_text(path: Path, text: str) -> None:
    """Replace a small file in one piece."""
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path} could not be written ({error})") from None
