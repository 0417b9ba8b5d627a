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

from heliodor.dynamics.files.dcd import AKMA


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
    """

    path: Path
    start: int
    n_atoms: int
    cells: bool
    count: int
    time: np.ndarray | None
    lost: bool

    @property
    def _layout(self) -> np.dtype:
        fields: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = []
        if self.cells:
            fields += [("m0", "<i4"), ("cell", "<f8", (6,)), ("m1", "<i4")]
        for axis in "xyz":
            fields += [(f"{axis}0", "<i4"), (axis, "<f4", (self.n_atoms,)), (f"{axis}1", "<i4")]
        return np.dtype(fields)

    def read(self, frames: np.ndarray, atoms: np.ndarray | None, wanted: Collection[str]) -> dict[str, np.ndarray]:
        records = np.memmap(self.path, dtype=self._layout, mode="r", offset=self.start, shape=(self.count,))
        rows = records[frames]
        chosen = slice(None) if atoms is None else atoms
        found = {"positions": np.stack([rows[axis][:, chosen] for axis in "xyz"], axis=-1).astype(np.float64)}
        if self.cells:
            found["cell"] = np.stack([_cell(six) for six in rows["cell"]]) if len(rows) else np.empty((0, 3, 3))
        return found


def open_dcd(path: Path) -> DCDSource | None:
    """The file's frames; None where it is of a kind that is not read here."""
    with path.open("rb") as file:
        head = file.read(92)
        if len(head) < 92 or head[:8] != struct.pack("<i", 84) + b"CORD" or head[88:] != struct.pack("<i", 84):
            return None
        control = struct.unpack("<20i", head[8:88])
        first, every, fixed, cell, four, version = (control[k] for k in (1, 2, 8, 10, 11, 19))
        step = struct.unpack("<f", head[44:48])[0] * AKMA
        if fixed or four or version == 0:
            return None
        (length,) = struct.unpack("<i", file.read(4))
        file.seek(length + 4, 1)
        marker, n_atoms, closing = struct.unpack("<3i", file.read(12))
        if marker != 4 or closing != 4 or n_atoms < 1:
            return None
        start = file.tell()
    source = DCDSource(path, start, n_atoms, bool(cell), 0, None, False)
    size = source._layout.itemsize
    # the header's count may be that of a run still going on
    count, rest = divmod(path.stat().st_size - start, size)
    time = (first + every * np.arange(count)) * step if every > 0 and step > 0.0 else None
    return DCDSource(path, start, n_atoms, bool(cell), count, time, rest > 0)


def _cell(six: np.ndarray) -> np.ndarray:
    """[3, 3] from a, cos γ, b, cos β, cos α, c; some programs write the angles in degrees."""
    a, gamma, b, beta, alpha, c = six.tolist()
    angles = np.array([alpha, beta, gamma])
    if (np.abs(angles) <= 1.0).all():
        angles = np.degrees(np.arccos(angles))
    if min(a, b, c) <= 0.0:
        return np.diag([a, b, c])
    return np.asarray(cellpar_to_cell([a, b, c, *angles]), dtype=np.float64)
