"""The log of a run: one CSV line per structure at each logged step, and the same numbers kept as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import numpy as np
import torch

from heliodor.dynamics.state import MDState, kinetic_energy, temperature


class Log:
    """Collects the log; writes it to a CSV file, line by line, if a path is given.

    Columns: step, time_fs, [structure,] temperature_K, potential_eV, ``<term>_eV`` for each energy term,
    kinetic_eV, conserved_eV, drift_meV_per_atom_ps (slope of the conserved quantity over the run so far). Potential
    energies of models trained on forces are relative: only differences mean something.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._file: TextIO | None = None
        self._rows: list[np.ndarray] = []
        self._columns: list[str] = []
        self._slope: _Slope | None = None

    def write(self, state: MDState) -> None:
        """Record a state."""
        terms = {} if state.prediction is None else state.prediction.terms
        kinetic = kinetic_energy(state)
        total = state.energy + kinetic + state.bath
        # one transfer from the device for all numbers
        table = torch.stack([temperature(state), state.energy, *terms.values(), kinetic, total]).cpu().numpy().T
        n_structures = len(table)
        if self._slope is None:
            self._slope = _Slope(state.system.counts.cpu().numpy(), table[:, -1])
            energies = ["potential_eV", *(f"{name}_eV" for name in terms), "kinetic_eV", "conserved_eV"]
            self._columns = ["step", "time_fs", "temperature_K", *energies, "drift_meV_per_atom_ps"]
            if self.path is not None:
                # line buffering: a killed run loses at most the line being written
                self._file = self.path.open("w", encoding="utf-8", buffering=1)
                names = self._columns if n_structures == 1 else [*self._columns[:2], "structure", *self._columns[2:]]
                self._file.write(",".join(names) + "\n")
        drift = self._slope.add(state.time, table[:, -1])
        moment = np.tile([float(state.step), state.time], (n_structures, 1))
        rows = np.concatenate([moment, table, drift[:, None]], axis=1)
        self._rows.append(rows)
        if self._file is not None:
            for b, row in enumerate(rows):
                lead = [str(state.step), f"{state.time:.10g}"] + ([str(b)] if n_structures > 1 else [])
                numbers = [f"{row[2]:.3f}", *(f"{x:.9g}" for x in row[3:-1]), f"{row[-1]:.5g}"]
                self._file.write(",".join(lead + numbers) + "\n")

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
        return {
            name: column[:, 0] if one or name in ("step", "time_fs") else column for name, column in columns.items()
        }

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class _Slope:
    """Running least-squares slope of the conserved quantity per atom against time, meV/atom/ps."""

    def __init__(self, n_atoms: np.ndarray, start: np.ndarray) -> None:
        self._scale = 1e6 / n_atoms
        self._start = start
        self._n, self._t, self._tt = 0, 0.0, 0.0
        self._y = np.zeros(len(start))
        self._ty = np.zeros(len(start))

    def add(self, time: float, values: np.ndarray) -> np.ndarray:
        y = values - self._start
        self._n += 1
        self._t += time
        self._tt += time * time
        self._y = self._y + y
        self._ty = self._ty + time * y
        spread = self._tt - self._t**2 / self._n
        if self._n < 2 or spread <= 0:
            return np.zeros(len(y))
        slope: np.ndarray = (self._ty - self._t * self._y / self._n) / spread * self._scale
        return slope
