"""The record of a scan: every relaxation, appended to an extended xyz file as it finishes, and read back to go on."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from heliodor.errors import InputError, SimulationError
from heliodor.potential import Potential
from heliodor.scan.relax import DECIMALS
from heliodor.system import read_charge, read_spin

ELECTRONS = ("charge", "spin", "multiplicity", "spin_multiplicity")
"""Keys of ``atoms.info`` that go with the structures of a scan."""


@dataclass(frozen=True)
class Relaxation:
    """One relaxation of a scan.

    Attributes:
        point: place on the grid, an index per dihedral.
        angles: degrees of the held dihedrals.
        source: number of the relaxation it started from, -1 for the input.
        atoms: where it ended.
        energy: eV, model's own zero; None where there is none.
        forces: [N, 3] eV/Å; None likewise.
        steps: energies asked for.
        failure: why it does not count; None if it does.
    """

    point: tuple[int, ...]
    angles: tuple[float, ...]
    source: int
    atoms: ase.Atoms
    energy: float | None
    forces: np.ndarray | None
    steps: int
    failure: str | None


class Record:
    """The file; one process at a time writes it.

    Args:
        key: what `fingerprint` says of the scan.
        restart: read what is there; otherwise an old file is emptied.

    Raises:
        InputError: the file belongs to another scan, or another process writes it.
        SimulationError: it cannot be written.
    """

    def __init__(self, path: Path, key: str, *, restart: bool) -> None:
        self.path, self.key = path, key
        self.finished: list[Relaxation] = []
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise _cannot(path, error) from error
        try:
            self._claim()
            if restart:
                self._read()
            else:
                os.ftruncate(self._descriptor, 0)
        except BaseException:
            self.close()
            raise

    def append(self, done: Relaxation) -> None:
        """Add one relaxation; it is on the disk when this returns.

        Raises:
            SimulationError: no room, no permission; what was there before is intact.
        """
        data = _frame(done, self.key).encode()
        start = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, start)
            raise _cannot(self.path, error) from error

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _claim(self) -> None:
        if sys.platform == "win32":
            return
        import fcntl

        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{self.path} is being written by another process: is this scan running already?"
            ) from None
        except OSError:
            # a file system without locks
            return

    def _read(self) -> None:
        """Read the frames; one cut off at the end, by a kill, is cut away."""
        data = self.path.read_bytes()
        good = 0
        while good < len(data):
            end = _end_of_frame(data, good)
            if end is None:
                break
            self.finished.append(self._parse(data[good:end].decode()))
            good = end
        os.ftruncate(self._descriptor, good)

    def _parse(self, text: str) -> Relaxation:
        try:
            atoms = ase.io.read(io.StringIO(text), format="extxyz")
            assert isinstance(atoms, ase.Atoms)
            info: dict[str, Any] = atoms.info
            key = str(info["scan"])
            results = {} if atoms.calc is None else atoms.calc.results
            electrons = {k: v for k, v in info.items() if k in ELECTRONS}
            done = Relaxation(
                point=tuple(int(k) for k in np.atleast_1d(info["point"])),
                angles=tuple(float(x) for x in np.atleast_1d(info["dihedral_deg"])),
                source=int(info["source"]),
                atoms=ase.Atoms(numbers=atoms.numbers, positions=atoms.positions, info=electrons),
                energy=None if "energy" not in results else float(results["energy"]),
                forces=results.get("forces"),
                steps=int(info["steps"]),
                failure=str(info["failure"]) if "failure" in info else None,
            )
        except Exception as error:
            raise InputError(f"{self.path} is no record of a scan: {error!r}; start again with overwriting") from error
        if key != f"k{self.key}":
            raise InputError(
                f"{self.path} belongs to another scan (start, charge, model, dihedrals, grid, method or convergence "
                "differ): take another name, or start again with overwriting"
            )
        return done


def fingerprint(atoms: ase.Atoms, potential: Potential, settings: dict[str, Any]) -> str:
    """What two scans share when one can go on from the other's record: start, model to the last weight, settings."""
    digest = hashlib.sha256()
    for name, tensor in sorted(potential.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().double().numpy()).tobytes())
    cutoff = str(potential.long_range_cutoff) if potential.has_long_range else ""
    words = {**settings, "model": potential.name, "dtype": str(potential.dtype), "cutoff": cutoff}
    words |= {"charge": read_charge(atoms), "spin": read_spin(atoms), "numbers": atoms.numbers.tolist()}
    digest.update(json.dumps(words, sort_keys=True, default=str).encode())
    digest.update(np.round(atoms.positions, DECIMALS - 2).tobytes())
    return digest.hexdigest()[:16]


def frame_of(done: Relaxation) -> ase.Atoms:
    """Atoms with energy, forces and the angles in ``info``."""
    atoms = done.atoms.copy()
    atoms.info["dihedral_deg"] = list(done.angles) if len(done.angles) > 1 else done.angles[0]
    if done.energy is not None:
        atoms.calc = SinglePointCalculator(atoms, energy=done.energy, forces=done.forces)
    return atoms


def _frame(done: Relaxation, key: str) -> str:
    atoms = frame_of(done)
    point: Any = list(done.point) if len(done.point) > 1 else done.point[0]
    # a letter before the key, or a reader could take digits with an e among them for a number
    atoms.info |= {"scan": f"k{key}", "point": point, "source": done.source, "steps": done.steps}
    if done.failure is not None:
        atoms.info["failure"] = done.failure.replace('"', "'")
    text = io.StringIO()
    ase.io.write(text, atoms, format="extxyz")
    return text.getvalue()


def _end_of_frame(data: bytes, start: int) -> int | None:
    """Where the frame that begins at ``start`` ends; None if it is not whole."""
    line = data.find(b"\n", start)
    if line < 0 or not data[start:line].strip().isdigit():
        return None
    end = start
    for _ in range(int(data[start:line]) + 2):
        end = data.find(b"\n", end) + 1
        if end == 0:
            return None
    return end


def _cannot(path: Path, error: OSError) -> SimulationError:
    return SimulationError(f"cannot write {path}: {error.strerror or error}; what was written before is intact")
