"""Heliodor's own data sets as sources: shelves and HDF5 files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from heliodor.errors import InputError
from heliodor.train.data.reading.source import Source
from heliodor.train.data.reading.wanted import Wanted
from heliodor.train.dataset import FORMAT, Dataset, open_dataset

ATOMS = 100_000
"""Of a block at most (or one structure)."""


def is_own(path: Path) -> bool:
    """Whether an HDF5 file is a data set of heliodor."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get("format") == FORMAT)
    except OSError as error:
        raise InputError(f"{path} cannot be read as HDF5: {error}") from None


def open_own(path: Path, wanted: Wanted) -> Source:
    """A shelf or an HDF5 file that heliodor wrote.

    Raises:
        InputError: keys or units were given, or it is damaged.
    """
    if wanted.says_something:
        raise InputError(f"{path} is a data set of heliodor, which knows its labels and units: give no keys or units")
    data = open_dataset(path)
    if wanted.method and data.method and wanted.method != data.method:
        raise InputError(f"{path} holds labels by {data.method}, not by {wanted.method}")
    method = data.method or wanted.method

    def blocks(skip: int) -> Iterator[Dataset]:
        for part in in_blocks(data, ATOMS, skip):
            yield replace(data.take(part), method=method, notes={"not_numbers": {}})

    kind = "shelf of heliodor" if path.is_dir() else "data set of heliodor"
    return Source(path, kind, ("labels and units as written by heliodor",), method, len(data), blocks)


def in_blocks(data: Dataset, atoms: int, first: int = 0) -> Iterator[np.ndarray]:
    """Indices of consecutive structures with that many atoms at most (or one structure)."""
    while first < len(data):
        limit = int(data.offsets[first]) + atoms
        last = max(int(np.searchsorted(data.offsets, limit, side="right")) - 1, first + 1)
        yield np.arange(first, last)
        first = last
