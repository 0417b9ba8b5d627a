"""Restart files: an MDState to the last bit, and what its run needs besides, in one file.

Tensors are stored by dotted name in safetensors, everything else as JSON in the header. The dataclasses of a state
are walked as they are, so a field that is added to one is stored without a change here. Reading executes nothing:
only the dataclasses found in the annotations of MDState are ever made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from heliodor.dynamics.files.storage import write_durably
from heliodor.dynamics.state import MDState
from heliodor.errors import CheckpointError
from heliodor.potential import Prediction

FORMAT = "heliodor-restart-1"


def save_state(path: str | Path, state: MDState, extra: dict[str, Any]) -> None:
    """Write a state so that a run goes on from it with the same bits.

    A file of that name is replaced only when the new one is complete and on the disk. `MDState.prediction` is left
    out: nothing of the motion depends on it.

    Args:
        extra: anything JSON can hold (floats exactly, inf and nan too; tuples come back as lists).

    Raises:
        StorageError: it cannot be written; an older file is left as it was.
    """
    tensors: dict[str, Tensor] = {}
    tree = _taken_apart(state, "", tensors, {})
    header = json.dumps({"format": FORMAT, "device": state.system.device.type, "state": tree, "extra": extra})
    metadata = {"heliodor": header, "sha256": _digest(header, tensors)}
    write_durably(Path(path), save(tensors, metadata))


def load_state(path: str | Path, device: torch.device | str = "cpu") -> tuple[MDState, dict[str, Any]]:
    """What `save_state` wrote.

    On another kind of device than it was saved from, the run goes on with other random numbers (seeded by the old
    ones): generators of CPUs and GPUs do not understand each other's states.

    Raises:
        CheckpointError: missing, damaged, of another format, or with parts this version does not know.
    """
    path = Path(path)
    header, tensors = _read(path)
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path} has restart format {header.get('format')!r}; this version reads {FORMAT}")
    device = torch.device(device)
    known: dict[str, Tensor] = {}
    try:
        state = _put_together(header["state"], tensors, known, device)
        if not isinstance(state, MDState):
            raise TypeError("no MDState in it")
        if header["device"] != device.type:
            seed = int.from_bytes(hashlib.sha256(_bytes(state.rng)).digest()[:7], "little")
            state = replace(state, rng=torch.Generator(device).manual_seed(seed).get_state())
        return state, header["extra"]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} does not fit this version of heliodor: {error}") from error


def _taken_apart(value: Any, name: str, tensors: dict[str, Tensor], known: dict[int, str]) -> Any:
    """JSON for a value; its tensors go into ``tensors``, each one once however often it is referred to."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        if id(value) not in known:
            known[id(value)] = name
            # a copy: safetensors will not have two tensors in one place, which views are
            tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        node: dict[str, Any] = {"tensor": known[id(value)]}
        dense = torch.empty_like(value, memory_format=torch.preserve_format)
        if not dense.is_contiguous():
            # sums depend on the order in memory
            node["stride"] = list(dense.stride())
        return node
    if isinstance(value, tuple):
        return {"tuple": [_taken_apart(item, f"{name}.{k}", tensors, known) for k, item in enumerate(value)]}
    cls = type(value).__name__
    if _classes().get(cls) is not type(value):
        raise TypeError(f"{name} of a state is a {cls}, which a restart file cannot hold")
    parts = {field.name: getattr(value, field.name) for field in fields(_classes()[cls])}
    inside = {
        key: _taken_apart(part, f"{name}.{key}".lstrip("."), tensors, known)
        for key, part in parts.items()
        if not isinstance(part, Prediction)
    }
    return {"class": cls, "fields": inside}


def _put_together(
    node: Any, tensors: dict[str, Tensor], known: dict[str, Tensor], device: torch.device, name: str = ""
) -> Any:
    """The value again. Whatever was one tensor is one tensor: `Neighbors` looks whether the cell is still the same."""
    if not isinstance(node, dict):
        return node
    if "tuple" in node:
        return tuple(_put_together(item, tensors, known, device) for item in node["tuple"])
    if "tensor" in node:
        key = node["tensor"]
        if key not in known:
            value = tensors[key]
            if "stride" in node:
                value = torch.empty_strided(value.shape, node["stride"], dtype=value.dtype).copy_(value)
            # the state of a generator is kept on the CPU, wherever the generator is
            known[key] = value if name == "rng" else value.to(device)
        return known[key]
    cls = _classes()[node["class"]]
    return cls(**{key: _put_together(part, tensors, known, device, key) for key, part in node["fields"].items()})


@cache
def _classes() -> dict[str, Any]:
    """The dataclasses a state can be made of, by name: MDState and whatever its fields are annotated with."""
    found: dict[str, type] = {}
    todo: list[type] = [MDState]
    while todo:
        cls = todo.pop()
        if cls.__name__ not in found:
            found[cls.__name__] = cls
            todo += [part for hint in get_type_hints(cls).values() for part in _dataclasses(hint)]
    return found


def _dataclasses(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and is_dataclass(hint) and hint is not Prediction:
        yield hint
    for part in get_args(hint):
        yield from _dataclasses(part)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of an intact file."""
    if not path.is_file():
        raise CheckpointError(f"there is no restart file {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            # copies: numbers mapped from a file lie anywhere, and some matrix products depend on the alignment
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        text, digest = metadata["heliodor"], metadata["sha256"]
        header = json.loads(text)
    except Exception as error:
        raise CheckpointError(f"{path} is damaged or not a heliodor restart file: {error}") from error
    if not isinstance(header, dict) or _digest(text, tensors) != digest:
        raise CheckpointError(f"{path} is damaged: its content does not match its own SHA-256; use an older one")
    return header, tensors


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 over the header and over names, types, shapes and values of all tensors."""
    digest = hashlib.sha256(text.encode())
    for key in sorted(tensors):
        digest.update(f"\n{key} {tensors[key].dtype} {tuple(tensors[key].shape)}\n".encode())
        digest.update(_bytes(tensors[key]))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()
