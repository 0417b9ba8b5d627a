"""Checkpoints: safetensors for the numbers, JSON in the header for everything else.

A checkpoint never executes anything when read. Tensors are float32 wherever that loses nothing and float64
where it would.
"""

from __future__ import annotations

import hashlib
import json
import struct
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save_file
from torch import Tensor

from heliodor.errors import CheckpointError
from heliodor.potential import ModelWarning, Potential
from heliodor.uncertainty import ForceError, ForceErrorConfig, weights_digest

FORMAT = "heliodor-checkpoint-1"
MAX_HEADER = 4 * 2**20


def sha256(path: str | Path) -> str:
    """Hex digest of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def architectures() -> dict[str, tuple[type[Potential], Any]]:
    """Model classes by the name a checkpoint gives, each with its configuration class."""
    from heliodor.potentials.mace import MACE, MACEConfig
    from heliodor.potentials.mace_dielectric import MACEDielectric, MACEDielectricConfig
    from heliodor.potentials.so3lr import SO3LR, SO3LRConfig
    from heliodor.potentials.spookynet import SpookyNet, SpookyNetConfig
    from heliodor.potentials.sum import Sum, SumConfig

    return {
        "so3lr": (SO3LR, SO3LRConfig),
        "spookynet": (SpookyNet, SpookyNetConfig),
        "mace": (MACE, MACEConfig),
        "mace-dielectric": (MACEDielectric, MACEDielectricConfig),
        "sum": (Sum, SumConfig),
    }


def save_checkpoint(potential: Potential, path: str | Path, card: dict[str, Any] | None = None) -> None:
    """Write a potential: to a temporary name first, then renamed, so that a killed writer harms nothing.

    An `uncertainty` goes with it, unless the weights have changed since it was fitted: then it is left out, with a
    warning.

    Args:
        card: what a reader should know: name, licence, citation, origin, how it was made, errors.
    """
    path = Path(path)
    by_class = {cls: name for name, (cls, _) in architectures().items()}
    if type(potential) not in by_class:
        raise CheckpointError(f"no checkpoint format for {type(potential).__name__}")
    header = {
        "format": FORMAT,
        "architecture": by_class[type(potential)],
        "config": potential.config.to_dict(),  # type: ignore[union-attr, operator]
        "card": {"name": potential.name, **(card or {})},
    }
    uncertainty = potential.uncertainty
    if uncertainty is not None and uncertainty.config.weights != weights_digest(potential):
        warnings.warn(
            f"{path}: written without the uncertainty of forces, which belongs to other weights of {potential.name}: "
            "fit it again",
            ModelWarning,
            stacklevel=2,
        )
        uncertainty = None
    if uncertainty is not None:
        header["uncertainty"] = uncertainty.config.to_dict()
    tensors: dict[str, Tensor] = {}
    for key, value in potential.state_dict().items():
        if uncertainty is None and key.startswith("uncertainty."):
            continue
        value = value.detach().cpu().contiguous()
        if value.is_floating_point() and torch.equal(value.float().to(value.dtype), value):
            value = value.float()
        tensors[key] = value
    header["tensors_sha256"] = _digest(tensors)
    temporary = path.with_name(path.name + ".part")
    # sorted, so that the same model always gives the same bytes
    save_file(tensors, temporary, metadata={"heliodor": json.dumps(header, sort_keys=True)})
    temporary.replace(path)


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key].contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON header of a checkpoint, without its tensors.

    Raises:
        CheckpointError: missing, not a checkpoint of ours, or damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else MAX_HEADER + 1
            if length > MAX_HEADER:
                raise CheckpointError(f"{path} is not a heliodor checkpoint")
            metadata = json.loads(file.read(length)).get("__metadata__", {})
            header = json.loads(metadata["heliodor"])
    except FileNotFoundError:
        raise CheckpointError(f"no such model file: {path}") from None
    except (ValueError, KeyError, OSError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a heliodor checkpoint, or is damaged") from error
    if not isinstance(header, dict) or not isinstance(header.get("card", {}), dict):
        raise CheckpointError(f"{path} is not a heliodor checkpoint, or is damaged")
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {header.get('format')!r}; this version reads {FORMAT}")
    return header


def built(entry: dict[str, Any]) -> Potential:
    """A float64 potential as a header describes it (architecture, config, uncertainty), parameters yet to be filled.

    Raises:
        CheckpointError: an architecture that is not known.
    """
    known = architectures()
    if entry["architecture"] not in known:
        raise CheckpointError(f"architecture {entry['architecture']!r} is not known, only {', '.join(known)}")
    cls, config_class = known[entry["architecture"]]
    build: Any = getattr(cls, "from_config", cls)
    potential: Potential = build(config_class.from_dict(entry["config"])).double()
    if entry.get("uncertainty") is not None:
        potential.uncertainty = ForceError(ForceErrorConfig.from_dict(entry["uncertainty"])).double()
    return potential


def load_checkpoint(path: str | Path, expected_sha256: str | None = None) -> Potential:
    """Read a potential, in float64 on the CPU, its card in ``potential.card``.

    Raises:
        CheckpointError: missing, damaged, tampered with (hash or shapes differ), or of unknown architecture.
    """
    path = Path(path)
    header = read_header(path)
    content = path.read_bytes()
    if expected_sha256 and hashlib.sha256(content).hexdigest() != expected_sha256:
        raise CheckpointError(f"{path} is not the file it should be (SHA-256 differs): damaged or tampered with")
    known = architectures()
    name = str(header.get("architecture"))
    if name not in known:
        raise CheckpointError(
            f"{path} holds architecture {header.get('architecture')!r}; this version knows {', '.join(known)}"
        )
    try:
        potential = built(header)
        stored = load_bytes(content)
        intact = _digest(stored) == header["tensors_sha256"]
        potential.load_state_dict({k: v.double() if v.is_floating_point() else v for k, v in stored.items()})
    except Exception as error:
        raise CheckpointError(f"{path} is damaged or does not fit its own description: {error}") from error
    if not intact:
        raise CheckpointError(f"{path} is damaged: its numbers do not match their own SHA-256")
    told = potential.uncertainty
    if not all(bool(p.isfinite().all()) for p in (*potential.parameters(), *(told.buffers() if told else ()))):
        raise CheckpointError(f"{path} holds parameters that are not finite")
    potential.card = header.get("card", {})
    potential.name = str(potential.card.get("name", path.stem))
    return potential
