"""Where a run comes from: model, inputs, versions, settings, so that it can be repeated; and telling models apart."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from heliodor.dynamics.files.storage import write_durably
from heliodor.potential import Potential

PACKAGES = ("torch", "numpy", "ase", "vesin", "h5py", "numba")


def identity(potential: Potential) -> dict[str, Any]:
    """What must be the same when a run goes on: how to load the model, and a hash of its parameters.

    Of a model with restraints, that of the model.
    """
    inner = getattr(potential, "inner", potential)
    cutoff = inner.long_range_cutoff
    return {
        "name": inner.name,
        "source": inner.source,
        "sha256": fingerprint(inner),
        "kernels": inner.kernels,
        "dtype": str(inner.dtype).removeprefix("torch."),
        "long_range_cutoff": cutoff if cutoff is None or isinstance(cutoff, str) else float(cutoff),
    }


def fingerprint(potential: Potential) -> str:
    """SHA-256 over names and values of all parameters and buffers, in the dtype the model runs in."""
    digest = hashlib.sha256(potential.name.encode())
    for name, tensor in sorted(potential.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def command_line() -> str:
    """How this process was started, as a person would start it again."""
    program = Path(sys.argv[0])
    if program.name in ("heliodor", "__main__.py"):
        return shlex.join(["heliodor", *sys.argv[1:]])
    return shlex.join(sys.argv)


def sha256_of(path: str | Path) -> str:
    """Of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record(potential: Potential, settings: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Everything needed to repeat a run, as JSON: command, versions, machine, model, settings.

    Args:
        more: inputs and outputs, by name.
    """
    return {
        "command": command_line(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {"heliodor": _own_version(), "python": platform.python_version()} | _versions(),
        "machine": {
            "host": platform.node(),
            "system": platform.platform(),
            "device": _device(potential),
            "threads": torch.get_num_threads(),
        },
        "model": identity(potential)
        | {key: potential.card[key] for key in ("citation", "licence") if key in potential.card}
        | _force_error(potential),
        "settings": dict(settings),
        **more,
    }


def write_record(path: Path, entry: dict[str, Any], go_on: bool = False) -> None:
    """Write the record beside the trajectory; that of a restart is added to what stands there."""
    if go_on and path.exists():
        try:
            whole = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            whole = {}
        whole.setdefault("restarts", []).append(entry)
        entry = whole
    write_durably(path, (json.dumps(entry, indent=2, ensure_ascii=False) + "\n").encode())


def _force_error(potential: Potential) -> dict[str, Any]:
    """What its statements about errors of forces mean, of a model that makes any."""
    told = getattr(potential, "inner", potential).uncertainty
    return {} if told is None else {"force_error": {"level": told.level, "limit_eV_per_A": told.limit}}


def _own_version() -> str:
    from heliodor import __version__

    return __version__


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _device(potential: Potential) -> str:
    if potential.device.type == "cuda":
        return torch.cuda.get_device_name(potential.device)
    return f"CPU {platform.processor() or platform.machine()}"
