"""H5MD trajectories (de Buyl, Colberg & Höfling, Comput. Phys. Commun. 185, 1546 (2014)) that survive a kill.

The file is written in HDF5's single-writer/multiple-reader mode: its structure is fixed when the first frame is
written, after that data are only appended, and every frame is flushed, its step number last. A frame counts as
complete when its step number is there. Such a file can be read while it grows.

One structure is ``particles/trajectory``, as MDAnalysis has it; B of them are ``particles/structure_0`` and so on.
All elements of a group share one step and one time dataset by hard links, as H5MD allows. Forces are in
kJ/mol/Å, since MDAnalysis knows no electronvolts; `read_trajectory` gives eV/Å.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from heliodor.dynamics.files.h5md_resume import reopen
from heliodor.dynamics.files.selection import Written, written_atoms
from heliodor.dynamics.files.storage import AHEAD, cannot_write, check_still_there, reserve
from heliodor.dynamics.state import MDState, kinetic_energy, temperature
from heliodor.topology import Topology
from heliodor.units import KJ_PER_MOL

CHUNK_BYTES = 65536
"""Several frames of a small system share a chunk; a flush rewrites at most this much of each dataset."""

SLACK = 2**17
"""Bytes of HDF5's own bookkeeping that one frame, or closing the file, may need; generous."""

UNFINISHED = -1
"""Fill value of the step dataset: a frame whose step is this was cut off."""


class H5MDWriter:
    """Appends states to an H5MD file; see `heliodor.dynamics.files.trajectory.open_writer`."""

    def __init__(
        self,
        path: Path,
        *,
        velocities: bool,
        forces: bool,
        double: bool,
        atoms: Int[Tensor, "K"] | None,
        metadata: dict[str, str | float | int],
        topologies: Sequence[Topology] | None = None,
        resume: dict[str, int] | None = None,
    ) -> None:
        self.path = path
        self._velocities = velocities
        self._forces = forces
        self._real = "<f8" if double else "<f4"
        self._atoms = atoms
        self._metadata = metadata
        self._topologies = topologies
        self._written: Written | None = None
        self._file: h5py.File | None = None
        self._data: dict[str, h5py.Dataset] = {}
        self._mark = {"frames": 0, "step": -1, "atoms": 0, "species": 0}
        self._reserved = self._room = 0
        if resume is not None and resume["frames"] > 0:
            self._file, self._data = reopen(path, resume)
            self._mark = dict(resume)
            # what the file has decides what it gets
            self._velocities = any(key.endswith("/velocity") for key in self._data)
            self._forces = any(key.endswith("/force") for key in self._data)
            chosen = [group["id"][:] for group in self._file["particles"].values() if "id" in group]
            self._atoms = torch.as_tensor(chosen[0].astype(np.int64)) if chosen else None

    def write(self, state: MDState) -> None:
        """Append one frame and flush it.

        Raises:
            StorageError: no room, no permission; the frames before are intact.
        """
        values = self._values(state)
        n = self._mark["frames"] + 1
        try:
            if self._file is None:
                self._create(state, values)
            self._reserve()
            values |= {"time": np.array(state.time), "step": np.array(state.step)}
            # step last: it says that the frame is complete. A restarted run does not know its charges at once
            for key in (*(key for key in self._data if key != "step"), "step"):
                dataset = self._data[key]
                dataset.resize(n, axis=0)
                dataset[n - 1] = values.get(key, np.nan)
                dataset.flush()
        except (OSError, RuntimeError) as error:
            raise cannot_write(self.path, error) from error
        self._mark |= {"frames": n, "step": state.step}

    def mark(self) -> dict[str, int]:
        """What is on the disk now; see `heliodor.dynamics.files.trajectory.Writer`."""
        if self._file is not None:
            try:
                self._file.flush()
                descriptor = self._file.id.get_vfd_handle()
                os.fsync(descriptor)
                check_still_there(self.path, descriptor)
            except (OSError, RuntimeError) as error:
                raise cannot_write(self.path, error) from error
        return dict(self._mark)

    def close(self) -> None:
        """Leave a file that any HDF5 reader opens."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            file.flush()
            if self._reserved:
                os.ftruncate(file.id.get_vfd_handle(), file.id.get_filesize())
            file.close()
        except (OSError, RuntimeError) as error:
            raise cannot_write(self.path, error) from error

    def __enter__(self) -> H5MDWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:
            # what went wrong first says more
            if error is None:
                raise

    def _reserve(self) -> None:
        """Take room for this frame before HDF5 sees it: an HDF5 that ran out of space cannot even close its file."""
        assert self._file is not None
        if self._room == 0:
            self._room = SLACK + sum(int(np.prod(data.chunks)) * data.dtype.itemsize for data in self._data.values())
        end = self._file.id.get_filesize() + self._room
        if end > self._reserved:
            start = max(self._reserved, os.fstat(self._file.id.get_vfd_handle()).st_size)
            ahead = max(end, start) + AHEAD
            reserve(self._file.id.get_vfd_handle(), start, ahead)
            self._reserved = ahead

    def _values(self, state: MDState) -> dict[str, np.ndarray]:
        """One frame's arrays by path within the file."""
        system = state.system
        if self._written is None:
            self._written = written_atoms(system, self._atoms)
            self._mark |= {"atoms": len(self._written.numbers), "species": self._written.species}
        written = self._written
        arrays = {"position": written.pick(system.positions)}
        if self._velocities:
            arrays["velocity"] = written.pick(state.velocities)
        if self._forces:
            arrays["force"] = written.pick(state.forces) / KJ_PER_MOL
        if state.prediction is not None and state.prediction.charges is not None:
            arrays["charge"] = written.pick(state.prediction.charges)
        if state.prediction is not None and state.prediction.hirshfeld_ratios is not None:
            arrays["hirshfeld_ratio"] = written.pick(state.prediction.hirshfeld_ratios)
        cell, pbc = _numpy(system.cell), _numpy(system.pbc)
        values: dict[str, np.ndarray] = {}
        start = 0
        for b, count in enumerate(written.counts):
            group = f"particles/{_group_name(b, system.n_structures)}"
            values |= {f"{group}/{name}": a[start : start + count] for name, a in arrays.items()}
            if bool(pbc[b].any()):
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

        assert self._written is not None
        system, written = state.system, self._written
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

        masses, pbc = written.pick(state.masses), _numpy(system.pbc)
        start = 0
        for b, count in enumerate(written.counts):
            group = file[f"particles/{_group_name(b, system.n_structures)}"]
            group["species"] = written.numbers[start : start + count].astype(np.int32)
            group["mass"] = masses[start : start + count]
            group["mass"].attrs["unit"] = "u"
            if self._atoms is not None:
                group["id"] = self._atoms.cpu().numpy()
            if self._topologies is not None:
                _write_names(group, self._topologies[b], self._atoms)
            box = group.require_group("box")
            box.attrs["dimension"] = 3
            box.attrs["boundary"] = np.array(["periodic" if p else "none" for p in pbc[b]], dtype="S8")
            group.attrs["charge"] = float(system.charge[b])
            group.attrs["spin"] = int(system.spin[b])
            start += count
        file.swmr_mode = True


def _write_names(group: h5py.Group, topology: Topology, chosen: Int[Tensor, "K"] | None) -> None:
    """Names of atoms and residues beside their species, as far as they are known."""
    if not topology.named:
        return
    known = topology if chosen is None else topology.take(chosen.cpu().numpy())
    group["residue_number"] = known.residue_numbers
    for key, words in (("atom_name", known.names), ("residue_name", known.residue_names), ("chain", known.chains)):
        group[key] = np.char.encode(words, "utf-8")


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
        "force": "kJ mol-1 Angstrom-1",
        "charge": "e",
        "hirshfeld_ratio": "",
        "temperature": "K",
    }
    return units.get(path.rpartition("/")[2], "eV")


def _group_name(structure: int, n_structures: int) -> str:
    return "trajectory" if n_structures == 1 else f"structure_{structure}"


def _numpy(x: Tensor) -> np.ndarray:
    array: np.ndarray = x.detach().cpu().numpy()
    return array
