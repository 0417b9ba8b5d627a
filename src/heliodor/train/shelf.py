"""A shelf: the data set on disk that is appended to block by block and read without being loaded.

A folder with one raw little-endian file for each array, and ``shelf.json``, the manifest, which says how much of each
file counts. A block is written, flushed to the disk, and only then does the manifest change, in one rename.
Whatever stops the writer, kill -9 or a power cut included, leaves what was committed; what lies beyond is cut off by
the next one.

Kinds, groups and origins are kept as numbers of lines of ``words.jsonl``. Labels that no structure has take no space.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from heliodor.dynamics.files.storage import claim, put_in_place
from heliodor.errors import HeliodorError, InputError
from heliodor.train.dataset import PER_ATOM, PER_STRUCTURE, TEXT, Dataset

FORMAT = "heliodor-shelf-1"
MANIFEST = "shelf.json"
WORDS = "words.jsonl"

TYPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "ends": ("<i8", ()),
    "numbers": ("<i2", ()),
    "positions": ("<f8", (3,)),
    "forces": ("<f8", (3,)),
    "hirshfeld_ratios": ("<f8", ()),
    "charges": ("<f8", ()),
    "node_energies": ("<f8", ()),
    "cell": ("<f8", (3, 3)),
    "pbc": ("|b1", (3,)),
    "charge": ("<f8", ()),
    "spin": ("<f8", ()),
    "energy": ("<f8", ()),
    "stress": ("<f8", (3, 3)),
    "dipole": ("<f8", (3,)),
    "kind": ("<i4", ()),
    "group": ("<i4", ()),
    "origin": ("<i4", ()),
}
"""Type and shape of a row of each file; ``ends`` is where the atoms of each structure end."""

NEEDED = ("ends", "numbers", "positions", "cell", "pbc", "charge", "spin", *TEXT)
CHUNK = 2**20
"""Rows that are filled with NaN in one go."""


class ShelfError(HeliodorError):
    """A shelf cannot be written: disk full, no permission. What was committed before is intact."""


class ShelfWriter:
    """Appends blocks of structures to a shelf, making it if there is none; for use in a ``with`` statement.

    Attributes:
        path: the folder.
        notes: kept in the manifest; what is put in is written with the next `append` or `save_notes`.

    Raises:
        InputError: the path is something else, or another process is writing it.
        ShelfError: it cannot be written.
    """

    def __init__(self, path: str | Path, method: str = "") -> None:
        self.path = Path(path)
        self._lock = -1
        try:
            if self.path.exists() and not self.path.is_dir():
                raise InputError(f"{self.path} is a file, not a shelf (a folder)")
            if self.path.is_dir() and any(self.path.iterdir()) and not is_shelf(self.path):
                _check_unborn(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            claim(self._lock, self.path)
            born = is_shelf(self.path)
            self._manifest = read_manifest(self.path) if born else _empty(method)
            if born and method and self.method and method != self.method:
                raise InputError(f"{self.path} holds labels by {self.method}; those by {method} cannot be added")
            self._manifest["method"] = self.method or method
            self._words = {word: k for k, word in enumerate(_read_words(self.path, self._manifest))}
            self._cut()
            if not born:
                self._commit()
        except OSError as error:
            self.close()
            raise _cannot_write(self.path, error, 0) from error
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return int(self._manifest["structures"])

    @property
    def method(self) -> str:
        return str(self._manifest["method"])

    @property
    def notes(self) -> dict[str, Any]:
        notes: dict[str, Any] = self._manifest["notes"]
        return notes

    def __enter__(self) -> ShelfWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let others write."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def append(self, block: Dataset) -> None:
        """Add structures; they are on the disk when this returns.

        Raises:
            InputError: labels by another method.
            ShelfError: they could not be written; the shelf is as it was.
        """
        if block.method and self.method and block.method != self.method:
            raise InputError(f"{self.path} holds labels by {self.method}; those by {block.method} cannot be added")
        before = json.dumps(self._manifest)
        try:
            self._write(block)
            self._commit()
        except BaseException as error:
            self._manifest = json.loads(before)
            self._words = {word: k for word, k in self._words.items() if k < self._manifest["words"]}
            with suppress(OSError):
                self._cut()
            if isinstance(error, OSError):
                raise _cannot_write(self.path, error, len(self)) from error
            raise

    def save_notes(self) -> None:
        """Commit `notes` without structures.

        Raises:
            ShelfError: they could not be written.
        """
        try:
            self._commit()
        except OSError as error:
            raise _cannot_write(self.path, error, len(self)) from error

    def _write(self, block: Dataset) -> None:
        manifest = self._manifest
        manifest["method"] = self.method or block.method
        for name in (*PER_ATOM, *PER_STRUCTURE):
            values = getattr(block, name)
            if name in TEXT:
                self._append(name, self._number(values))
            elif name in manifest["arrays"]:
                self._append(name, values)
            elif np.isfinite(values).any() or np.isinf(values).any():
                rows = manifest["atoms" if name in PER_ATOM else "structures"]
                self._new(name, rows)
                self._append(name, values)
        self._append("ends", np.asarray(block.offsets[1:]) + manifest["atoms"])
        # dicts keep their order; the new ones are at the end
        fresh = list(islice(reversed(self._words), len(self._words) - manifest["words"]))[::-1]
        text = "".join(json.dumps(word, ensure_ascii=False) + "\n" for word in fresh).encode()
        _durable(self.path / WORDS, [text])
        manifest["words"] += len(fresh)
        manifest["word_bytes"] += len(text)
        manifest["structures"] += len(block)
        manifest["atoms"] += int(block.offsets[-1])

    def _number(self, words: np.ndarray) -> np.ndarray:
        distinct, index = np.unique(words.astype(str), return_inverse=True)
        codes = np.array([self._words.setdefault(str(word), len(self._words)) for word in distinct], dtype=np.int64)
        return codes[index.reshape(-1)]

    def _append(self, name: str, values: np.ndarray) -> None:
        kind, shape = TYPES[name]
        _durable(self.path / name, [np.ascontiguousarray(values.reshape(-1, *shape), dtype=kind).data.cast("B")])

    def _new(self, name: str, rows: int) -> None:
        kind, shape = TYPES[name]
        (self.path / name).unlink(missing_ok=True)
        pieces = (np.full((min(CHUNK, rows - k), *shape), np.nan, kind) for k in range(0, rows, CHUNK))
        _durable(self.path / name, [piece.data.cast("B") for piece in pieces])
        self._manifest["arrays"].append(name)

    def _cut(self) -> None:
        """Take off what was written but never committed."""
        for name in TYPES:
            path = self.path / name
            if name not in self._manifest["arrays"]:
                path.unlink(missing_ok=True)
            else:
                _check_size(path, size := _size(name, self._manifest))
                path.touch()
                os.truncate(path, size)
        if (self.path / WORDS).exists():
            _check_size(self.path / WORDS, self._manifest["word_bytes"])
            os.truncate(self.path / WORDS, self._manifest["word_bytes"])

    def _commit(self) -> None:
        temporary = self.path / (MANIFEST + ".part")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(self._manifest, file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(temporary, self.path / MANIFEST)


def is_shelf(path: str | Path) -> bool:
    """Whether a folder is a shelf."""
    return (Path(path) / MANIFEST).is_file()


def read_manifest(path: str | Path) -> dict[str, Any]:
    """What a shelf says of itself: ``structures``, ``atoms``, ``arrays``, ``method``, ``notes``.

    Raises:
        InputError: not a shelf, or of a later version.
    """
    path = Path(path)
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no shelf {path} (a folder with {MANIFEST})") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path / MANIFEST} cannot be read: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{path} is not a shelf of this version (format {FORMAT})")
    return manifest


def open_shelf(path: str | Path) -> Dataset:
    """A shelf as a `Dataset` whose arrays stay on the disk and are read where they are looked at.

    Columns of one value a structure are copied when written to (in memory, never in the files); those of atoms are
    read-only. A label that nothing has is NaN everywhere and takes no memory.

    Raises:
        InputError: not a shelf, or damaged.
    """
    path = Path(path)
    manifest = read_manifest(path)
    structures, atoms = int(manifest["structures"]), int(manifest["atoms"])
    arrays: dict[str, Any] = {}
    for name, (kind, shape) in TYPES.items():
        rows = atoms if name in PER_ATOM else structures
        if name not in manifest["arrays"]:
            arrays[name] = np.broadcast_to(np.full((), np.nan), (rows, *shape))
            continue
        _check_size(path / name, _size(name, manifest))
        if rows == 0:
            arrays[name] = np.empty((0, *shape), dtype=kind)
            continue
        mode: Any = "r" if name in PER_ATOM else "c"
        arrays[name] = np.asarray(np.memmap(path / name, dtype=kind, mode=mode, shape=(rows, *shape)))
    table = np.array(_read_words(path, manifest), dtype=object)
    for name in TEXT:
        arrays[name] = table[arrays[name]] if structures else np.empty(0, dtype=object)
    offsets = np.concatenate([[0], arrays.pop("ends")])
    return Dataset(offsets=offsets, **arrays, method=str(manifest["method"]), notes=dict(manifest["notes"]))


def _empty(method: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "method": method,
        "units": "eV, Å, e",
        "structures": 0,
        "atoms": 0,
        "arrays": list(NEEDED),
        "words": 0,
        "word_bytes": 0,
        "notes": {},
    }


def _size(name: str, manifest: dict[str, Any]) -> int:
    kind, shape = TYPES[name]
    rows = manifest["atoms" if name in PER_ATOM else "structures"]
    return int(rows) * np.dtype(kind).itemsize * int(np.prod(shape))


def _read_words(path: Path, manifest: dict[str, Any]) -> list[str]:
    if not manifest["words"]:
        return []
    _check_size(path / WORDS, manifest["word_bytes"])
    with (path / WORDS).open("rb") as file:
        lines = file.read(manifest["word_bytes"])
    # as one list: ten times faster than line by line
    words: list[str] = json.loads(b"[" + lines.rstrip(b"\n").replace(b"\n", b",") + b"]")
    return words


def _check_size(path: Path, needed: int) -> None:
    size = path.stat().st_size if path.is_file() else 0
    if size < needed:
        raise InputError(f"{path} is damaged: it has {size} bytes where {needed} were written")


def _check_unborn(path: Path) -> None:
    # a writer killed before its first commit leaves a lock and a manifest that has no name yet
    if {p.name for p in path.iterdir()} - {"lock", MANIFEST + ".part", *NEEDED}:
        raise InputError(f"{path} is a folder with other things in it, not a shelf: choose a new name")


def _durable(path: Path, pieces: list[Any]) -> None:
    with path.open("ab") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _cannot_write(path: Path, error: OSError, structures: int) -> ShelfError:
    cause = os.strerror(error.errno).lower() if error.errno else str(error)
    room = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "set that right"
    return ShelfError(
        f"cannot write {path}: {cause}; the {structures} structures written before are intact: {room} and go on"
    )
