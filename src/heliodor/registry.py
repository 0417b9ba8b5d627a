"""The models heliodor knows by name: where they are, what they are, under which licence."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from heliodor.errors import CheckpointError, ModelError

ENVIRONMENT = "HELIODOR_CACHE"


@dataclass(frozen=True)
class ModelEntry:
    """One model of the registry.

    Attributes:
        name: what `heliodor.load` takes.
        summary: one line.
        elements: symbols.
        licence, citation: as its authors ask.
        embedded: file inside the package, or None.
        sha256: of the embedded file; None for a converted one, which names its source by hash in its card.
        official: the authors' own file: {"url", "sha256", "bytes" (None: not known), "converter"}, or None.
        restricted: whether the licence restricts use, so that it has to be accepted before the model is fetched.
    """

    name: str
    summary: str
    elements: tuple[str, ...]
    licence: str
    citation: str
    embedded: str | None = None
    sha256: str | None = None
    official: dict[str, str | int | None] | None = field(default=None)
    restricted: bool = False

    @property
    def path(self) -> Path | None:
        """Where the checkpoint lies now: in the package, in the cache, or None."""
        if self.embedded:
            return weights_folder() / self.embedded
        cached = cache_folder() / f"{self.name}.safetensors"
        return cached if cached.exists() else None


def weights_folder() -> Path:
    """The checkpoints that ship with the package."""
    return Path(str(resources.files("heliodor") / "weights"))


def cache_folder() -> Path:
    """Where fetched models are kept: $HELIODOR_CACHE, or the user's cache directory."""
    if ENVIRONMENT in os.environ:
        return Path(os.environ[ENVIRONMENT])
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "heliodor"


def models() -> dict[str, ModelEntry]:
    """Every model that can be loaded by name."""
    entries = json.loads((weights_folder() / "registry.json").read_text())
    return {
        name: ModelEntry(name=name, **{**values, "elements": tuple(values["elements"].split())})
        for name, values in entries.items()
    }


def imported() -> dict[str, Path]:
    """Models the user has imported into the cache under names of their own."""
    known = models()
    files = sorted(cache_folder().glob("*.safetensors")) if cache_folder().is_dir() else []
    return {file.stem: file for file in files if file.stem not in known}


def find_model(name: str) -> ModelEntry:
    """Look a name up.

    Raises:
        ModelError: unknown, with the names that exist.
    """
    known = models()
    if name not in known:
        names = ", ".join([*sorted(known), *imported()])
        raise ModelError(f"no model called {name!r} and no such file; known models: {names}")
    return known[name]


def official_model(digest: str) -> ModelEntry | None:
    """The model whose official file has this SHA-256, if there is one."""
    known = (entry for entry in models().values() if entry.official is not None)
    return next((entry for entry in known if entry.official and entry.official["sha256"] == digest), None)


def check_source(entry: ModelEntry, card: dict[str, Any]) -> None:
    """Refuse a converted checkpoint under an official name that came from another file.

    Args:
        card: of the checkpoint.

    Raises:
        CheckpointError: its card names a source that is not the official file.
    """
    source = card.get("source_sha256")
    if entry.embedded is None and entry.official is not None and source not in (None, entry.official["sha256"]):
        raise CheckpointError(
            f"what is kept as {entry.name} was not made from its official file (SHA-256 {str(source)[:12]}...): "
            f"delete {entry.path} and run 'heliodor models fetch {entry.name}'"
        )


def checkpoint_path(entry: ModelEntry) -> Path:
    """The entry's checkpoint file.

    Raises:
        CheckpointError: it has to be fetched first.
    """
    path = entry.path
    if path is None:
        raise CheckpointError(f"{entry.name} is not on this machine: run 'heliodor models fetch {entry.name}' once")
    return path
