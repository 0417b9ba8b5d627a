"""Extended XYZ trajectories: text, one block per frame, appended and flushed in one piece."""

from __future__ import annotations

import io
from pathlib import Path
from types import TracebackType
from typing import TextIO

import ase
import ase.io
import ase.units
import numpy as np
from ase.data import chemical_symbols

from heliodor.dynamics.state import MDState
from heliodor.errors import InputError


class ExtXYZWriter:
    """Writes states to a new extended XYZ file; see `heliodor.dynamics.trajectory.open_writer`.

    Of a run of several structures each frame is a block per structure, marked ``structure=`` in its comment.
    """

    def __init__(self, path: Path, *, velocities: bool, forces: bool) -> None:
        self.path = path
        self._velocities = velocities
        self._forces = forces
        self._file: TextIO | None = None

    def write(self, state: MDState) -> None:
        """Append one frame and flush it."""
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8")
        self._file.write(_frame(state, self._velocities, self._forces))
        self._file.flush()

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


def _frame(state: MDState, velocities: bool, forces: bool) -> str:
    system = state.system
    symbols = np.array(chemical_symbols)[system.numbers.cpu().numpy()]
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
    table = np.concatenate([column.detach().cpu().double().numpy() for column in columns], axis=1)
    line = "%-2s" + " %.8f" * table.shape[1] + "\n"
    blocks, start = [], 0
    for b, count in enumerate(system.counts.tolist()):
        pbc = system.pbc[b].tolist()
        comment = f'Properties={properties} pbc="{" ".join("T" if p else "F" for p in pbc)}"'
        if any(pbc):
            cell = " ".join(f"{x:.10g}" for x in system.cell[b].flatten().tolist())
            comment = f'Lattice="{cell}" {comment}'
        if system.n_structures > 1:
            comment += f" structure={b}"
        comment += f" energy={float(state.energy[b]):.10g} charge={float(system.charge[b]):g}"
        comment += f" spin={int(system.spin[b])} step={state.step} time_fs={state.time:.10g}"
        mine = slice(start, start + count)
        rows = (line % (symbol, *row) for symbol, row in zip(symbols[mine], table[mine].tolist(), strict=True))
        blocks.append(f"{count}\n{comment}\n{''.join(rows)}")
        start += count
    return "".join(blocks)
