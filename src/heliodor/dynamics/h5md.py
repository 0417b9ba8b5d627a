"""H5MD trajectories (de Buyl, Colberg & Höfling, Comput. Phys. Commun. 185, 1546 (2014)) that survive a kill.

The file is written in HDF5's single-writer/multiple-reader mode: its structure is fixed when the first frame is
written, after that data are only appended, and every frame is flushed, its step number last. A frame counts as
complete when its step number is there. Such a file can be read while it grows.

One structure is ``particles/all``; B of them are ``particles/structure_0`` and so on. All elements of a group
share one step and one time dataset by hard links, as H5MD allows.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import ase
import ase.units
import h5py
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from torch import Tensor

from heliodor.dynamics.state import MDState, kinetic_energy, temperature
from heliodor.errors import InputError

CHUNK_BYTES = 65536
"""Several frames of a small system share a chunk; a flush rewrites at most this much of each dataset."""

UNFINISHED = -1
"""Fill value of the step dataset: a frame whose step is this was cut off."""


class H5MDWriter:
    """Appends states to a new H5MD file; see `heliodor.dynamics.trajectory.open_writer`."""

    def __init__(
        self, path: Path, *, velocities: bool, forces: bool, double: bool, metadata: dict[str, str | float | int]
    ) -> None:
        self.path = path
        self._velocities = velocities
        self._forces = forces
        self._real = "<f8" if double else "<f4"
        self._metadata = metadata
        self._file: h5py.File | None = None
        self._data: dict[str, h5py.Dataset] = {}
        self._frames = 0

    def write(self, state: MDState) -> None:
        """Append one frame and flush it."""
        values = self._values(state)
        if self._file is None:
            self._create(state, values)
        n = self._frames + 1
        for key, value in (*values.items(), ("time", state.time), ("step", state.step)):
            dataset = self._data[key]
            dataset.resize(n, axis=0)
            dataset[n - 1] = value
            dataset.flush()
        self._frames = n

    def close(self) -> None:
        """Leave a file that any HDF5 reader opens."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> H5MDWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _values(self, state: MDState) -> dict[str, np.ndarray]:
        """One frame's arrays by path within the file."""
        system = state.system
        per_atom = {"position": system.positions}
        if self._velocities:
            per_atom["velocity"] = state.velocities
        if self._forces:
            per_atom["force"] = state.forces
        if state.prediction is not None and state.prediction.charges is not None:
            per_atom["charge"] = state.prediction.charges
        arrays = {name: _numpy(value) for name, value in per_atom.items()}
        cell = _numpy(system.cell)
        values: dict[str, np.ndarray] = {}
        start = 0
        for b, count in enumerate(system.counts.tolist()):
            group = f"particles/{_group_name(b, system.n_structures)}"
            values |= {f"{group}/{name}": a[start : start + count] for name, a in arrays.items()}
            if bool(system.pbc[b].any()):
                values[f"{group}/box/edges"] = cell[b]
            start += count
        for name, value in (
            ("potential_energy", state.energy),
            ("kinetic_energy", kinetic_energy(state)),
            ("temperature", temperature(state)),
        ):
            numbers = _numpy(value)
            values[f"observables/{name}"] = numbers[0] if system.n_structures == 1 else numbers
        return values

    def _create(self, state: MDState, values: dict[str, np.ndarray]) -> None:
        from heliodor import __version__

        system = state.system
        # file locks fail on some network file systems; SWMR needs none
        file = h5py.File(self.path, "w", libver="latest", locking="best-effort")
        self._file = file
        header = file.create_group("h5md")
        header.attrs["version"] = np.array([1, 1], dtype=np.int32)
        header.create_group("author").attrs["name"] = "unknown"
        creator = header.create_group("creator")
        creator.attrs["name"] = "heliodor"
        creator.attrs["version"] = __version__
        file.create_group("heliodor").attrs.update(self._metadata)
        file["heliodor"].attrs["n_structures"] = system.n_structures

        steps = file.create_dataset(
            "heliodor/step", (0,), maxshape=(None,), chunks=(1024,), dtype="<i8", fillvalue=UNFINISHED
        )
        times = file.create_dataset("heliodor/time", (0,), maxshape=(None,), chunks=(1024,), dtype="<f8")
        times.attrs["unit"] = "fs"
        self._data = {"step": steps, "time": times}
        for path, value in values.items():
            small = path.endswith("edges") or path.startswith("observables")
            dtype = "<f8" if small else self._real
            self._data[path] = _element(file, path, np.shape(value), dtype, _unit(path), steps, times)

        numbers, masses, pbc = _numpy(system.numbers), _numpy(state.masses), _numpy(system.pbc)
        start = 0
        for b, count in enumerate(system.counts.tolist()):
            group = file[f"particles/{_group_name(b, system.n_structures)}"]
            group["species"] = numbers[start : start + count].astype(np.int32)
            group["mass"] = masses[start : start + count]
            group["mass"].attrs["unit"] = "u"
            box = group.require_group("box")
            box.attrs["dimension"] = 3
            box.attrs["boundary"] = np.array(["periodic" if p else "none" for p in pbc[b]], dtype="S8")
            group.attrs["charge"] = float(system.charge[b])
            group.attrs["spin"] = int(system.spin[b])
            start += count
        file.swmr_mode = True


def read(path: Path, structure: int = 0) -> list[ase.Atoms]:
    """All complete frames of one structure of an H5MD file as ase.Atoms; see `trajectory.read_trajectory`."""
    with _open(path) as file:
        if "particles" not in file:
            raise InputError(f"{path} is not an H5MD trajectory: it has no particles group")
        groups = sorted(file["particles"], key=lambda name: int(name.rpartition("_")[2]) if "_" in name else 0)
        if not 0 <= structure < len(groups):
            raise InputError(f"{path} holds {len(groups)} structure(s); there is no structure {structure}")
        group = file[f"particles/{groups[structure]}"]
        present = {name: group[name] for name in ("position", "velocity", "force", "charge") if name in group}
        if "edges" in group["box"]:
            present["box"] = group["box/edges"]
        shared = len(groups) > 1
        if "observables/potential_energy" in file:
            present["energy"] = file["observables/potential_energy"]
        step, time = present["position"]["step"][:], present["position"]["time"][:]
        n = min([len(time), *(len(element["value"]) for element in present.values())])
        good = np.flatnonzero(step[:n] != UNFINISHED)
        n = int(good[-1]) + 1 if len(good) else 0
        arrays = {name: element["value"][:n].astype(np.float64) for name, element in present.items()}
        numbers, masses = group["species"][:], group["mass"][:] if "mass" in group else None
        pbc = [value == b"periodic" for value in np.asarray(group["box"].attrs["boundary"], dtype="S8")]
        info = {"charge": float(group.attrs.get("charge", 0.0)), "spin": int(group.attrs.get("spin", 0))}
    if shared and "energy" in arrays:
        arrays["energy"] = arrays["energy"][:, structure]
    frames = []
    for k in range(n):
        atoms = ase.Atoms(numbers, arrays["position"][k], masses=masses, pbc=pbc)
        if "box" in arrays:
            atoms.cell = arrays["box"][k]
        if "velocity" in arrays:
            atoms.set_velocities(arrays["velocity"][k] / ase.units.fs)
        atoms.info |= info | {"step": int(step[k]), "time_fs": float(time[k])}
        results = {"energy": "energy", "force": "forces", "charge": "charges"}
        known = {result: arrays[name][k] for name, result in results.items() if name in arrays}
        if "energy" in known:
            known["energy"] = float(known["energy"])
        atoms.calc = SinglePointCalculator(atoms, **known) if known else None
        frames.append(atoms)
    return frames


def _open(path: Path) -> h5py.File:
    errors = []
    # a file whose writer was killed can be opened as one being written only; a foreign one perhaps not so
    for options in ({"libver": "latest", "swmr": True}, {}):
        try:
            return h5py.File(path, "r", locking="best-effort", **options)
        except (OSError, ValueError) as error:
            errors.append(str(error))
    raise InputError(f"{path} cannot be read as HDF5: {errors[-1]}")


def _element(
    file: h5py.File, path: str, shape: tuple[int, ...], dtype: str, unit: str, step: Any, time: Any
) -> h5py.Dataset:
    """An H5MD element: value dataset growing along time, with its step and time."""
    group = file.require_group(path)
    bytes_per_frame = max(1, int(np.prod(shape))) * np.dtype(dtype).itemsize
    frames = min(1024, max(1, CHUNK_BYTES // bytes_per_frame))
    value = group.create_dataset("value", (0, *shape), maxshape=(None, *shape), chunks=(frames, *shape), dtype=dtype)
    value.attrs["unit"] = unit
    group["step"], group["time"] = step, time
    return value


def _unit(path: str) -> str:
    units = {
        "position": "Angstrom",
        "edges": "Angstrom",
        "velocity": "Angstrom fs-1",
        "force": "eV Angstrom-1",
        "charge": "e",
        "temperature": "K",
    }
    return units.get(path.rpartition("/")[2], "eV")


def _group_name(structure: int, n_structures: int) -> str:
    return "all" if n_structures == 1 else f"structure_{structure}"


def _numpy(x: Tensor) -> np.ndarray:
    array: np.ndarray = x.detach().cpu().numpy()
    return array
