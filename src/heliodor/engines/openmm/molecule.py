"""One molecule in a periodic box, seen without its images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.trajectory.images import Tree, made_whole, minimum_image


@dataclass(frozen=True, eq=False)
class Molecule:
    """The bonds that hold it together, so that it can be put together wherever the box has cut it.

    Attributes:
        bonds: pairs of atoms; all atoms hang together by them.
    """

    bonds: Int[np.ndarray, "K 2"]

    def whole(self, positions: Float[np.ndarray, "N 3"], box: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "N 3"]:
        """The atoms (Å) in one piece, where the first one is; what is whole comes back as it is."""
        i, j = self.bonds.T
        steps = positions[j] - positions[i]
        if np.array_equal(steps, minimum_image(steps[None], box[None])[0]):
            return positions
        return made_whole(positions[None], box[None], self.tree)[0]

    @property
    def tree(self) -> Tree:
        """The bonds from the first atom outward."""
        n = int(self.bonds.max()) + 1 if len(self.bonds) else 1
        partners: list[list[int]] = [[] for _ in range(n)]
        for i, j in self.bonds.tolist():
            partners[i].append(j)
            partners[j].append(i)
        seen, front, levels = {0}, [0], []
        while front:
            steps = [(i, j) for i in front for j in partners[i] if j not in seen]
            front = list(dict.fromkeys(j for _, j in steps))
            parents = {j: i for i, j in reversed(steps)}
            if front:
                levels.append((np.array([parents[j] for j in front]), np.array(front)))
            seen.update(front)
        return Tree(tuple(levels))

    def holds(self, n_atoms: int) -> bool:
        """Whether all of so many atoms hang together."""
        return 1 + sum(len(children) for _, children in self.tree.levels) == n_atoms
