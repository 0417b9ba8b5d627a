"""Extended xyz files: scanned once for where frames begin, then read a block at a time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.data import atomic_numbers
from ase.io.extxyz import key_val_str_to_dict

from heliodor.errors import InputError
from heliodor.topology import topology_of

QUANTITIES = ("velocities", "charges", "hirshfeld_ratios")
"""Columns that are read where they are there; velocities are in Å/fs, as heliodor writes them under this name."""


@dataclass(frozen=True, eq=False)
class ExtXYZSource:
    """Frames of one structure."""

    path: Path
    offsets: np.ndarray
    """[T] bytes at which frames begin."""
    columns: dict[str, tuple[int, int]]
    """First column and width of what is read."""

    def read(self, frames: np.ndarray, atoms: np.ndarray | None, wanted: Collection[str]) -> dict[str, np.ndarray]:
        gathered: dict[str, list[np.ndarray]] = {name: [] for name in ("positions", *wanted)}
        cells = []
        names = [name for name in gathered if name != "energy"]
        used = [c for name in names for c in range(self.columns[name][0], sum(self.columns[name]))]
        with self.path.open("rb") as file:
            for frame in frames.tolist():
                file.seek(int(self.offsets[frame]))
                count = int(file.readline())
                comment = _comment(file.readline())
                lines = [file.readline() for _ in range(count)]
                if atoms is not None:
                    lines = [lines[k] for k in atoms.tolist()]
                try:
                    table = np.array([[line.split()[c] for c in used] for line in lines], dtype=np.float64)
                except (ValueError, IndexError):
                    raise InputError(f"{self.path}: frame {frame} holds a line that is no atom") from None
                table = table.reshape(len(lines), len(used))
                at = 0
                for name in names:
                    width = self.columns[name][1]
                    values = table[:, at : at + width]
                    gathered[name].append(values[:, 0] if width == 1 else values)
                    at += width
                if "energy" in gathered:
                    gathered["energy"].append(np.array(float(comment["energy"])))
                if "Lattice" in comment:
                    cells.append(_lattice(comment["Lattice"]))
        found = {name: np.stack(values) for name, values in gathered.items()}
        if cells:
            if len(cells) != len(frames):
                raise InputError(f"{self.path}: some frames have a cell and others have none")
            found["cell"] = np.stack(cells)
        return found


def describe(path: Path, structure: int) -> dict[str, Any]:
    """The fields of a `Trajectory` of this file, but for its path.

    Raises:
        InputError: not extended xyz, no such structure, frames of different atoms.
    """
    offsets, times, counts, cut = _scan(path, structure)
    if not offsets:
        raise InputError(f"{path} holds no complete frame" + (f" of structure {structure}" if structure else ""))
    if len(set(counts)) > 1:
        raise InputError(
            f"{path} is no trajectory of one structure: its frames have {min(counts)} to {max(counts)} atoms"
        )
    comment, rows = _frame(path, offsets[0])
    layout = _layout(str(comment.get("Properties", "species:S:1:pos:R:3")), path)
    kinds = {key: [row[first] for row in rows] for key, (first, _) in layout.items()}
    try:
        numbers = [atomic_numbers[symbol.capitalize()] for symbol in kinds["species"]]
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]!r} is no element") from None
    columns = {"positions": layout["pos"]}
    columns |= {name: layout[name] for name in QUANTITIES if name in layout}
    source = ExtXYZSource(path, np.array(offsets), columns)
    frame = ase.Atoms(numbers, source.read(np.array([0]), None, ())["positions"][0])
    if "Lattice" in comment:
        frame.cell = _lattice(comment["Lattice"])
        frame.pbc = _pbc(comment.get("pbc", "T T T"))
    for key in ("atom_name", "residue_name", "residue_number", "residue_index", "chain"):
        if key in kinds:
            integer = key in ("residue_number", "residue_index")
            frame.set_array(key, np.array(kinds[key], dtype=np.int64) if integer else np.array(kinds[key]))
    notes = ["the last frame is cut off and left out"] if cut else []
    if all(time is not None for time in times):
        time = np.array(times, dtype=np.float64)
    else:
        time = np.arange(len(offsets), dtype=np.float64)
        notes.append("frames do not say their time (time_fs): they are numbered, and times are not meant")
    holds = set(columns) - {"positions"} | ({"energy"} if "energy" in comment else set())
    partial = "id" in layout
    topology = topology_of(frame)
    return {
        "topology": topology,
        "masses": frame.get_masses(),
        "pbc": np.asarray(frame.pbc),
        "time": time,
        "holds": frozenset(holds),
        "source": source,
        "charge": None if partial or "charge" not in comment else float(comment["charge"]),
        "spin": None if partial or "spin" not in comment else int(comment["spin"]),
        "partial": partial,
        "ids": np.array([int(row[layout["id"][0]]) for row in rows]) if partial else None,
        "origin": "names from the file, bonds by distance in its first frame"
        if topology.named
        else "bonds by distance in the first frame",
        "notes": tuple(notes),
    }


def _scan(path: Path, structure: int) -> tuple[list[int], list[float | None], list[int], bool]:
    """Where frames begin, their times, and whether the last is cut off."""
    offsets: list[int] = []
    times: list[float | None] = []
    counts: list[int] = []
    with path.open("rb") as file:
        number = 0
        while True:
            at = file.tell()
            head = file.readline()
            number += 1
            if not head:
                return offsets, times, counts, False
            if not head.strip():
                continue
            try:
                count = int(head)
            except ValueError:
                if not head.endswith(b"\n"):
                    return offsets, times, counts, True
                raise InputError(f"{path}, line {number}: expected the number of atoms of a frame") from None
            comment = file.readline()
            last = comment
            for _ in range(count):
                last = file.readline()
            number += 1 + count
            # a last line without its newline is whole only if another program wrote the file
            if not last.endswith(b"\n") and (len(last.split()) < 4 or b"time_fs=" in comment):
                return offsets, times, counts, True
            entries = _comment(comment)
            if int(entries.get("structure", structure)) != structure:
                continue
            offsets.append(at)
            counts.append(count)
            times.append(float(entries["time_fs"]) if "time_fs" in entries else None)


def _comment(line: bytes) -> dict[str, Any]:
    text = line.decode("utf-8", errors="replace")
    if "=" not in text:
        return {}
    parsed: dict[str, Any] = key_val_str_to_dict(text)
    return parsed


def _frame(path: Path, offset: int) -> tuple[dict[str, Any], list[list[str]]]:
    with path.open("rb") as file:
        file.seek(offset)
        count = int(file.readline())
        comment = _comment(file.readline())
        return comment, [file.readline().decode("utf-8", errors="replace").split() for _ in range(count)]


def _layout(properties: str, path: Path) -> dict[str, tuple[int, int]]:
    """First column and width by name."""
    words = properties.split(":")
    layout, at = {}, 0
    for name, _, width in zip(words[::3], words[1::3], words[2::3], strict=True):
        layout[name] = (at, int(width))
        at += int(width)
    if "species" not in layout or "pos" not in layout:
        raise InputError(f"{path}: its frames have no columns species and pos")
    return layout


def _lattice(value: Any) -> np.ndarray:
    # ASE's parser hands a 3 x 3 lattice over with columns for rows
    matrix = np.array(value, dtype=np.float64)
    return matrix.T.copy() if matrix.shape == (3, 3) else matrix.reshape(3, 3)


def _pbc(value: Any) -> np.ndarray:
    if isinstance(value, str):
        return np.array([word in ("T", "True", "1") for word in value.split()])
    return np.asarray(value, dtype=bool)
