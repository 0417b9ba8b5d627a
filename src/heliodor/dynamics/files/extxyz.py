"""Extended XYZ trajectories: text, one block per frame, appended in one piece."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from types import TracebackType

import ase
import ase.io
import ase.units
import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Int
from torch import Tensor

from heliodor.dynamics.files.selection import Written, written_atoms
from heliodor.dynamics.files.storage import AppendFile, check_length, not_the_one
from heliodor.dynamics.state import MDState
from heliodor.errors import InputError


class ExtXYZWriter:
    """Writes states to an extended XYZ file; see `heliodor.dynamics.files.trajectory.open_writer`.

    Of a run of several structures each frame is a block per structure, marked ``structure=`` in its comment.
    """

    def __init__(
        self,
        path: Path,
        *,
        velocities: bool,
        forces: bool,
        double: bool,
        atoms: Int[Tensor, "K"] | None,
        resume: dict[str, int] | None = None,
    ) -> None:
        self.path = path
        self._velocities = velocities
        self._forces = forces
        self._double = double
        self._atoms = atoms
        self._written: Written | None = None
        self._file: AppendFile | None = None
        self._mark = {"frames": 0, "step": -1, "atoms": 0, "species": 0, "bytes": 0}
        if resume is not None and resume["frames"] > 0:
            check_length(path, resume["bytes"])
            _compare(path, resume)
            self._file = AppendFile(path, resume["bytes"])
            self._mark = dict(resume)

    def write(self, state: MDState) -> None:
        """Append one frame; it is there as a whole or not at all.

        Raises:
            StorageError: no room, no permission; the frames before are intact.
        """
        if self._written is None:
            self._written = written_atoms(state.system, self._atoms)
            self._mark |= {"atoms": len(self._written.numbers), "species": self._written.species}
        if self._file is None:
            self._file = AppendFile(self.path)
        self._file.append(_frame(state, self._written, self._velocities, self._forces, self._double).encode())
        self._mark |= {"frames": self._mark["frames"] + 1, "step": state.step, "bytes": self._file.size}

    def mark(self) -> dict[str, int]:
        """What is on the disk now; see `heliodor.dynamics.files.trajectory.Writer`."""
        if self._file is not None:
            self._file.sync()
        return dict(self._mark)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> ExtXYZWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: Path, structure: int = 0) -> list[ase.Atoms]:
    """All complete frames of one structure; a block cut off at the end of the file is left out."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        found = ase.io.read(io.StringIO(_complete(text, path)), index=":", format="extxyz")
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} is not a readable extended XYZ file: {error}") from None
    frames = [found] if isinstance(found, ase.Atoms) else list(found)
    frames = [frame for frame in frames if frame.info.get("structure", structure) == structure]
    for atoms in frames:
        atoms.info.pop("structure", None)
        velocities = atoms.arrays.pop("velocities", None)
        if velocities is not None:
            atoms.set_velocities(velocities / ase.units.fs)
    return frames


def _complete(text: str, path: Path) -> str:
    """The text up to the end of the last whole block: every line of it is there and ends in a newline."""
    lines = text.splitlines(keepends=True)
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        try:
            n = int(lines[at])
        except ValueError:
            if at + 1 == len(lines):
                break
            raise InputError(f"{path}, line {at + 1}: expected the number of atoms of a frame") from None
        end = at + 2 + n
        if end > len(lines) or not lines[end - 1].endswith("\n"):
            break
        at = end
    return "".join(lines[:at])


def _compare(path: Path, mark: dict[str, int]) -> None:
    """Refuse a file whose first frame does not have the atoms of the mark."""
    symbols: list[str] = []
    try:
        with path.open(encoding="utf-8") as file:
            while len(symbols) < mark["atoms"]:
                count = int(file.readline())
                file.readline()
                symbols += [file.readline().split()[0] for _ in range(count)]
        numbers = np.array([atomic_numbers[symbol] for symbol in symbols], dtype="<i4")
    except (ValueError, IndexError, KeyError):
        raise not_the_one(path, "it is not extended XYZ") from None
    if len(numbers) != mark["atoms"] or zlib.crc32(numbers.tobytes()) != mark["species"]:
        raise not_the_one(path, "its atoms are others")


def _frame(state: MDState, written: Written, velocities: bool, forces: bool, double: bool) -> str:
    system = state.system
    partial = written.index is not None
    symbols = np.array(chemical_symbols)[written.numbers]
    columns, properties = [system.positions], "species:S:1:pos:R:3"
    if velocities:
        columns.append(state.velocities)
        properties += ":velocities:R:3"
    if forces:
        columns.append(state.forces)
        properties += ":forces:R:3"
    if state.prediction is not None and state.prediction.charges is not None:
        columns.append(state.prediction.charges.unsqueeze(-1))
        properties += ":charges:R:1"
    if state.prediction is not None and state.prediction.hirshfeld_ratios is not None:
        columns.append(state.prediction.hirshfeld_ratios.unsqueeze(-1))
        properties += ":hirshfeld_ratios:R:1"
    table = np.concatenate([written.pick(column.double()) for column in columns], axis=1)
    line = "%-2s" + (" %.16g" if double else " %.8f") * table.shape[1]
    digits = ".16g" if double else ".10g"
    if partial:
        properties += ":id:I:1"
        line += " %d"
    starts = np.cumsum([0, *system.counts.tolist()])
    blocks, start = [], 0
    for b, count in enumerate(written.counts):
        pbc = system.pbc[b].tolist()
        comment = f'Properties={properties} pbc="{" ".join("T" if p else "F" for p in pbc)}"'
        if any(pbc):
            cell = " ".join(f"{x:{digits}}" for x in system.cell[b].flatten().tolist())
            comment = f'Lattice="{cell}" {comment}'
        if system.n_structures > 1:
            comment += f" structure={b}"
        if not partial:
            # of the whole structure: beside some of its atoms they would be taken for those of the part
            comment += f" energy={float(state.energy[b]):{digits}} charge={float(system.charge[b]):g}"
            comment += f" spin={int(system.spin[b])}"
        comment += f" step={state.step} time_fs={state.time:.10g}\n"
        mine = slice(start, start + count)
        rows = [(symbol, *row) for symbol, row in zip(symbols[mine], table[mine].tolist(), strict=True)]
        if written.index is not None:
            ids = (written.index[mine] - int(starts[b])).tolist()
            rows = [(*row, id) for row, id in zip(rows, ids, strict=True)]
        blocks.append(f"{count}\n{comment}" + "".join([line % row + "\n" for row in rows]))
        start += count
    return "".join(blocks)
