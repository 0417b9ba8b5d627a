"""What an opened file gives: structures, put together into blocks of a `Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from heliodor.errors import InputError
from heliodor.train.data.reading.wanted import Column, Wanted
from heliodor.train.dataset import Dataset

STRUCTURES, ATOMS = 1000, 100_000
"""Of a block at most (or one structure)."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One structure as it is in the file, with whatever values lie beside it, by the file's keys."""

    numbers: np.ndarray
    positions: np.ndarray
    values: Mapping[str, Any] = field(default_factory=dict)
    cell: np.ndarray | None = None
    pbc: np.ndarray | None = None
    group: str = ""
    kind: str = ""


@dataclass(frozen=True, eq=False)
class Source:
    """A file of structures, ready to be read.

    Attributes:
        path: its name.
        format: in words.
        said: sentences on keys and units, for the user.
        method: level of theory of its labels, where known.
        total: number of structures.
        blocks: data sets of bounded size, in the file's order, after a number of structures to skip. Their notes
            hold ``not_numbers``: structures (counted in the block) whose labels are no numbers, by label.
    """

    path: Path
    format: str
    said: tuple[str, ...]
    method: str
    total: int
    blocks: Callable[[int], Iterator[Dataset]]


def source_of(
    path: Path,
    format: str,
    total: int,
    columns: Mapping[str, Column],
    said: Sequence[str],
    frames: Callable[[int], Iterator[Frame]],
    wanted: Wanted,
    method: str = "",
) -> Source:
    """A source from a function that gives frames, after a number of them to skip."""
    level = wanted.method or method

    def blocks(skip: int) -> Iterator[Dataset]:
        kept: list[Frame] = []
        atoms, first = 0, skip
        for frame in frames(skip):
            if kept and (len(kept) >= STRUCTURES or atoms + len(frame.numbers) > ATOMS):
                yield assemble(kept, columns, wanted, path, level, first)
                first += len(kept)
                kept, atoms = [], 0
            kept.append(frame)
            atoms += len(frame.numbers)
        if kept:
            yield assemble(kept, columns, wanted, path, level, first)

    return Source(path, format, tuple(said), level, total, blocks)


def assemble(
    frames: Sequence[Frame], columns: Mapping[str, Column], wanted: Wanted, path: Path, method: str, first: int
) -> Dataset:
    """Frames as a data set in our units.

    Raises:
        InputError: a label of another shape, or that is no number; positions or elements that cannot be.
    """
    length = columns["positions"].factor if "positions" in columns else 1.0
    not_numbers: dict[str, list[int]] = {}

    def label(name: str, k: int, rows: int | None, *shape: int) -> np.ndarray:
        whole = shape if rows is None else (rows, *shape)
        column, frame = columns.get(name), frames[k]
        if column is None or column.key not in frame.values:
            return np.full(whole, np.nan)
        where = f"structure {first + k} of {path}"
        value = _number(frame.values[column.key], f"{column.key!r} of {where}")
        if name == "stress":
            value = _full_stress(value)
        if value.size != np.prod(whole, dtype=int):
            raise InputError(f"{column.key!r} of {where} has shape {value.shape}, not {whole}: is it the {name}?")
        value = value.reshape(whole) * column.factor
        if name == "stress" and "virial" in column.key and frame.cell is not None:
            value = -value / abs(float(np.linalg.det(frame.cell * length)))
        if not np.isfinite(value).all():
            if not wanted.keep_nan:
                raise InputError(
                    f"{column.key!r} of {where} is not a finite number: mend the file, or leave such labels out "
                    "with --keep-nan"
                )
            not_numbers.setdefault(name, []).append(k)
            value = np.full(whole, np.nan)
        return np.asarray(value, dtype=np.float64)

    def fact(name: str, k: int, default: Any) -> Any:
        column = columns.get(name)
        return default if column is None else frames[k].values.get(column.key, default)

    def number(name: str, k: int, default: float) -> float:
        where = f"structure {first + k} of {path}"
        value = _number(fact(name, k, default), f"{name} of {where}")
        if value.size != 1:
            raise InputError(
                f"{columns[name].key!r} of {where} has shape {value.shape}, not one number: it is not the {name}. "
                f"Say where that is (--{name}-key); partial charges are taken by --charges-key"
            )
        return float(value.reshape(-1)[0])

    for k, frame in enumerate(frames):
        _check(frame, f"structure {first + k} of {path}")
    counts = [len(frame.numbers) for frame in frames]
    every = range(len(frames))
    charge, spin = [], []
    for k in every:
        where = f"structure {first + k} of {path}"
        charge.append(number("charge", k, 0.0))
        unpaired = number("multiplicity", k, 1.0) - 1.0 if "multiplicity" in columns else number("spin", k, 0.0)
        if not np.isfinite(charge[-1]) or not unpaired >= 0 or unpaired != round(unpaired):
            raise InputError(f"{where} has charge {charge[-1]:g} and {unpaired:g} unpaired electrons: that cannot be")
        spin.append(unpaired)
    none = np.zeros((3, 3))
    return Dataset(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        numbers=np.concatenate([frame.numbers for frame in frames]).astype(np.int64),
        positions=np.concatenate([frame.positions for frame in frames]).astype(np.float64) * length,
        cell=np.stack([none if f.cell is None else np.asarray(f.cell, dtype=np.float64) for f in frames]) * length,
        pbc=np.stack([np.zeros(3, bool) if f.pbc is None else np.asarray(f.pbc, dtype=bool) for f in frames]),
        charge=np.array(charge),
        spin=np.array(spin),
        energy=np.array([float(label("energy", k, None)) for k in every]),
        forces=np.concatenate([label("forces", k, counts[k], 3) for k in every]),
        dipole=np.stack([label("dipole", k, None, 3) for k in every]),
        hirshfeld_ratios=np.concatenate([label("hirshfeld_ratios", k, counts[k]) for k in every]),
        charges=np.concatenate([label("charges", k, counts[k]) for k in every]),
        node_energies=np.full(sum(counts), np.nan),
        stress=np.stack([label("stress", k, None, 3, 3) for k in every]),
        kind=np.array([_word(fact("kind", k, frames[k].kind)) for k in every]),
        group=np.array([_word(fact("group", k, frames[k].group)) for k in every]),
        origin=np.array([path.name] * len(frames)),
        method=method,
        notes={"not_numbers": not_numbers},
    )


def _check(frame: Frame, where: str) -> None:
    if len(frame.numbers) == 0:
        raise InputError(f"{where} has no atoms")
    if frame.positions.shape != (len(frame.numbers), 3):
        raise InputError(f"{where} has {len(frame.numbers)} atoms, but positions of shape {frame.positions.shape}")
    if not np.isfinite(frame.positions).all():
        raise InputError(f"{where} has a coordinate that is not a finite number")
    if ((frame.numbers < 1) | (frame.numbers >= len(chemical_symbols))).any():
        raise InputError(f"{where} has an atom of no known element")


def _number(value: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what} is not a number but {str(value)[:40]!r}") from None


def _full_stress(value: np.ndarray) -> np.ndarray:
    if value.size != 6:
        return value
    xx, yy, zz, yz, xz, xy = value.reshape(6)
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def _word(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
