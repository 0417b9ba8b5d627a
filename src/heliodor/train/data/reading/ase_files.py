"""ASE's databases (.db, .json) and trajectories (.traj), row by row."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.errors import InputError
from heliodor.train.data.reading.source import Frame, Source, source_of
from heliodor.train.data.reading.wanted import Units, Wanted, settle

LOOKED_AT = 1000
"""Rows whose keys are collected."""

OWN = ("numbers", "positions", "initial_charges", "tags", "momenta", "masses")
"""Arrays that are no labels."""

RESULTS = ("energy", "forces", "stress", "dipole", "charges")


def open_ase(path: Path, wanted: Wanted) -> Source:
    """A database or trajectory of ASE; labels are the calculator's results, or key-value pairs and data.

    Raises:
        InputError: damaged, or as `heliodor.train.data.reading.open_source`.
    """
    try:
        total = _total(path)
        keys: dict[str, None] = {}
        for frame in islice(_frames(path, 0), LOOKED_AT):
            keys.update(dict.fromkeys(frame.values))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} cannot be read by ASE: {error}") from None
    if total == 0:
        raise InputError(f"{path} holds no structures")
    columns, said = settle(path, keys, wanted, Units("eV", "Å", "ASE's units"))
    return source_of(path, "ASE", total, columns, said, lambda skip: _frames(path, skip), wanted)


def _total(path: Path) -> int:
    if path.suffix.lower() == ".traj":
        from ase.io.trajectory import TrajectoryReader

        with TrajectoryReader(str(path)) as opened:
            return len(opened)
    import ase.db

    return len(ase.db.connect(str(path)))


def _frames(path: Path, skip: int) -> Iterator[Frame]:
    if path.suffix.lower() == ".traj":
        yield from _of_trajectory(path, skip)
        return
    import ase.db

    for row in ase.db.connect(str(path)).select(offset=skip):
        results = {name: row[name] for name in RESULTS if name in row}
        yield _frame(row.toatoms(), {**row.data, **row.key_value_pairs, **results})


def _of_trajectory(path: Path, skip: int) -> Iterator[Frame]:
    from ase.io.trajectory import TrajectoryReader

    with TrajectoryReader(str(path)) as opened:
        for k in range(skip, len(opened)):
            atoms = opened[k]
            arrays = {name: values for name, values in atoms.arrays.items() if name not in OWN}
            yield _frame(atoms, {**atoms.info, **arrays, **({} if atoms.calc is None else atoms.calc.results)})


def _frame(atoms: Any, values: dict[str, Any]) -> Frame:
    kept = {name: value for name, value in values.items() if value is not None and not isinstance(value, dict)}
    return Frame(
        atoms.numbers.astype(np.int64),
        np.asarray(atoms.positions, dtype=np.float64),
        kept,
        np.asarray(atoms.cell, dtype=np.float64),
        np.asarray(atoms.pbc, dtype=bool),
    )
