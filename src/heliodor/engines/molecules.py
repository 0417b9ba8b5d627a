"""Dipoles of periodic structures, molecule by molecule, so that no image of an atom and no charge that flows counts."""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.liquids.paths import centres_of_mass, per_molecule
from heliodor.topology import topology_of
from heliodor.trajectory.images import Tree, made_whole, minimum_image, tree_of

ENDLESS = 1e-3
"""Å; a bond that is longer than its nearest image by more closes a ring through the cell."""


@dataclass(frozen=True, eq=False)
class Molecules:
    """Of one structure, by the bonds it starts with.

    Attributes:
        index: of each atom's molecule.
        masses: amu.
        tree: of the bonds.
        endless: whether bonds run through the cell without end; such a network has no dipole of its own.
    """

    index: Int[np.ndarray, "N"]
    masses: Float[np.ndarray, "N"]
    tree: Tree
    endless: bool

    def dipoles(
        self,
        positions: Float[np.ndarray, "B N 3"],
        cells: Float[np.ndarray, "B 3 3"],
        charges: Float[np.ndarray, "B N"],
    ) -> Float[np.ndarray, "B 3"]:
        """Sum over molecules of Σ q (r - R), R the centre of mass, e·Å; as `heliodor.analysis.liquids.dipoles`.

        Σ q r itself jumps with each charge that moves between atoms on two sides of the cell, be they of one molecule
        that the structure came with in two pieces or of two neighbours. The motion of ions is left out with it.

        Args:
            positions: Å, any image of each atom.
            cells: Å, rows are lattice vectors.
            charges: e.
        """
        whole = made_whole(positions, cells, self.tree)
        away = whole - centres_of_mass(whole, self.index, self.masses)[:, self.index]
        total: np.ndarray = per_molecule(charges[:, :, None] * away, self.index).sum(1)
        return total


def molecules_of(atoms: ase.Atoms) -> Molecules:
    """Of a periodic structure, in one piece or not."""
    topology = topology_of(atoms)
    tree = tree_of(topology)
    cell = np.array(atoms.cell, dtype=np.float64)[None]
    i, j = topology.bonds.T
    whole = made_whole(atoms.positions[None], cell, tree)
    bonds = whole[:, j] - whole[:, i]
    longer = np.linalg.norm(bonds, axis=2) - np.linalg.norm(minimum_image(bonds, cell), axis=2)
    return Molecules(topology.molecules, atoms.get_masses(), tree, bool(len(i)) and float(longer.max()) > ENDLESS)
