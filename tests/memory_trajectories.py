"""Trajectories that lie in memory, for frames too many to write to a file in a test."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np

from heliodor.topology import topology_of
from heliodor.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Arrays:
    """Frames of arrays [T, ...]."""

    values: dict[str, np.ndarray]

    def read(self, frames: np.ndarray, atoms: np.ndarray | None, wanted: Collection[str]) -> dict[str, np.ndarray]:
        found = {}
        for name in {"positions", *wanted, *({"cell"} & self.values.keys())}:
            rows = self.values[name][frames]
            found[name] = rows if atoms is None or name in ("cell", "energy") else rows[:, atoms]
        return found


def in_memory(
    atoms: ase.Atoms,
    positions: np.ndarray,
    interval: float = 2.0,
    *,
    cells: np.ndarray | None = None,
    values: dict[str, np.ndarray] | None = None,
    bonds: np.ndarray | None = None,
    **fields: Any,
) -> Trajectory:
    """T frames [T, N, 3] Å of one structure, ``interval`` fs apart, as another program might have written them."""
    held = dict(values or {})
    if cells is None and atoms.pbc.any():
        cells = np.tile(np.asarray(atoms.cell), (len(positions), 1, 1))
    arrays = {"positions": positions, **held} | ({} if cells is None else {"cell": cells})
    return Trajectory(
        path=Path("memory"),
        topology=topology_of(atoms, bonds),
        masses=np.asarray(atoms.get_masses(), dtype=np.float64),
        pbc=np.asarray(atoms.pbc),
        time=interval * np.arange(len(positions), dtype=np.float64),
        holds=frozenset(held),
        source=Arrays(arrays),
        **fields,
    )
