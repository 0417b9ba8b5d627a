"""H5MD files, heliodor's or others', finished, growing or left by a killed run: hyperslabs, nothing else in memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import h5py
import numpy as np

from heliodor.dynamics.files.h5md_read import open_for_reading
from heliodor.errors import InputError
from heliodor.topology import Topology, topology_of

ELEMENTS = {"velocities": "velocity", "charges": "charge", "hirshfeld_ratios": "hirshfeld_ratio"}
"""H5MD's names."""

NAMES = {
    "names": "atom_name",
    "residue_names": "residue_name",
    "residue_numbers": "residue_number",
    "chains": "chain",
}
"""Of a topology's arrays, beside ``species``."""

PART_BYTES = 8 * 2**20
"""Of a dataset that are read at a time."""


@dataclass(frozen=True, eq=False)
class H5MDSource:
    """Frames of one particles group."""

    path: Path
    group: str
    column: int | None
    """Of the observables, where the file holds several structures."""
    boxes: np.ndarray | None = None
    """Row of the cells of each frame, where cells were sampled at other steps than positions."""

    def read(self, frames: np.ndarray, atoms: np.ndarray | None, wanted: Collection[str]) -> dict[str, np.ndarray]:
        # opened for each block: a file that grows shows what is new, and no handle crosses a fork
        with open_for_reading(self.path) as file:
            group = file[self.group]
            found = {"positions": _rows(group["position/value"], frames, atoms)}
            if "edges" in group["box"]:
                rows = frames if self.boxes is None else self.boxes[frames]
                found["cell"] = _cells(group["box/edges"], rows)
            for name in wanted:
                if name == "energy":
                    energy = _rows(file["observables/potential_energy/value"], frames, None)
                    found[name] = energy if self.column is None else energy[:, self.column]
                else:
                    found[name] = _rows(group[ELEMENTS[name]]["value"], frames, atoms)
        return found


def _rows(data: h5py.Dataset, frames: np.ndarray, atoms: np.ndarray | None) -> np.ndarray:
    """Frames of a dataset in float64; contiguous reads, as HDF5 is slow at picking."""
    if len(frames) == 0:
        return np.empty((0, *data.shape[1:]))
    stride = int(frames[1] - frames[0]) if len(frames) > 1 else 1
    even = bool((np.diff(frames) == stride).all())
    chosen = atoms is not None and len(atoms) > 0
    low, high = (int(atoms.min()), int(atoms.max()) + 1) if chosen and atoms is not None else (0, None)
    shape = data.shape[1:] if atoms is None else (len(atoms), *data.shape[2:])
    found = np.empty((len(frames), *shape))
    # what lies between the atoms is read with them: a part at a time
    width = data.dtype.itemsize * int(np.prod(data.shape[2:])) * ((high or 0) - low)
    size = max(1, PART_BYTES // max(width, 1)) if chosen else len(frames)
    if not even:
        size = 1
    for k in range(0, len(frames), size):
        part = frames[k : k + size]
        rows = slice(int(part[0]), int(part[-1]) + 1, stride if even else 1)
        if atoms is None:
            found[k : k + size] = data[rows]
        elif chosen:
            found[k : k + size] = data[rows, low:high][:, atoms - low]
    return found


def _cells(edges: h5py.Group | h5py.Dataset, frames: np.ndarray) -> np.ndarray:
    """[K, 3, 3]; H5MD allows cells that do not change and cells given by lengths."""
    if isinstance(edges, h5py.Dataset):
        value = np.broadcast_to(edges[()], (len(frames), *edges.shape)).astype(np.float64)
    else:
        value = _rows(edges["value"], frames, None)
    if value.ndim == 2:
        value = value[:, :, None] * np.eye(3)
    return value


def describe(path: Path, structure: int) -> dict[str, Any]:
    """The fields of a `Trajectory` of this file, but for its path.

    Raises:
        InputError: not H5MD, no such structure, no complete frame, units unknown.
    """
    with open_for_reading(path) as file:
        if "particles" not in file:
            raise InputError(f"{path} is not an H5MD trajectory: it has no particles group")
        names = sorted(file["particles"], key=lambda name: int(name.rpartition("_")[2]) if "_" in name else 0)
        if not 0 <= structure < len(names):
            raise InputError(f"{path} holds {len(names)} structure(s); there is no structure {structure}")
        group = file[f"particles/{names[structure]}"]
        if "position" not in group or "species" not in group:
            raise InputError(f"{path} holds no positions or no elements (position, species) of {names[structure]}")
        _check_units(path, group)
        step, time = _sampled(group["position"], "step"), _sampled(group["position"], "time").astype(np.float64)
        offered: dict[str, Any] = {name: group[element] for name, element in ELEMENTS.items() if element in group}
        selected = "id" in group
        if "observables/potential_energy" in file and not selected:
            offered["energy"] = file["observables/potential_energy"]
        held = {name: element for name, element in offered.items() if _same_steps(step, element)}
        length = min([len(step), len(time), *(len(e["value"]) for e in (group["position"], *held.values()))])
        # steps not written yet hold a negative fill value
        good = np.flatnonzero(step[:length] >= 0)
        count = int(good[-1]) + 1 if len(good) else 0
        if count == 0:
            raise InputError(f"{path} holds no complete frame")
        unit = str(group["position/time"].attrs.get("unit", "fs"))
        if unit not in ("fs", "ps"):
            raise InputError(f"{path}: times are in {unit!r}, which is not known here (fs, ps)")
        boxes = _box_rows(path, group, step[:count])
        numbers = group["species"][:].astype(np.int64)
        boundary = np.asarray(group["box"].attrs["boundary"], dtype="S8")
        pbc = np.array([value == b"periodic" for value in boundary])
        # charge and spin are those of the whole structure
        electrons = {} if selected else {"charge": group.attrs.get("charge"), "spin": group.attrs.get("spin")}
        source = H5MDSource(path, f"particles/{names[structure]}", structure if len(names) > 1 else None, boxes)
        settings = dict(file["heliodor"].attrs) if "heliodor" in file else {}
        masses = group["mass"][:].astype(np.float64) if "mass" in group else None
        stored = {field: group[key][:] for field, key in NAMES.items() if key in group}
        bonds = group["bonds"][:].astype(np.int64) if "bonds" in group else None
    first = source.read(np.array([0]), None, ())
    frame = ase.Atoms(numbers, first["positions"][0], masses=masses, pbc=pbc)
    if "cell" in first:
        frame.cell = first["cell"][0]
    lost = length - count if length > count else 0
    notes = [f"{lost} frame(s) at the end of the file are incomplete and left out"] if lost else []
    notes += [
        f"{name.replace('_', ' ')} were saved at other steps than positions and are left out"
        for name in offered
        if name not in held
    ]
    return {
        "topology": _topology(frame, stored, bonds),
        "masses": frame.get_masses(),
        "pbc": pbc,
        "time": time[:count] * (1000.0 if unit == "ps" else 1.0),
        "holds": frozenset(held),
        "source": source,
        "charge": None if electrons.get("charge") is None else float(electrons["charge"]),
        "spin": None if electrons.get("spin") is None else int(electrons["spin"]),
        "settings": settings,
        "partial": selected,
        "origin": "names and bonds from the file" if stored else "bonds by distance in the first frame",
        "continuous": bool(settings),
        "notes": tuple(notes),
    }


def _sampled(element: h5py.Group, name: str) -> np.ndarray:
    """Step or time of each frame of an element; H5MD allows an interval and an offset instead of all of them."""
    data = element[name]
    if data.ndim:
        return np.asarray(data[:])
    return np.asarray(data.attrs.get("offset", 0) + data[()] * np.arange(len(element["value"])))


def _same_steps(positions: np.ndarray, element: h5py.Group | h5py.Dataset) -> bool:
    """Whether frames are of the same steps, but for the one that is perhaps being written."""
    if not isinstance(element, h5py.Group) or not {"step", "value"} <= element.keys():
        return False
    others = _sampled(element, "step")
    n = min(len(positions), len(others))
    return abs(len(positions) - len(others)) <= 1 and bool((positions[:n] == others[:n]).all())


def _box_rows(path: Path, group: h5py.Group, step: np.ndarray) -> np.ndarray | None:
    """Row of the cell of each frame; None where rows are frames, or the cell is one for all.

    Raises:
        InputError: frames without a cell.
    """
    edges = group["box/edges"] if "edges" in group["box"] else None
    if edges is None or isinstance(edges, h5py.Dataset):
        return None
    steps = _sampled(edges, "step")[: len(edges["value"])]
    if len(steps) >= len(step) and (steps[: len(step)] == step).all():
        return None
    row = {int(s): k for k, s in enumerate(steps.tolist())}
    missing = [int(s) for s in step.tolist() if int(s) not in row]
    if missing:
        raise InputError(
            f"{path}: cells were saved at other steps than positions, and there is none of step {missing[0]}: save "
            "both at the same steps"
        )
    return np.array([row[int(s)] for s in step.tolist()])


def _topology(frame: ase.Atoms, stored: dict[str, np.ndarray], bonds: np.ndarray | None) -> Topology:
    keys = {"names": "atom_name", "residue_names": "residue_name", "chains": "chain"}
    for field, values in stored.items():
        if field in keys:
            frame.set_array(keys[field], np.char.decode(values.astype("S"), "utf-8"))
        else:
            frame.set_array("residue_number", values.astype(np.int64))
    return topology_of(frame, bonds)


def _check_units(path: Path, group: h5py.Group) -> None:
    for name, known in (("position", ("Angstrom", "angstrom", "Å")), ("velocity", ("Angstrom fs-1",))):
        if name in group:
            unit = group[name]["value"].attrs.get("unit")
            unit = unit.decode() if isinstance(unit, bytes) else unit
            if unit is not None and str(unit) not in known:
                raise InputError(f"{path}: {name} is in {unit}, and only {known[0]} is read; convert the file")
