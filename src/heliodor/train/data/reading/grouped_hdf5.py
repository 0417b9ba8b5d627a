"""HDF5 files with a group for each molecule and its conformations in it, as of SPICE, ANI and AIMNet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from heliodor.errors import InputError
from heliodor.train.data.reading.npz import find_array
from heliodor.train.data.reading.source import Frame, Source, source_of
from heliodor.train.data.reading.wanted import CANDIDATES, Column, Units, Wanted, settle

ROWS = 500
"""Conformations read at a time."""

FORMAL = re.compile(r"\[[^\]]*?(\++\d*|-+\d*)(?::\d+)?\]")
"""The charge of an atom in a SMILES."""

WORDS = ("smiles", "subset", "name", "id", "_id")


def open_hdf5(path: Path, wanted: Wanted) -> Source:
    """Groups with elements [N] (or [C, N]) and positions [C, N, 3], labels beside them.

    Units are those the arrays state (attribute ``units``), else the caller's, else SPICE's: hartree and bohr. Where no
    key has the total charges they come from the SMILES of the molecule, if there is one.

    Raises:
        InputError: damaged, no such groups, or as `heliodor.train.data.reading.open_source`.
    """
    import h5py

    shapes: dict[str, None] = {}
    units: dict[str, str] = {}
    found: list[str] = []
    total = 0
    try:
        with h5py.File(path, "r") as file:
            if "h5md" in file:
                raise InputError(f"{path} is a trajectory (H5MD), not a set of labelled structures")
            for group in _groups(file, wanted):
                found.append(group.name)
                names = {what: find_array(path, what, group, wanted) for what in ("positions", "numbers")}
                total += len(group[names["positions"]])
                for key, item in group.items():
                    if isinstance(item, h5py.Dataset):
                        shapes[key] = None
                        if "units" in item.attrs:
                            units[key] = _word(item.attrs["units"])
            if not found:
                keys = ", ".join(list(file)[:20])
                raise InputError(f"{path} has no group with elements and positions under known names; it holds: {keys}")
    except OSError as error:
        raise InputError(f"{path} cannot be read as HDF5: {error}") from None
    names = {what: find_array(path, what, shapes, wanted) for what in ("positions", "numbers")}
    present = [key for key in shapes if key not in WORDS or key in wanted.keys.values() or key == "subset"]
    columns, said = settle(path, present, wanted, Units("hartree", "bohr", "SPICE's units"), units, names.values())
    formal = False
    if "charge" not in columns and "smiles" in shapes:
        said = [s for s in said if not s.startswith("charge:")] + ["charge: formal charges of the SMILES"]
        columns, formal = {**columns, "charge": Column("charge")}, True
    if "group" not in columns:
        said.append("group: the name of the group in the file")
    return source_of(path, "HDF5", total, columns, said, lambda skip: _frames(path, found, names, formal, skip), wanted)


def _groups(file: Any, wanted: Wanted) -> Iterator[Any]:
    import h5py

    positions = wanted.keys.get("positions")
    numbers = wanted.keys.get("numbers")

    def fits(group: Any) -> bool:
        return any(key in group for key in ([positions] if positions else CANDIDATES["positions"])) and any(
            key in group for key in ([numbers] if numbers else CANDIDATES["numbers"])
        )

    def walk(group: Any) -> Iterator[Any]:
        if fits(group):
            yield group
            return
        for item in group.values():
            if isinstance(item, h5py.Group):
                yield from walk(item)

    yield from walk(file)


def _frames(path: Path, groups: list[str], names: dict[str, str], formal: bool, skip: int) -> Iterator[Frame]:
    import h5py

    with h5py.File(path, "r") as file:
        for name in groups:
            group = file[name]
            count, left = len(group[names["positions"]]), skip
            skip = max(0, skip - count)
            if left < count:
                yield from _molecule(group, names, formal, left, count)


def _molecule(group: Any, names: dict[str, str], formal: bool, begin: int, count: int) -> Iterator[Frame]:
    import h5py

    arrays = {key: item for key, item in group.items() if isinstance(item, h5py.Dataset)}
    elements, positions = arrays.pop(names["numbers"]), arrays.pop(names["positions"])
    atoms = positions.shape[1]
    single = {key: item for key, item in arrays.items() if item.shape[:1] != (count,) or key in WORDS}
    rows = {key: item for key, item in arrays.items() if key not in single}
    constant = {key: _plain(item[()]) for key, item in single.items()}
    if formal and "smiles" in arrays:
        constant["charge"] = formal_charge(_word(constant["smiles"]))
    for key, value in constant.items():
        if isinstance(value, np.ndarray) and value.size == 1:
            constant[key] = value.reshape(-1)[0]
    own = elements.ndim == 2
    fixed = None if own else _elements(elements[()].reshape(-1), atoms)
    for start in range(begin, count, ROWS):
        piece = slice(start, min(start + ROWS, count))
        values = {key: item[piece] for key, item in rows.items()}
        places = positions[piece]
        each = elements[piece] if own else None
        for k in range(len(places)):
            numbers = fixed if each is None else _elements(each[k], atoms)
            assert numbers is not None
            yield Frame(
                numbers,
                np.asarray(places[k], dtype=np.float64),
                {**constant, **{key: value[k] for key, value in values.items()}},
                group=group.name.strip("/"),
            )


def formal_charge(smiles: str) -> float:
    """The total charge that a SMILES writes, e."""
    total = 0
    for mark in FORMAL.findall(smiles):
        digits = mark.lstrip("+-")
        size = int(digits) if digits else len(mark)
        total += size if mark[0] == "+" else -size
    return float(total)


def _elements(values: np.ndarray, atoms: int) -> np.ndarray:
    if values.dtype.kind in "OSU":
        return np.array([atomic_numbers.get(_word(word), 0) for word in values], dtype=np.int64)
    return values.reshape(-1)[:atoms].astype(np.int64)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "OS" and value.size == 1:
        return _word(value.reshape(-1)[0])
    return value


def _word(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
