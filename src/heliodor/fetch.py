"""Download of official model files: resumed where it broke off, checked by SHA-256, converted to our checkpoint."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from heliodor.checkpoint import load_checkpoint, save_checkpoint, sha256
from heliodor.errors import CheckpointError, DownloadError, ModelError
from heliodor.potential import Potential
from heliodor.registry import ModelEntry, cache_folder, find_model

CHUNK = 1 << 18
TIMEOUT = 30.0
"""Seconds without an answer after which a download is given up (and can be resumed)."""


def fetch(name: str, *, accept_licence: bool = True, progress: bool = True) -> Path:
    """Bring a model of the registry onto this machine.

    A model that ships with heliodor needs nothing; its official file is not fetched again.

    Returns:
        Path of the checkpoint.

    Raises:
        ModelError: unknown name, or a licence that has to be accepted first.
        DownloadError: no connection, no such file, or a file that is not the official one.
    """
    entry = find_model(name)
    if entry.path is not None:
        return entry.path
    if entry.official is None:
        raise DownloadError(f"{name} has no official file to fetch")
    if not accept_licence:
        raise ModelError(f"{name} is under this licence: {entry.licence}. Accept it with --accept-licence")
    official = fetch_official(entry, progress=progress)
    return import_model(official, name, card={"licence": entry.licence, "citation": entry.citation})


def fetch_official(entry: ModelEntry, *, progress: bool = True) -> Path:
    """The authors' own file, in the cache, its SHA-256 checked.

    Raises:
        DownloadError: as `download`.
    """
    assert entry.official is not None
    url = str(entry.official["url"])
    target = cache_folder() / "official" / entry.name / url.rsplit("/", 1)[-1]
    download(url, target, str(entry.official["sha256"]), progress=progress)
    return target


def import_model(path: str | Path, name: str | None = None, card: dict[str, str] | None = None) -> Path:
    """Convert an official file (or copy a checkpoint) into the cache, so that it can be loaded by name.

    Args:
        name: default: the file's stem.

    Raises:
        CheckpointError: a file that cannot be read, or that carries untrusted code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no such model file: {path}")
    potential, origin = _read_any(path)
    name = name or path.stem
    if Path(name).name != name:
        raise CheckpointError(f"{name!r} cannot be a model's name: leave out slashes")
    target = cache_folder() / f"{name}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(potential, target, {**potential.card, **(card or {}), "name": name, "origin": origin})
    return target


def download(url: str, target: Path, digest: str, *, progress: bool = True) -> None:
    """Fetch a file, going on where an earlier try broke off.

    The bytes gather in ``target + ".part"``, which gets its name only when its SHA-256 is right.

    Raises:
        DownloadError: no connection, a refusing server, or wrong content.
    """
    if target.exists() and sha256(target) == digest:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            resumed = answer.status == 206
            if not resumed:
                have = 0
            total = have + int(answer.headers.get("Content-Length") or 0)
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
            with Progress(*columns, disable=not progress) as bar, part.open("ab" if resumed else "wb") as file:
                task = bar.add_task(target.name, total=total or None, completed=have)
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    bar.advance(task, len(chunk))
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is already whole, or longer than the file
            _finish(part, target, digest, url)
            return
        raise DownloadError(f"the server refused {url} (HTTP {error.code})") from None
    except (urllib.error.URLError, TimeoutError, ConnectionError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise DownloadError(
            f"could not fetch {url}: {reason}. Without internet, copy the file here by hand and run "
            f"'heliodor models import FILE'; what has arrived is kept, the next try goes on from there"
        ) from None
    if total and part.stat().st_size < total:
        raise DownloadError(
            f"{url} broke off after {part.stat().st_size} of {total} bytes; run the command again to go on"
        )
    _finish(part, target, digest, url)


def _finish(part: Path, target: Path, digest: str, url: str) -> None:
    found = sha256(part)
    if found != digest:
        part.unlink()
        raise DownloadError(
            f"{url} is not the expected file (SHA-256 {found[:12]}..., expected {digest[:12]}...): deleted"
        )
    shutil.move(part, target)


def _read_any(path: Path) -> tuple[Potential, str]:
    if path.suffix == ".pkl":
        from heliodor.convert.so3lr import convert_so3lr

        return convert_so3lr(path), f"{path.name}, SHA-256 {sha256(path)}"
    potential = load_checkpoint(path)
    return potential, str(potential.card.get("origin", path.name))
