"""npz archives with one array for each quantity, as of MD17 and rMD17, read row by row without loading them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.errors import InputError, suggestion
from heliodor.train.data.reading.source import Frame, Source, source_of
from heliodor.train.data.reading.wanted import CANDIDATES, Units, Wanted, settle

ROWS = 256
"""Read of each array at a time."""


def open_npz(path: Path, wanted: Wanted) -> Source:
    """An npz archive: positions [S, N, 3], elements [N] or [S, N] (0 or -1 where a structure has fewer atoms).

    The archive does not say its unit of energy, so the caller has to.

    Raises:
        InputError: damaged, no positions or elements, or as `heliodor.train.data.reading.open_source`.
    """
    shapes = _shapes(path)
    names = {what: find_array(path, what, shapes, wanted) for what in ("positions", "numbers")}
    total = shapes[names["positions"]][0] if shapes[names["positions"]] else 0
    if len(shapes[names["positions"]]) != 3 or shapes[names["positions"]][2] != 3 or total == 0:
        raise InputError(
            f"{names['positions']!r} of {path} has shape {shapes[names['positions']]}, not (structures, atoms, 3)"
        )
    rows = {key: shape for key, shape in shapes.items() if shape and shape[0] == total}
    fixed = {key: shape for key, shape in shapes.items() if key not in rows}
    if names["numbers"] in rows and len(rows[names["numbers"]]) == 1:
        # as many atoms as structures: elements of one molecule
        fixed[names["numbers"]] = rows.pop(names["numbers"])
    convention = Units("", "Å", "the convention of MD17")
    # words and numbers that describe the whole archive are no labels
    described = [key for key in fixed if key != names["numbers"] and key not in CANDIDATES["charge"]]
    present = [key for key in shapes if key not in described]
    columns, said = settle(path, present, wanted, convention, ignore=names.values())
    if described:
        said.append(f"described there: {', '.join(described)}")
    return source_of(
        path,
        "npz",
        total,
        columns,
        said,
        lambda skip: _frames(path, rows, fixed, names, skip),
        wanted,
        _theory(path, fixed),
    )


def find_array(path: Path, what: str, shapes: Any, wanted: Wanted) -> str:
    """The key of positions or elements.

    Raises:
        InputError: none, or the one asked for is not there.
    """
    asked = wanted.keys.get(what)
    if asked is not None and asked not in shapes:
        raise InputError(
            f"{path} has no key {asked!r} for {what}{suggestion(asked, shapes)}; its keys are: {', '.join(shapes)}"
        )
    found = asked or next((key for key in CANDIDATES[what] if key in shapes), None)
    if found is None:
        raise InputError(
            f"{path} has no {what} under a known name; its keys are: {', '.join(shapes)}; say which by --{what}-key"
        )
    return found


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with zipfile.ZipFile(path) as archive:
            shapes = {}
            for name in archive.namelist():
                with archive.open(name) as member:
                    shape, _, dtype = _header(member)
                if dtype.hasobject and name.removesuffix(".npy") in CANDIDATES["positions"]:
                    raise InputError(
                        f"{path} holds pickled Python objects, which are not read: save it as plain arrays"
                    )
                if not dtype.hasobject:
                    shapes[name.removesuffix(".npy")] = shape
            return shapes
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise InputError(f"{path} cannot be read as npz: {error}") from None


def _header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(member)
    return tuple(shape), bool(fortran), dtype


def _rows(path: Path, key: str) -> Iterator[np.ndarray]:
    """The rows of an array, read in pieces."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
        shape, fortran, dtype = _header(member)
        if fortran and len(shape) > 1:
            with np.load(path, allow_pickle=False) as file:
                yield from file[key]
            return
        size = int(np.prod(shape[1:], dtype=int)) * dtype.itemsize
        for begin in range(0, shape[0], ROWS):
            count = min(ROWS, shape[0] - begin)
            content = member.read(count * size)
            if len(content) < count * size:
                raise InputError(f"{path} is cut off within {key!r}")
            yield from np.frombuffer(content, dtype).reshape(count, *shape[1:])


def _frames(
    path: Path, rows: dict[str, tuple[int, ...]], fixed: dict[str, tuple[int, ...]], names: dict[str, str], skip: int
) -> Iterator[Frame]:
    with np.load(path, allow_pickle=False) as file:
        constant = {key: file[key] for key in fixed}
    streams = {key: _rows(path, key) for key in rows}
    try:
        for number, values in enumerate(zip(*streams.values(), strict=True)):
            if number >= skip:
                yield _frame({**constant, **dict(zip(streams, values, strict=True))}, names)
    except (zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path} is damaged: {error}") from None


def _frame(values: dict[str, Any], names: dict[str, str]) -> Frame:
    numbers = np.asarray(values.pop(names["numbers"])).reshape(-1).astype(np.int64)
    positions = np.asarray(values.pop(names["positions"]), dtype=np.float64)
    real = numbers > 0
    if not real.all():
        # labels of atoms that are not there
        values = {
            key: value[real] if isinstance(value, np.ndarray) and value.shape[:1] == real.shape else value
            for key, value in values.items()
        }
        positions, numbers = positions[real], numbers[real]
    cell = next((values[key] for key in CANDIDATES["cell"] if key in values), None)
    pbc = next((values[key] for key in CANDIDATES["pbc"] if key in values), None)
    if cell is not None:
        cell = np.diag(cell) if np.shape(cell) == (3,) else np.reshape(cell, (3, 3))
        pbc = np.broadcast_to(True if pbc is None else pbc, (3,))
    return Frame(numbers, positions, values, cell, None if pbc is None else np.asarray(pbc))


def _theory(path: Path, fixed: dict[str, tuple[int, ...]]) -> str:
    if "theory" not in fixed:
        return ""
    with np.load(path, allow_pickle=False) as file:
        value = file["theory"].reshape(-1)
    word = value[0] if len(value) else ""
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)
