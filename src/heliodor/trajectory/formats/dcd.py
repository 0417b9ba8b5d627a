"""DCD files as heliodor, OpenMM, NAMD and CHARMM write them: records of one length, read where they lie.

MDTraj reads them too, but its reader prints on standard output. Files with fixed atoms, a fourth dimension or the other
byte order are left to it.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.geometry import cellpar_to_cell

from heliodor.dynamics.files.dcd import AKMA, LARGEST

OWN_TITLE = b"written by heliodor"

PART_BYTES = 8 * 2**20
"""Of the file that are mapped at a time."""


@dataclass(frozen=True, eq=False)
class DCDSource:
    """Frames of a DCD file.

    Attributes:
        start: byte of the first frame.
        n_atoms: in each frame.
        cells: whether frames have a cell.
        count: complete frames.
        time: fs, of each; None where the file does not say its timestep.
        lost: whether a frame at the end is cut off.
        own: whether heliodor wrote it.
    """

    path: Path
    start: int
    n_atoms: int
    cells: bool
    count: int
    time: np.ndarray | None
    lost: bool
    own: bool

    @property
    def _layout(self) -> np.dtype:
        fields: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = []
        if self.cells:
            fields += [("m0", "<i4"), ("cell", "<f8", (6,)), ("m1", "<i4")]
        for axis in "xyz":
            fields += [(f"{axis}0", "<i4"), (axis, "<f4", (self.n_atoms,)), (f"{axis}1", "<i4")]
        return np.dtype(fields)

    def read(self, frames: np.ndarray, atoms: np.ndarray | None, wanted: Collection[str]) -> dict[str, np.ndarray]:
        n = self.n_atoms if atoms is None else len(atoms)
        positions, cells = np.empty((len(frames), n, 3)), np.zeros((len(frames), 3, 3))
        layout = self._layout
        size = max(1, PART_BYTES // layout.itemsize)
        for first in range(0, len(frames), size):
            # mapped anew for each part: pages that were touched count as memory while they are mapped
            records = np.memmap(self.path, dtype=layout, mode="r", offset=self.start, shape=(self.count,))
            part = frames[first : first + size]
            for k, axis in enumerate("xyz"):
                column = records[axis]
                positions[first : first + size, :, k] = column[part] if atoms is None else column[part[:, None], atoms]
            if self.cells:
                cells[first : first + size] = _cells(records["cell"][part])
        return {"positions": positions} | ({"cell": cells} if self.cells else {})


def open_dcd(path: Path) -> DCDSource | None:
    """The file's frames; None where it is of a kind that is not read here."""
    with path.open("rb") as file:
        head = file.read(92)
        if len(head) < 92 or head[:8] != struct.pack("<i", 84) + b"CORD" or head[88:] != struct.pack("<i", 84):
            return None
        control = struct.unpack("<20i", head[8:88])
        frames, first, every, last, fixed, cell, four, version = (control[k] for k in (0, 1, 2, 3, 8, 10, 11, 19))
        step = struct.unpack("<f", head[44:48])[0] * AKMA
        if fixed or four or version == 0:
            return None
        (length,) = struct.unpack("<i", file.read(4))
        own = OWN_TITLE in file.read(length)
        file.seek(4, 1)
        marker, n_atoms, closing = struct.unpack("<3i", file.read(12))
        if marker != 4 or closing != 4 or n_atoms < 1:
            return None
        start = file.tell()
    source = DCDSource(path, start, n_atoms, bool(cell), 0, None, False, own)
    size = source._layout.itemsize
    # the header's count may be that of a run still going on
    count, rest = divmod(path.stat().st_size - start, size)
    time = (first + every * np.arange(count, dtype=np.float64)) * step if every > 0 and step > 0.0 else None
    # heliodor's header knows the step of its last frame, which may come before its turn
    if own and time is not None and count == frames and 0 < first + every * (count - 2) < last < LARGEST:
        time[-1] = last * step
    return DCDSource(path, start, n_atoms, bool(cell), count, time, rest > 0, own)


def _cells(six: np.ndarray) -> np.ndarray:
    """[K, 3, 3] from a, cos γ, b, cos β, cos α, c; some programs write the angles in degrees.

    Lattice vectors without length, those of slabs and wires, are zero.
    """
    if len(six) > 1 and (six == six[0]).all():
        return np.broadcast_to(_cells(six[:1]), (len(six), 3, 3))
    return np.stack([_cell(row) for row in six]) if len(six) else np.empty((0, 3, 3))


def _cell(six: np.ndarray) -> np.ndarray:
    a, gamma, b, beta, alpha, c = six.tolist()
    angles = np.array([alpha, beta, gamma])
    if (np.abs(angles) <= 1.0).all():
        angles = np.degrees(np.arccos(angles))
    lengths = np.array([a, b, c])
    there = lengths > 0.0
    cell = np.asarray(cellpar_to_cell([*np.where(there, lengths, 1.0), *angles]), dtype=np.float64)
    return np.asarray(cell * there[:, None])
