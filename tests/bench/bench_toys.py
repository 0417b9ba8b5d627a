"""A pair potential with exact answers, spoiled by zeros that depend on the total charge as SO3LR's do."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import ase
import numpy as np
import torch
from ase.io import write

from heliodor.errors import ModelError
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.system import System

EPSILON, SIGMA, SPOILED = 0.5, 1.0, 0.7


class SpoiledPairs(Potential):
    """4ε((σ/r)¹² - (σ/r)⁶) of all pairs, an energy for each element, and ``SPOILED`` times the total charge an atom."""

    name = "pairs"
    elements = (1, 2, 10, 18, 36)
    cutoff = 1000.0

    def __init__(self, keeps_fragments: bool = True, epsilon: float = EPSILON) -> None:
        super().__init__()
        self.keeps_fragments, self.calls = keeps_fragments, 0
        self.epsilon = torch.nn.Parameter(torch.tensor(epsilon, dtype=torch.float64))

    def check(self, system: System) -> None:
        if system.fragment is not None and not self.keeps_fragments:
            raise ModelError("no fragments here")

    def advice(self, system: System) -> list[str]:
        return ["no common zero"] if bool((system.charge != 0).any()) else []

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        self.calls += 1
        edges = neighbors.within(system)
        x = (SIGMA / edges.vectors(system).norm(dim=-1)) ** 6
        half = 2.0 * self.epsilon * (x * x - x)
        energy = -1.5 * system.numbers.double() + SPOILED * system.charge[system.batch]
        return Terms({"all": energy.index_add(0, edges.i, half).index_add(0, edges.j, half)})


def pair_energy(distance: float) -> float:
    x = (SIGMA / distance) ** 6
    return 4.0 * EPSILON * (x * x - x)


def between(a: ase.Atoms, b: ase.Atoms) -> float:
    """All pairs of an atom of a and one of b, eV."""
    return sum(pair_energy(float(np.linalg.norm(x - y))) for x in a.positions for y in b.positions)


def within(a: ase.Atoms) -> float:
    n = len(a)
    return sum(
        pair_energy(float(np.linalg.norm(a.positions[i] - a.positions[j]))) for i in range(n) for j in range(i + 1, n)
    )


def write_set(
    folder: Path, structures: dict[str, ase.Atoms], reactions: list[dict], name: str = "toy", **words
) -> Path:
    """A user's set, as docs/accuracy.md describes it."""
    frames = []
    for key, atoms in structures.items():
        frame = atoms.copy()
        frame.info = {"name": key, "charge": atoms.info.get("charge", 0)} | {
            k: v for k, v in atoms.info.items() if k == "spin_multiplicity"
        }
        frames.append(frame)
    write(folder / f"{name}.xyz", frames, format="extxyz")
    raw = (folder / f"{name}.xyz").read_bytes()
    (folder / f"{name}.xyz.gz").write_bytes(gzip.compress(raw))
    (folder / f"{name}.xyz").unlink()
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"unit": "kcal/mol", "reactions": reactions, **words}))
    return path
