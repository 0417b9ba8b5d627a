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
from heliodor.registry import ModelEntry, cache_folder, find_model, models, official_model

CHUNK = 1 << 18
MAX_BYTES = 2**30
"""A download is cut off there where the size of the official file is not known."""
TIMEOUT = 30.0
"""Seconds without an answer after which a download is given up (and can be resumed)."""


def fetch(name: str, *, accept_licence: bool = False, progress: bool = True) -> Path:
    """Bring a model of the registry onto this machine.

    A model that ships with heliodor needs nothing; its official file is not fetched again.

    Args:
        accept_licence: that the licence was read and is accepted; asked only where it restricts use.

    Returns:
        Path of the checkpoint.

    Raises:
        ModelError: unknown name, or a licence that has to be accepted first.
        DownloadError: no connection, no such file, or a file that is not the official one.
        CheckpointError: the file cannot be converted.
    """
    entry = find_model(name)
    if entry.path is not None:
        return entry.path
    if entry.official is None:
        raise DownloadError(f"{name} has no official file to fetch")
    if entry.restricted and not accept_licence:
        raise ModelError(f"{name} is under this licence: {entry.licence}. Accept it with --accept-licence")
    official = fetch_official(entry, progress=progress)
    return import_model(official, name)


def fetch_official(entry: ModelEntry, *, progress: bool = True) -> Path:
    """The authors' own file, in the cache, its SHA-256 checked.

    Raises:
        DownloadError: as `download`.
    """
    assert entry.official is not None
    url = str(entry.official["url"])
    target = cache_folder() / "official" / entry.name / url.rsplit("/", 1)[-1]
    limit = int(entry.official["bytes"] or MAX_BYTES)
    download(url, target, str(entry.official["sha256"]), progress=progress, limit=limit, name=entry.name)
    return target


def import_model(
    path: str | Path, name: str | None = None, card: dict[str, str] | None = None, head: str | None = None
) -> Path:
    """Convert an official file (or copy a checkpoint) into the cache, so that it can be loaded by name.

    An official file is known by its SHA-256, and gets its licence and citation.

    Args:
        name: default: the file's stem.
        card: what to add to the checkpoint's card.
        head: level of theory, of MACE files that hold several.

    Raises:
        CheckpointError: a file that cannot be read, that carries untrusted code, or that is not the official one of
            the model it is to be named after.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no such model file: {path}")
    name = name or path.stem
    if Path(name).name != name:
        raise CheckpointError(f"{name!r} cannot be a model's name: leave out slashes")
    # to `heliodor.load` these are several models, or a pattern of files
    if set(name) & set(",*?["):
        raise CheckpointError(f"{name!r} cannot be a model's name: leave out commas and * ? [")
    potential, origin, source = _read_any(path, head)
    known = official_model(source) if source else None
    entry = models().get(name)
    if entry is not None and entry.embedded is None and known != entry:
        raise CheckpointError(f"{path} is not the official file of {name} (SHA-256 differs): choose another --name")
    facts: dict[str, str] = {"name": name, "origin": origin}
    if source:
        facts["source_sha256"] = source
    if known is not None:
        facts |= {"licence": known.licence, "citation": known.citation}
    target = cache_folder() / f"{name}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(potential, target, {**potential.card, **facts, **(card or {})})
    return target


def download(
    url: str, target: Path, digest: str, *, progress: bool = True, limit: int = MAX_BYTES, name: str = "NAME"
) -> None:
    """Fetch a file, going on where an earlier try broke off.

    The bytes gather in ``target + ".part"``, which gets its name only when its SHA-256 is right.

    Args:
        limit: bytes; a server that sends more is not listened to any further.
        name: of the model, for the advice what to do without internet.

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
                    have += len(chunk)
                    if have > limit:
                        break
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
            f"'heliodor models import {target.name} --name {name}'; what has arrived is kept, the next try goes on "
            "from there"
        ) from None
    if have > limit:
        part.unlink()
        raise DownloadError(f"{url} is not the expected file (more than {limit} bytes): deleted")
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


def _read_any(path: Path, head: str | None) -> tuple[Potential, str, str | None]:
    """A model, what to say of its origin, and the SHA-256 of the official file it comes from, where that is known."""
    if path.suffix in (".pkl", ".model", ".pth"):
        source = sha256(path)
        return _convert(path, head), f"{path.name}, SHA-256 {source}", source
    potential = load_checkpoint(path)
    known = potential.card.get("source_sha256")
    return potential, str(potential.card.get("origin", path.name)), str(known) if known else None


def _convert(path: Path, head: str | None) -> Potential:
    if path.suffix == ".pkl":
        from heliodor.convert.so3lr import convert_so3lr

        return convert_so3lr(path)
    if path.suffix == ".pth":
        from heliodor.convert.spookynet import convert_spookynet

        return convert_spookynet(path)
    from heliodor.convert.mace_any import convert_model

    return convert_model(path, head)
