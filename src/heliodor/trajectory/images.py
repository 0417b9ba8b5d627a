"""Periodic images: shortest vectors, molecules in one piece, paths without jumps. All numpy, whole blocks at once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.topology import Topology


def minimum_image(
    vectors: Float[np.ndarray, "K *n 3"], cell: Float[np.ndarray, "K 3 3"] | None
) -> Float[np.ndarray, "K *n 3"]:
    """Vectors folded back by whole lattice vectors; the shortest image where it is shorter than half the cell's
    thickness. Lattice vectors that are zero fold nothing."""
    if cell is None:
        return vectors
    flat = vectors.reshape(len(vectors), -1, 3)
    folded = flat - np.round(flat @ inverse(cell)) @ cell
    result: np.ndarray = folded.reshape(vectors.shape)
    return result


def inverse(cell: Float[np.ndarray, "K 3 3"]) -> Float[np.ndarray, "K 3 3"]:
    """From Cartesian to fractional coordinates: ``x @ inverse(cell)``; zero along missing lattice vectors."""
    there = np.linalg.norm(cell, axis=2) > 1e-10
    if there.all():
        return np.linalg.inv(cell)
    return np.linalg.pinv(cell)


@dataclass(frozen=True, eq=False)
class Tree:
    """A spanning forest of the bonds, in levels from one atom of each molecule outward.

    Attributes:
        levels: pairs (parents, children) of index arrays; a level's parents are placed by those before.
    """

    levels: tuple[tuple[Int[np.ndarray, "_"], Int[np.ndarray, "_"]], ...]


def tree_of(topology: Topology, first: Int[np.ndarray, "_"] | None = None) -> Tree:
    """The `Tree` of a topology's bonds.

    Args:
        first: atoms from which molecules are preferably built, in this order; None: each from its first atom.
    """
    partners: list[list[int]] = [[] for _ in range(len(topology))]
    for i, j in topology.bonds.tolist():
        partners[i].append(j)
        partners[j].append(i)
    depth = [-1] * len(topology)
    levels: list[tuple[list[int], list[int]]] = []
    for root in [*([] if first is None else first.tolist()), *range(len(topology))]:
        if depth[root] >= 0:
            continue
        depth[root] = 0
        queue = deque([root])
        while queue:
            i = queue.popleft()
            for j in partners[i]:
                if depth[j] < 0:
                    depth[j] = depth[i] + 1
                    if len(levels) < depth[j]:
                        levels.append(([], []))
                    levels[depth[j] - 1][0].append(i)
                    levels[depth[j] - 1][1].append(j)
                    queue.append(j)
    return Tree(tuple((np.array(a), np.array(b)) for a, b in levels))


def made_whole(
    positions: Float[np.ndarray, "K n 3"], cell: Float[np.ndarray, "K 3 3"] | None, tree: Tree
) -> Float[np.ndarray, "K n 3"]:
    """Each molecule in one piece, where its first atom lies; what was whole comes back unchanged."""
    if cell is None:
        return positions
    whole = positions.copy()
    for parents, children in tree.levels:
        steps = minimum_image(positions[:, children] - positions[:, parents], cell)
        whole[:, children] = whole[:, parents] + steps
    return whole


class Follower:
    """Continues paths across the faces of the cell, block after block.

    What heliodor wrote has no jumps and comes back as it is. No atom may move by more than half a cell between frames.
    """

    def __init__(self) -> None:
        self._last: np.ndarray | None = None

    def follow(
        self, positions: Float[np.ndarray, "K n 3"], cell: Float[np.ndarray, "K 3 3"] | None
    ) -> Float[np.ndarray, "K n 3"]:
        """The next block's positions, without jumps."""
        if cell is None or len(positions) == 0:
            return positions
        fractional = positions @ inverse(cell)
        before = fractional[:1] if self._last is None else self._last[None]
        jumps = np.cumsum(np.round(np.diff(np.concatenate([before, fractional]), axis=0)), axis=0)
        # of a follower that has moved whole cells already, the last place carries them
        self._last = fractional[-1] - jumps[-1]
        # what lies along a missing lattice vector is in no fractional coordinate
        return positions - jumps @ cell
