"""Files of other programs (DCD, XTC, TRR, NetCDF ...), which hold no elements: MDTraj reads them with a topology."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np

from heliodor.errors import InputError
from heliodor.topology import topology_of
from heliodor.trajectory.foreign import NANOMETRE, mdtraj, to_mdtraj
from heliodor.trajectory.formats.dcd import open_dcd

SUFFIXES = (".dcd", ".xtc", ".trr", ".nc", ".ncdf", ".netcdf", ".lammpstrj", ".binpos", ".mdcrd")

NO_TIMESTEP = "the DCD file does not say its timestep: frames are numbered, and times are not meant"

PART_BYTES = 8 * 2**20
"""Of positions that are read at a time."""


@dataclass(frozen=True, eq=False)
class OtherSource:
    """Frames that MDTraj reads."""

    path: Path
    topology: Any
    """Of MDTraj."""

    def read(self, frames: np.ndarray, atoms: np.ndarray | None, wanted: Collection[str]) -> dict[str, np.ndarray]:
        positions, cells = [], []
        with mdtraj().open(str(self.path)) as file:
            size = max(1, PART_BYTES // (12 * self.topology.n_atoms))
            for first, count in _runs(frames, size):
                file.seek(int(first))
                part = file.read_as_traj(self.topology, n_frames=int(count))
                positions.append(part.xyz if atoms is None else part.xyz[:, atoms])
                if part.unitcell_vectors is not None:
                    cells.append(part.unitcell_vectors)
        if sum(map(len, positions)) != len(frames):
            raise InputError(f"{self.path} ends before frame {int(frames[-1])}")
        found = {"positions": NANOMETRE * np.concatenate(positions).astype(np.float64)}
        if cells:
            found["cell"] = NANOMETRE * np.concatenate(cells).astype(np.float64)
        return found


def describe(path: Path, atoms: ase.Atoms) -> dict[str, Any]:
    """The fields of a `Trajectory` of this file, but for its path.

    Args:
        atoms: a structure with the same atoms in the same order.

    Raises:
        InputError: not readable, another number of atoms, no frames.
        MissingExtraError: MDTraj is not installed.
    """
    topology = topology_of(atoms)
    common: dict[str, Any] = {
        "topology": topology,
        "masses": atoms.get_masses(),
        "holds": frozenset(),
        "charge": atoms.info.get("charge"),
        "spin": atoms.info.get("spin"),
        "origin": "names from the topology, bonds by distance in it",
    }
    own = open_dcd(path) if path.suffix.lower() == ".dcd" else None
    if own is not None:
        _check_count(path, own.n_atoms, len(atoms))
        if own.count == 0:
            raise InputError(f"{path} holds no complete frame")
        notes: tuple[str, ...] = () if own.time is not None else (NO_TIMESTEP,)
        notes += ("the last frame is cut off and left out",) if own.lost else ()
        time = np.arange(own.count, dtype=np.float64) if own.time is None else own.time
        pbc = _periodic(own.read(np.array([0]), np.array([0]), ()))
        return {**common, "source": own, "time": time, "notes": notes, "pbc": pbc, "continuous": own.own}
    source = OtherSource(path, to_mdtraj(topology))
    try:
        with mdtraj().open(str(path)) as file:
            count = len(file)
        if count == 0:
            raise InputError(f"{path} holds no frame")
        first = source.read(np.array([0]), None, ())
        time, notes = _times(path, source, count)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be read with a topology of {len(atoms)} atoms: {' '.join(str(error).split())[:200]}"
        ) from None
    _check_count(path, first["positions"].shape[1], len(atoms))
    return {**common, "source": source, "time": time, "notes": notes, "pbc": _periodic(first)}


def _periodic(found: dict[str, np.ndarray]) -> np.ndarray:
    """[3] whether the first cell has a length along each lattice vector."""
    return np.linalg.norm(found["cell"][0], axis=1) > 0.0 if "cell" in found else np.zeros(3, dtype=bool)


def _check_count(path: Path, have: int, given: int) -> None:
    if have != given:
        raise InputError(
            f"{path} has frames of {have} atoms and the topology has {given}: give the structure that was simulated"
        )


def _runs(frames: np.ndarray, longest: int) -> list[tuple[int, int]]:
    """First frame and length of stretches without gaps, none longer than that."""
    if len(frames) == 0:
        return []
    breaks = np.flatnonzero(np.diff(frames) != 1) + 1
    parts = [part[k : k + longest] for part in np.split(frames, breaks) for k in range(0, len(part), longest)]
    return [(int(part[0]), len(part)) for part in parts]


def _times(path: Path, source: OtherSource, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """fs of each frame."""
    if path.suffix.lower() == ".dcd":
        return np.arange(count, dtype=np.float64), (NO_TIMESTEP,)
    times, at, size = [], 0, 256
    with mdtraj().open(str(path)) as file:
        while at < count:
            part = file.read_as_traj(source.topology, n_frames=min(size, count - at), atom_indices=np.array([0]))
            if len(part) == 0:
                break
            times.append(part.time)
            at += len(part)
    return 1000.0 * np.concatenate(times).astype(np.float64), ()
