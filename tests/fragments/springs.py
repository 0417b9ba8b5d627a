"""A molecule of springs, as a label method and as a Potential: one surface, whose vibrations are known."""

from __future__ import annotations

import ase
import numpy as np
import torch

from heliodor.label.label import Label, LabelError
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.system import System


class SpringMethod:
    """E = k/2 Σ (r - r0)² over pairs of atoms."""

    name, efforts = "springs", 1

    def __init__(self, bonds: list[tuple[int, int, float, float]], fails: bool = False) -> None:
        self.versions: dict[str, str] = {}
        self.bonds, self.fails = bonds, fails

    def __call__(self, atoms: ase.Atoms, effort: int = 0) -> Label:
        if self.fails:
            raise LabelError("it never converges")
        energy, forces = 0.0, np.zeros((len(atoms), 3))
        for i, j, k, r0 in self.bonds:
            way = atoms.positions[j] - atoms.positions[i]
            r = float(np.sqrt(way @ way))
            energy += 0.5 * k * (r - r0) ** 2
            pull = k * (r - r0) / r * way
            forces[i] += pull
            forces[j] -= pull
        return Label(energy, forces)


class SpringPotential(Potential):
    """The same, bonds repeated for every structure of a batch; all have as many atoms."""

    name, cutoff, elements = "springs", 5.0, tuple(range(1, 90))

    def __init__(self, bonds: list[tuple[int, int, float, float]], size: int) -> None:
        super().__init__()
        self.bonds, self.size = bonds, size
        self.weight = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        places = system.positions.view(-1, self.size, 3)
        shares = torch.zeros(places.shape[:2], dtype=places.dtype)
        for i, j, k, r0 in self.bonds:
            r = (places[:, j] - places[:, i]).norm(dim=-1)
            shares = shares + 0.5 * k * ((r - r0) ** 2)[:, None] * torch.eye(self.size, dtype=places.dtype)[i]
        return Terms({"springs": (self.weight * shares).flatten()})


TRIANGLE = [(0, 1, 20.0, 1.0), (0, 2, 20.0, 1.0), (1, 2, 8.0, 1.5)]
"""A bent molecule of three vibrations; water's shape, about."""


def triangle() -> ase.Atoms:
    """At rest on `TRIANGLE`."""
    height = np.sqrt(1.0 - 0.75**2)
    places = [[0.0, 0.0, 0.0], [0.75, height, 0.0], [-0.75, height, 0.0]]
    return ase.Atoms("OH2", positions=places, info={"charge": 0, "spin": 0, "kind": "bottom-up", "group": "O"})
