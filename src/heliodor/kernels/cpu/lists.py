"""Neighbour lists as compiled loops read them: the first pair of each atom, small integers, translations by number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from heliodor.neighbors import Neighbors
from heliodor.system import System


@dataclass(frozen=True)
class Listed:
    """A half list, its pairs by receiving atom.

    Attributes:
        start: [N+1] first pair of each atom.
        other: [P] the other atom.
        code: [P] row of its lattice translation in ``translations``.
        translations: [S, 3] integers.
    """

    start: np.ndarray
    other: np.ndarray
    code: np.ndarray
    translations: np.ndarray

    def shifts(self, system: System) -> np.ndarray:
        """[B, S, 3] Å at the present cell."""
        cell = system.cell.detach().double().numpy()
        return np.ascontiguousarray(np.einsum("sk,bkc->bsc", self.translations.astype(float), cell))


def listed(neighbors: Neighbors, n_atoms: int) -> Listed:
    """A half list for compiled loops, sorted by receiving atom if it is not."""
    i, j, shift = neighbors.i, neighbors.j, neighbors.shift
    if len(i) and bool((i[1:] < i[:-1]).any()):
        order = torch.argsort(i, stable=True)
        i, j, shift = i[order], j[order], shift[order]
    start = np.zeros(n_atoms + 1, np.int64)
    np.cumsum(torch.bincount(i, minlength=n_atoms).numpy(), out=start[1:])
    n = shift.numpy()
    if not len(n):
        empty = np.zeros(0, np.int32)
        return Listed(start, empty, empty, np.zeros((1, 3), np.int64))
    low, high = n.min(0), n.max(0)
    size = (high - low + 1).astype(np.int64)
    code = ((n[:, 0] - low[0]) * size[1] + (n[:, 1] - low[1])) * size[2] + (n[:, 2] - low[2])
    grid = np.stack(np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)), indexing="ij"), axis=-1)
    return Listed(start, j.numpy().astype(np.int32), code.astype(np.int32), grid.reshape(-1, 3).astype(np.int64))
