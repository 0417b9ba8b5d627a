"""Bilayers whose answers are known: lipids with bonds as given and atoms anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase.data import atomic_masses

from heliodor.topology import Topology
from heliodor.trajectory import Trajectory

CARBONS = 9
"""Of a tail, the ester's included."""


class InMemory:
    def __init__(self, positions: np.ndarray, cell: np.ndarray, charges: np.ndarray | None) -> None:
        self.held = {"positions": positions, "cell": cell, "charges": charges}

    def read(self, frames, atoms, wanted):
        chosen = slice(None) if atoms is None else atoms
        found = {key: self.held[key][frames][:, chosen] for key in ("positions", *wanted)}
        return found | {"cell": self.held["cell"][frames]}


def one_lipid() -> tuple[list[int], list[tuple[int, int]], dict[str, list[tuple[int, int, int]]]]:
    """Numbers, bonds, and (number, carbon, hydrogen) of each tail's C-H bonds.

    Phosphate on glycerol; sn-1 ester on the glycerol's last carbon, sn-2 ester on its middle one.
    """
    numbers = [15, 8, 6, 6, 6]
    bonds = [(0, 1), (1, 2), (2, 3), (3, 4)]
    tails: dict[str, list[tuple[int, int, int]]] = {}
    for name, glycerol in (("sn-2", 3), ("sn-1", 4)):
        bridge = len(numbers)
        numbers += [8, 6, 8]
        bonds += [(glycerol, bridge), (bridge, bridge + 1), (bridge + 1, bridge + 2)]
        last, tails[name] = bridge + 1, []
        for n in range(2, CARBONS + 1):
            c = len(numbers)
            hydrogens = 3 if n == CARBONS else 2
            numbers += [6] + [1] * hydrogens
            bonds += [(last, c)] + [(c, c + 1 + k) for k in range(hydrogens)]
            tails[name] += [(n, c, c + 1 + k) for k in range(hydrogens)]
            last = c
    return numbers, bonds, tails


@pytest.fixture
def bilayer(rng) -> Callable[..., Trajectory]:
    def make(
        direction: Callable[[tuple[int, ...]], np.ndarray],
        *,
        frames: int = 1,
        lipids: int = 16,
        head: float = 18.0,
        cell: np.ndarray | None = None,
        charges: np.ndarray | None = None,
        name: str = "POPC",
    ) -> Trajectory:
        """Half of the lipids up, half down; ``direction(shape)`` gives [..., 3] vectors of C-H bonds."""
        numbers, bonds, tails = one_lipid()
        n = len(numbers)
        box = np.diag([40.0, 36.0, 70.0]) if cell is None else cell
        cells = np.broadcast_to(box, (frames, 3, 3)).copy()
        positions = np.zeros((frames, lipids, n, 3))
        side = np.where(np.arange(lipids) % 2 == 0, 1.0, -1.0)
        positions[..., 0] = rng.uniform(0.0, 36.0, (frames, lipids, 1))
        positions[..., 1] = rng.uniform(0.0, 36.0, (frames, lipids, 1))
        height = np.full(n, head)
        height[1:5] = head - np.array([1.0, 2.0, 2.5, 3.0])
        for tail in tails.values():
            for number, carbon, hydrogen in tail:
                # the last carbons of both leaflets meet in the middle
                height[[carbon, hydrogen]] = 1.0 * (CARBONS - number)
        positions[..., 2] = side[None, :, None] * height
        for tail in tails.values():
            for _, carbon, hydrogen in tail:
                positions[:, :, hydrogen] = positions[:, :, carbon] + 1.09 * direction((frames, lipids))
        flat = positions.reshape(frames, lipids * n, 3)
        everything = np.tile(numbers, lipids)
        pairs = np.concatenate([np.array(bonds) + k * n for k in range(lipids)])
        topology = Topology(
            numbers=everything,
            names=np.array([f"X{k}" for k in range(lipids * n)]),
            residue_names=np.full(lipids * n, name),
            residue_numbers=np.repeat(np.arange(1, lipids + 1), n),
            chains=np.full(lipids * n, "A"),
            bonds=np.sort(pairs, axis=1)[np.lexsort((pairs.max(1), pairs.min(1)))],
            named=True,
        )
        held = None if charges is None else np.broadcast_to(charges, (frames, lipids * n)).copy()
        return Trajectory(
            path=Path("bilayer.h5"),
            topology=topology,
            masses=atomic_masses[everything],
            pbc=np.ones(3, dtype=bool),
            time=1000.0 * np.arange(frames),
            holds=frozenset() if held is None else frozenset(["charges"]),
            source=InMemory(flat, cells, held),
        )

    return make


@pytest.fixture
def random_directions(rng) -> Callable[[tuple[int, ...]], np.ndarray]:
    def make(shape: tuple[int, ...]) -> np.ndarray:
        vectors = rng.normal(size=(*shape, 3))
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    return make
