"""DCD trajectories as CHARMM, NAMD and OpenMM write them: positions in float32 and the cell, nothing else.

Read them with a topology, in MDTraj, MDAnalysis or VMD. The cell is kept as lengths and cosines of angles, so the
positions of a cell that is not lower triangular are turned with it into the orientation that readers assume.
"""

from __future__ import annotations

import struct
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Int
from torch import Tensor

from heliodor.dynamics.files.selection import Written, written_atoms
from heliodor.dynamics.files.storage import AppendFile, check_length, not_the_one
from heliodor.dynamics.state import MDState
from heliodor.errors import InputError

AKMA = 48.88821
"""fs; DCD's unit of time, with the digits that MDAnalysis and OpenMM use."""

HEADER_BYTES = 276
"""Of the three records before the first frame."""

LARGEST = 2**31 - 1
"""What a field of the header can hold."""


class DCDWriter:
    """Appends states of one structure to a DCD file; see `heliodor.dynamics.files.trajectory.open_writer`.

    The number of frames in the header is renewed after each frame: the file can be read at any time. The header knows
    one interval between frames, that of the first two; a last frame off that rhythm is there, but its time is not.
    """

    def __init__(self, path: Path, *, atoms: Int[Tensor, "K"] | None, resume: dict[str, int] | None = None) -> None:
        self.path = path
        self._atoms = atoms
        self._written: Written | None = None
        self._file: AppendFile | None = None
        self._mark = {"frames": 0, "step": -1, "atoms": 0, "species": 0, "bytes": 0}
        if resume is not None and resume["frames"] > 0:
            check_length(path, resume["bytes"])
            _compare(path, resume)
            self._file = AppendFile(path, resume["bytes"])
            self._mark = dict(resume)
            self._count(resume["frames"], resume["step"])

    def write(self, state: MDState) -> None:
        """Append one frame; it is there as a whole or not at all.

        Raises:
            InputError: several structures.
            StorageError: no room, no permission; the frames before are intact.
        """
        system = state.system
        if system.n_structures > 1:
            raise InputError(f"a DCD file holds one structure, not {system.n_structures}; write to a name in .h5")
        if self._written is None:
            self._written = written_atoms(system, self._atoms)
            self._mark |= {"atoms": len(self._written.numbers), "species": self._written.species}
        periodic = bool(system.pbc.any())
        if self._file is None:
            self._file = AppendFile(self.path)
            self._file.append(_header(self._mark["atoms"], periodic, state.step))
        positions = self._written.pick(system.positions)
        frame = b""
        if periodic:
            cell, positions = standard_orientation(system.cell[0].cpu().double().numpy(), positions)
            frame = _record(_unit_cell(cell).tobytes())
        frame += b"".join(_record(column.astype("<f4").tobytes()) for column in positions.T)
        self._file.append(frame)
        frames = self._mark["frames"] + 1
        if frames == 2:
            interval = min(max(1, state.step - self._mark["step"]), LARGEST)
            self._file.patch(16, struct.pack("<i", interval))
            self._file.patch(44, struct.pack("<f", state.time / max(1, state.step) / AKMA))
        self._count(frames, state.step)
        self._mark |= {"frames": frames, "step": state.step, "bytes": self._file.size}

    def mark(self) -> dict[str, int]:
        """What is on the disk now; see `heliodor.dynamics.files.trajectory.Writer`."""
        if self._file is not None:
            self._file.sync()
        return dict(self._mark)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> DCDWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _count(self, frames: int, step: int) -> None:
        """Number of frames and last step, in the header."""
        assert self._file is not None
        self._file.patch(8, struct.pack("<i", frames))
        self._file.patch(20, struct.pack("<i", min(step, LARGEST)))


def standard_orientation(cell: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cell [3, 3] and positions [N, 3], Å, turned so that a lies along x and b in the xy plane.

    A cell that is so already comes back as it is, bit by bit. Lattice vectors that are zero stay zero.
    """
    if cell[0, 1] == cell[0, 2] == cell[1, 2] == 0.0 and bool((np.diagonal(cell) >= 0.0).all()):
        return cell, positions
    turn, upper = np.linalg.qr(cell.T)
    turn = turn * np.where(np.diagonal(upper) < 0.0, -1.0, 1.0)
    if np.linalg.det(turn) < 0.0:
        # a missing lattice vector leaves the sign of its axis open; only a rotation keeps chirality
        turn[:, np.abs(np.diagonal(upper)).argmin()] *= -1.0
    return np.tril(cell @ turn), positions @ turn


def _unit_cell(cell: np.ndarray) -> np.ndarray:
    """[6] as NAMD has it: a, cos γ, b, cos β, cos α, c."""
    lengths = np.linalg.norm(cell, axis=1)
    unit = cell / np.where(lengths > 0.0, lengths, 1.0)[:, None]
    a, b, c = lengths
    return np.array([a, unit[0] @ unit[1], b, unit[0] @ unit[2], unit[1] @ unit[2], c], dtype="<f8")


def _header(atoms: int, periodic: bool, step: int) -> bytes:
    # frames, first step, interval, last step; five unused; timestep; cell or not; eight unused; version of CHARMM
    control = struct.pack("<4i5if i 8i i", 0, min(step, LARGEST), 1, 0, *[0] * 5, 1.0, int(periodic), *[0] * 8, 24)
    title = b"written by heliodor".ljust(80) + b"positions in Angstrom".ljust(80)
    return _record(b"CORD" + control) + _record(struct.pack("<i", 2) + title) + _record(struct.pack("<i", atoms))


def _record(payload: bytes) -> bytes:
    """A Fortran record: its length before and after."""
    marker = struct.pack("<i", len(payload))
    return marker + payload + marker


def _compare(path: Path, mark: dict[str, int]) -> None:
    """Refuse a file that does not have the number of atoms of the mark; DCD knows no elements."""
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    if header[4:8] != b"CORD" or header[268:272] != struct.pack("<i", mark["atoms"]):
        raise not_the_one(path, "it does not have the same number of atoms")
