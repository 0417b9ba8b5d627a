"""Extended XYZ, also compressed, read from beginning to end.

Written anew rather than with ASE's reader, which jumps about in the file: in a compressed one every jump backwards
begins from the start.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from heliodor.errors import InputError
from heliodor.train.data.reading.source import Frame, Source, source_of
from heliodor.train.data.reading.wanted import Units, Wanted, settle

KEY = re.compile(r"(?:^|\s)\"?([^\s=\"]+)\"?\s*=")
QUOTED = re.compile(r"=\s*(\"[^\"]*\"|'[^']*'|\{[^}]*\}|\[[^\]]*\])")
PLAIN = "species:S:1:pos:R:3"
OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
STRUCTURE = ("Lattice", "pbc", "Properties")


def open_extxyz(path: Path, wanted: Wanted) -> Source:
    """An extxyz file; it is run through once for its keys and their number.

    Raises:
        InputError: damaged, or as `heliodor.train.data.reading.open_source`.
    """
    keys: dict[str, None] = {}
    methods: dict[str, None] = {}
    total = 0
    with _text(path) as file:
        for count, comment in _heads(file, path):
            bare = QUOTED.sub("= ", comment)
            for key in KEY.findall(bare):
                keys[key] = None
            for name in _columns(comment, path, total):
                keys[name] = None
            if "method=" in comment:
                methods[str(_info(comment, path, total).get("method"))] = None
            rest = deque(enumerate(islice(file, count), 1), maxlen=1)
            if count and (not rest or rest[0][0] < count):
                raise InputError(f"{path} is cut off: structure {total} has {count} atoms, but the file ends before")
            total += 1
    if total == 0:
        raise InputError(f"{path} holds no structures")
    if len(methods) > 1 and not wanted.method:
        raise InputError(f"{path} holds labels of several methods: {', '.join(methods)}; separate them first")
    names = [key for key in keys if key not in (*STRUCTURE, "species", "pos", "Z", "method")]
    convention = Units("eV", "Å", "the convention of extxyz")
    columns, said = settle(path, [*names, "pos"], _with_positions(wanted), convention)
    return source_of(
        path,
        "extxyz",
        total,
        columns,
        said,
        lambda skip: _frames(path, skip),
        wanted,
        next(iter(methods), ""),
    )


def _with_positions(wanted: Wanted) -> Wanted:
    return replace(wanted, keys={**wanted.keys, "positions": "pos"})


@contextmanager
def _text(path: Path) -> Iterator[TextIOWrapper]:
    opener = OPENERS.get(path.suffix.lower())
    try:
        with path.open(encoding="utf-8") if opener is None else opener(path, "rt", encoding="utf-8") as file:
            yield file
    except (EOFError, UnicodeDecodeError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged, or not what its name says: {error}") from None


def _heads(file: TextIOWrapper, path: Path) -> Iterator[tuple[int, str]]:
    """Number of atoms and comment of each structure; the caller takes the lines in between."""
    number = 0
    while line := file.readline():
        if not line.strip():
            continue
        try:
            count = int(line)
        except ValueError:
            raise InputError(
                f"{path} is no xyz file, or damaged: structure {number} should begin with its number of atoms, "
                f"not with {line.strip()[:40]!r}"
            ) from None
        yield count, file.readline().strip()
        number += 1


def _frames(path: Path, skip: int) -> Iterator[Frame]:
    with _text(path) as file:
        for number, (count, comment) in enumerate(_heads(file, path)):
            lines = list(islice(file, count))
            if number >= skip:
                yield _frame(lines, comment, path, number)


def _frame(lines: list[str], comment: str, path: Path, number: int) -> Frame:
    columns = _columns(comment, path, number)
    width = sum(n for _, n in columns.values())
    tokens = [line.split()[:width] for line in lines]
    short = next((k for k, words in enumerate(tokens) if len(words) < width), None)
    if short is not None:
        raise InputError(f"atom {short} of structure {number} of {path} has {len(tokens[short])} of {width} values")
    table = np.array(tokens, dtype=object)
    values: dict[str, Any] = {}
    start = 0
    for name, (kind, n) in columns.items():
        part = table[:, start : start + n]
        start += n
        if kind == "S" or kind == "L":
            values[name] = part.astype(str)[:, 0]
            continue
        try:
            values[name] = part.astype(np.float64)
        except ValueError as error:
            raise InputError(f"{name!r} of structure {number} of {path}: {error}") from None
    species = values.pop("species", None)
    z = values.pop("Z", None)
    numbers = np.array([_element(str(word), path, number) for word in species]) if species is not None else z
    if numbers is None or "pos" not in values:
        raise InputError(f"structure {number} of {path} has no species and pos among its Properties")
    info = _info(comment, path, number)
    lattice, pbc = info.pop("Lattice", None), info.pop("pbc", None)
    # ASE gives the lattice vectors as columns
    cell = None if lattice is None else np.asarray(lattice, dtype=np.float64).T
    periodic = np.broadcast_to(np.asarray(cell is not None if pbc is None else pbc, dtype=bool), (3,))
    positions = values.pop("pos")
    return Frame(numbers.reshape(-1).astype(np.int64), positions, {**info, **values}, cell, periodic)


def _columns(comment: str, path: Path, number: int) -> dict[str, tuple[str, int]]:
    match = re.search(r"Properties=\"?([^\s\"]+)", comment)
    words = (match.group(1) if match else PLAIN).split(":")
    try:
        return {words[k]: (words[k + 1], int(words[k + 2])) for k in range(0, len(words), 3)}
    except (IndexError, ValueError):
        raise InputError(f"structure {number} of {path} has Properties that cannot be understood") from None


def _info(comment: str, path: Path, number: int) -> dict[str, Any]:
    from ase.io.extxyz import key_val_str_to_dict

    try:
        info: dict[str, Any] = key_val_str_to_dict(comment)
    except ValueError as error:
        raise InputError(f"the second line of structure {number} of {path} cannot be understood: {error}") from None
    info.pop("Properties", None)
    return info


def _element(word: str, path: Path, number: int) -> int:
    z = atomic_numbers.get(word) or atomic_numbers.get(word.capitalize())
    if not z:
        raise InputError(f"structure {number} of {path} has an atom {word!r}, which is no element")
    return z
