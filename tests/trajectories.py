"""Trajectory files of known content, written by heliodor's own writers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase.build import molecule

from heliodor.dynamics import init, open_writer
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Prediction, Terms
from heliodor.system import System
from heliodor.topology import topology_of


class Free(Potential):
    """No forces at all."""

    name = "free"
    elements = tuple(range(1, 90))
    cutoff = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        return Terms({"none": 0.0 * system.positions.sum(-1)})


def waters(side: int = 2, spacing: float = 3.2, seed: int = 3) -> ase.Atoms:
    """side³ waters at random orientation on a grid in a periodic cube."""
    rng = np.random.default_rng(seed)
    box = ase.Atoms(cell=[side * spacing] * 3, pbc=True)
    for place in np.ndindex(side, side, side):
        part = molecule("H2O")
        part.rotate(float(rng.uniform(0, 360)), rng.normal(size=3))
        part.positions += np.array(place) * spacing - part.get_center_of_mass()
        box += part
    return box


def write_frames(
    path: Path,
    atoms: ase.Atoms,
    positions: np.ndarray,
    *,
    velocities: np.ndarray | None = None,
    charges: np.ndarray | None = None,
    ratios: np.ndarray | None = None,
    cells: np.ndarray | None = None,
    energies: np.ndarray | None = None,
    interval: float = 2.0,
    **options: Any,
) -> Path:
    """A file of T frames: positions [T, N, 3] Å, and what else is given; times are multiples of ``interval`` fs."""
    start = init(System.from_atoms(atoms), Free(), temperature=0.0)
    written = {"velocities": velocities is not None, **options}
    with open_writer(path, topologies=[topology_of(atoms)], **written) as writer:
        for k, frame in enumerate(positions):
            system = replace(start.system, positions=torch.as_tensor(frame, dtype=torch.float64))
            if cells is not None:
                system = replace(system, cell=torch.as_tensor(cells[k], dtype=torch.float64)[None])
            energy = torch.zeros(1, dtype=torch.float64) if energies is None else torch.as_tensor(energies[k : k + 1])
            prediction = None
            if charges is not None or ratios is not None:
                prediction = Prediction(
                    energy=energy,
                    forces=torch.zeros_like(system.positions),
                    terms={},
                    node_energy=torch.zeros(len(atoms), dtype=torch.float64),
                    charges=None if charges is None else torch.as_tensor(charges[k]),
                    hirshfeld_ratios=None if ratios is None else torch.as_tensor(ratios[k]),
                )
            moved = torch.zeros_like(system.positions) if velocities is None else torch.as_tensor(velocities[k])
            writer.write(
                start.replace(
                    system=system,
                    velocities=moved,
                    energy=energy,
                    prediction=prediction,
                    step=k,
                    time=k * interval,
                )
            )
    return path
