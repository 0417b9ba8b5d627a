"""The log of a run: one CSV line per structure at each logged step, and the same numbers kept as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.files.slope import Slope
from heliodor.dynamics.files.storage import AppendFile, check_length, not_the_one
from heliodor.dynamics.state import MDState, kinetic_energy, per_structure, temperature
from heliodor.dynamics.steps.pressure import pressure
from heliodor.units import BAR, GRAM_PER_CM3

MOMENT = ("step", "time_fs")

DRIFT = "drift_meV_per_atom_ps"

FORCE_ERROR = "force_error_max_eV_per_A"

FORMATS = {
    "temperature_K": ".3f",
    DRIFT: ".5g",
    FORCE_ERROR: ".4g",
    "pressure_bar": ".2f",
    **{f"pressure_{axis}_bar": ".2f" for axis in ("xx", "yy", "zz")},
    "density_g_cm3": ".7g",
}
"""How numbers are written; energies in twelve digits, volumes and lengths in nine.

Models that count from the isolated nuclei and electrons have a million eV for five hundred waters: nine digits would
leave 10 meV.
"""


class Log:
    """Collects the log; writes it to a CSV file, line by line, if a path is given.

    Columns: step, time_fs, [structure,] temperature_K, potential_eV, ``<term>_eV`` for each energy term,
    kinetic_eV, conserved_eV, drift_meV_per_atom_ps (slope of the conserved quantity over the run so far), and, of
    models with an uncertainty, force_error_max_eV_per_A, the largest `Prediction.force_error` of an atom. Potential
    energies of models trained on forces are relative: only differences mean something.

    Runs that keep the virial also have, where periodic, pressure_bar (instantaneous, a third of the trace),
    pressure_xx_bar and so on, density_g_cm3, volume_A3, and the lengths a_A, b_A, c_A of the lattice vectors; nan for
    structures that are not fully periodic (lengths: not periodic at all).

    Args:
        resume: what `mark` said when a checkpoint was written: go on with the file, cut back to there. The lines
            before come back as they were rounded for the file.

    Raises:
        InputError: on resuming, a file that is missing, shorter than the mark, or another.
        StorageError: no room, no permission.
    """

    def __init__(self, path: Path | None, resume: dict[str, Any] | None = None, *, timestep: float = 0.0) -> None:
        self.path = path
        self._timestep = timestep
        self._file: AppendFile | None = None
        self._rows: list[np.ndarray] = []
        self._columns: list[str] = []
        self._step = -1
        self._periodic: tuple[bool, bool] | None = None
        self._slope: Slope | None = None
        if resume is not None and resume["slope"] is not None:
            self._columns, self._step = list(resume["columns"]), resume["step"]
            self._slope = Slope.restored(resume["slope"])
            if path is not None:
                check_length(path, resume["bytes"])
                self._rows = self._read(path, resume["bytes"])
                self._file = AppendFile(path, resume["bytes"])

    def write(self, state: MDState) -> None:
        """Record a state."""
        if self._periodic is None:
            # asked once: each question to a GPU waits for it
            pbc = state.system.pbc
            self._periodic = bool(pbc.any()), bool(pbc.all(-1).any())
        values = _values(state, *self._periodic, self._timestep)
        if self._slope is None:
            names = list(values)
            place = names.index("conserved_eV") + 1
            self._columns = [*MOMENT, *names[:place], DRIFT, *names[place:]]
        # a state from a checkpoint does not know its energy terms at once
        unknown = torch.full_like(state.energy, torch.nan)
        wanted = [values.get(name, unknown) for name in self._columns[2:] if name != DRIFT]
        # one transfer from the device for all numbers
        table = torch.stack(wanted).cpu().numpy().T
        at = self._columns.index(DRIFT)
        total = table[:, at - 3]
        lead = ""
        if self._slope is None:
            self._slope = Slope.begun(state.system.counts.cpu().numpy(), total)
            if self.path is not None:
                self._file = AppendFile(self.path)
                lead = _header(self._columns, len(table))
        drift = self._slope.add(state.time, total)
        moment = np.tile([float(state.step), state.time], (len(table), 1))
        rows = np.concatenate([moment, table[:, : at - 2], drift[:, None], table[:, at - 2 :]], axis=1)
        if self._file is not None:
            self._file.append((lead + self._lines(state, rows)).encode())
        self._rows.append(rows)
        self._step = state.step

    def mark(self) -> dict[str, Any]:
        """What is on the disk now, and what the next line builds on, for JSON; ``step`` of the last line, or -1."""
        if self._file is not None:
            self._file.sync()
        return {
            "step": self._step,
            "bytes": 0 if self._file is None else self._file.size,
            "columns": self._columns,
            "slope": None if self._slope is None else self._slope.to_dict(),
        }

    @property
    def last(self) -> dict[str, np.ndarray]:
        """The newest line, [B] per column."""
        return dict(zip(self._columns, self._rows[-1].T, strict=True)) if self._rows else {}

    def arrays(self) -> dict[str, np.ndarray]:
        """All lines: [T] per column for one structure, [T, B] for several; step and time_fs are always [T]."""
        if not self._rows:
            return {}
        table = np.stack(self._rows)
        columns = {name: table[:, :, k] for k, name in enumerate(self._columns)}
        one = table.shape[1] == 1
        return {name: column[:, 0] if one or name in MOMENT else column for name, column in columns.items()}

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _lines(self, state: MDState, rows: np.ndarray) -> str:
        formats = [FORMATS.get(n, ".12g" if n.endswith("_eV") else ".9g") for n in self._columns[2:]]
        lines = []
        for b, row in enumerate(rows):
            lead = [str(state.step), f"{state.time:.10g}"] + ([str(b)] if len(rows) > 1 else [])
            numbers = [format(x, how) for x, how in zip(row[2:].tolist(), formats, strict=True)]
            lines.append(",".join(lead + numbers) + "\n")
        return "".join(lines)

    def _read(self, path: Path, size: int) -> list[np.ndarray]:
        """The lines of a file, one array [B, columns] for each logged step."""
        assert self._slope is not None
        n_structures = self._slope.n_structures
        with path.open("rb") as file:
            header, *lines = file.read(size).decode("utf-8", errors="replace").splitlines()
        if header + "\n" != _header(self._columns, n_structures):
            raise not_the_one(path, "its columns are others")
        try:
            table = np.array([[float(x) for x in line.split(",")] for line in lines])
            if n_structures > 1:
                table = np.delete(table, 2, axis=1)
            rows = list(table.reshape(-1, n_structures, len(self._columns)))
        except ValueError:
            raise not_the_one(path, "it holds lines that are not numbers") from None
        if not rows or rows[-1][0, 0] != self._step:
            raise not_the_one(path, f"where step {self._step} was logged last there is another")
        return rows


def _header(columns: list[str], n_structures: int) -> str:
    names = columns if n_structures == 1 else [*columns[:2], "structure", *columns[2:]]
    return ",".join(names) + "\n"


def _values(state: MDState, boxed: bool, periodic: bool, timestep: float) -> dict[str, Float[Tensor, "B"]]:
    """Everything logged that is a number per structure, but for the drift.

    Args:
        boxed, periodic: whether some structure is periodic at all, and whether one is fully so.
    """
    terms = {} if state.prediction is None else state.prediction.terms
    kinetic = kinetic_energy(state)
    values = {"temperature_K": temperature(state), "potential_eV": state.energy}
    values |= {f"{name}_eV": energy for name, energy in terms.items()}
    values |= {"kinetic_eV": kinetic, "conserved_eV": state.energy + kinetic + state.bath}
    system = state.system
    error = None if state.prediction is None else state.prediction.force_error
    if error is not None:
        most = torch.zeros_like(state.energy)
        values[FORCE_ERROR] = most.scatter_reduce(0, system.batch, error.to(most.dtype), "amax")
    if state.virial is None or not boxed:
        return values
    if periodic:
        diagonal = torch.diagonal(pressure(state, timestep), dim1=-2, dim2=-1) / BAR
        volume = system.volume.abs()
        found = {"pressure_bar": diagonal.mean(-1)}
        found |= {f"pressure_{name}_bar": diagonal[:, k] for k, name in enumerate(("xx", "yy", "zz"))}
        found["density_g_cm3"] = per_structure(state.masses, system) / volume / GRAM_PER_CM3
        found["volume_A3"] = volume
        fully = system.pbc.all(-1)
        values |= {name: torch.where(fully, value, torch.nan) for name, value in found.items()}
    lengths = torch.where(system.pbc.any(-1, keepdim=True), system.cell.norm(dim=-1), torch.nan)
    return values | {f"{name}_A": lengths[:, k] for k, name in enumerate(("a", "b", "c"))}
