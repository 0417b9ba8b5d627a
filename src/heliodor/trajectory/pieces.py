"""Some atoms of a trajectory, each molecule in one piece and all of them beside each other as in the first frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.topology import Topology
from heliodor.trajectory.block import Block
from heliodor.trajectory.images import Tree, inverse, made_whole, tree_of
from heliodor.trajectory.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Pieces:
    """How n atoms of m molecules are put together in any frame, without knowledge of the frames before.

    Which periodic images of two molecules are looked at together is chosen once, in the first frame: molecules half a
    cell apart would otherwise change sides frame by frame.

    Attributes:
        read: [r] indices in the trajectory of the atoms that are read, ascending: those wanted, and those on the way
            along bonds from one to another.
        picked: places among them of the n atoms wanted.
        tree: of the bonds among the atoms read.
        owner: molecule of each atom wanted.
        lead: the molecule that stays where it is: the one with the most atoms wanted.
        reference: fractional vectors in the first frame from the centre of the leading molecule to each.
        shifts: whole cells by which each molecule is moved in every frame of a file without jumps; None: in each frame
            by as many as bring it nearest to ``reference``.
    """

    read: Int[np.ndarray, "r"]
    picked: Int[np.ndarray, "n"]
    tree: Tree
    owner: Int[np.ndarray, "n"]
    lead: int
    reference: Float[np.ndarray, "m 3"]
    shifts: Float[np.ndarray, "m 3"] | None

    def placed(self, block: Block) -> Float[np.ndarray, "K n 3"]:
        """Positions (Å) of the atoms wanted, molecules in one piece.

        Args:
            block: of the atoms ``read``.
        """
        whole = made_whole(block.positions, block.cell, self.tree)[:, self.picked]
        if block.cell is None or len(self.reference) < 2:
            return whole
        if self.shifts is None:
            shifts = np.round(self.reference - _apart(whole, block.cell, self.owner, self.lead))
        else:
            shifts = self.shifts[None]
        return whole + (shifts @ block.cell)[:, self.owner]


def pieces_of(trajectory: Trajectory, atoms: Int[np.ndarray, "n"]) -> Pieces:
    """How some atoms (ascending) are put together; reads the first frame.

    Raises:
        InputError: a frame that cannot be read.
    """
    topology = trajectory.topology
    read, tree = _connected(topology, atoms)
    picked = np.searchsorted(read, atoms)
    owner = np.unique(topology.molecules[atoms], return_inverse=True)[1].reshape(-1)
    lead = int(np.bincount(owner).argmax())
    found = Pieces(read, picked, tree, owner, lead, np.zeros((int(owner.max()) + 1, 3)), None)
    if len(found.reference) < 2:
        return found
    block = trajectory.read(np.array([0]), atoms=read)
    if block.cell is None:
        return found
    apart = _apart(made_whole(block.positions, block.cell, tree)[:, picked], block.cell, owner, lead)[0]
    shifts = -np.round(apart)
    return Pieces(read, picked, tree, owner, lead, apart + shifts, shifts if trajectory.continuous else None)


def _apart(
    positions: Float[np.ndarray, "K n 3"], cell: Float[np.ndarray, "K 3 3"], owner: Int[np.ndarray, "n"], lead: int
) -> Float[np.ndarray, "K m 3"]:
    """Fractional vectors from the centre of the leading molecule to each."""
    order = np.argsort(owner, kind="stable")
    sizes = np.bincount(owner)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    centres = np.add.reduceat(positions[:, order], starts, axis=1) / sizes[:, None]
    apart: np.ndarray = (centres - centres[:, lead, None]) @ inverse(cell)
    return apart


def _connected(topology: Topology, atoms: Int[np.ndarray, "n"]) -> tuple[Int[np.ndarray, "r"], Tree]:
    """The atoms and those that bonds between them lead over, and the tree of these."""
    members = np.flatnonzero(np.isin(topology.molecules, topology.molecules[atoms]))
    wanted = np.searchsorted(members, atoms)
    tree = tree_of(topology.take(members), wanted)
    kept = np.zeros(len(members), dtype=bool)
    kept[wanted] = True
    for parents, children in reversed(tree.levels):
        kept[parents[kept[children]]] = True
    place = np.cumsum(kept) - 1
    levels = [(place[a[kept[b]]], place[b[kept[b]]]) for a, b in tree.levels if kept[b].any()]
    return members[kept], Tree(tuple(levels))
