"""Which atoms have conformations: the molecules of which there are a few, in one piece across periodic images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.errors import InputError
from heliodor.topology import Topology
from heliodor.trajectory.block import Block
from heliodor.trajectory.images import made_whole, minimum_image
from heliodor.trajectory.pieces import Pieces, pieces_of
from heliodor.trajectory.selection import is_protein, is_water, select
from heliodor.trajectory.trajectory import Trajectory, frames_per_block

FEW = 4
"""A kind of molecule of which there are more is solvent."""

LARGE = 100
"""Atoms of a protein that is none however many there are."""

LEAST = 3
"""Atoms that have a shape."""


@dataclass(frozen=True, eq=False)
class Solute:
    """The n atoms whose conformations are looked at.

    Attributes:
        atoms: their indices in the trajectory, ascending.
        topology: of these atoms.
        masses: amu.
        shape: indices among them of the atoms that are superposed: heavy ones, all if there are fewer than three.
        pieces: makes molecules whole; in the first frame they lie where they are nearest to the largest.
    """

    atoms: Int[np.ndarray, "n"]
    topology: Topology
    masses: Float[np.ndarray, "n"]
    shape: Int[np.ndarray, "h"]
    pieces: Pieces

    @property
    def read(self) -> Int[np.ndarray, "r"]:
        """Indices in the trajectory of the atoms to read: those of the solute and what joins them."""
        return self.pieces.read

    @property
    def formula(self) -> str:
        """Of all its molecules, Hill's order."""
        from ase.formula import Formula

        return str(Formula.from_list(self.topology.symbols.tolist()).format("hill"))


def solute_atoms(topology: Topology) -> Int[np.ndarray, "n"]:
    """Atoms of molecules, no water, no lone atoms, of whose kind there are at most `FEW`; proteins besides.

    A lone molecule is its own solute, water too. Empty if there is none.
    """
    molecules = topology.molecules
    count = int(molecules.max()) + 1
    if count == 1:
        return np.arange(len(topology))
    elements, column = np.unique(topology.numbers, return_inverse=True)
    composition = np.zeros((count, len(elements)), dtype=np.int64)
    np.add.at(composition, (molecules, column), 1)
    _, kind, members = np.unique(composition, axis=0, return_inverse=True, return_counts=True)
    few = members[kind.reshape(-1)] <= FEW
    protein = np.bincount(molecules, weights=is_protein(topology), minlength=count) > 0
    few |= protein & (composition.sum(1) >= LARGE)
    few &= composition.sum(1) > 1
    mask: np.ndarray = few[molecules] & ~is_water(topology)
    return np.flatnonzero(mask)


def unfit(trajectory: Trajectory) -> str | None:
    """Why conformations cannot be looked at."""
    atoms = solute_atoms(trajectory.topology)
    if len(atoms) == 0:
        return "it holds no solute: conformations are of molecules of which there are a few, not of a liquid"
    if len(atoms) < LEAST:
        return f"its solute has {len(atoms)} atom(s), and a shape needs three"
    return None


def unfit_moving(trajectory: Trajectory) -> str | None:
    """Why conformations cannot be compared along the trajectory."""
    return unfit(trajectory) or ("it holds a single frame" if len(trajectory) < 2 else None)


def find_solute(trajectory: Trajectory, selection: str = "") -> Solute:
    """The solute of a trajectory, or the atoms of a selection (`heliodor.trajectory.selection.select`).

    Raises:
        InputError: nothing there, fewer than three atoms, or a molecule without end.
    """
    topology = trajectory.topology
    if selection:
        atoms = select(topology, selection)
        if len(atoms) < LEAST:
            raise InputError(f"the selection {selection!r} leaves {len(atoms)} atom(s), and a shape needs three")
    else:
        reason = unfit(trajectory)
        if reason is not None:
            raise InputError(f"{trajectory.path}: {reason}; choose atoms by a selection")
        atoms = solute_atoms(topology)
    part = topology.take(atoms)
    heavy = np.flatnonzero(part.numbers > 1)
    found = Solute(
        atoms=atoms,
        topology=part,
        masses=trajectory.masses[atoms],
        shape=heavy if len(heavy) >= LEAST else np.arange(len(atoms)),
        pieces=pieces_of(trajectory, atoms),
    )
    _check_finite(trajectory, found)
    return found


def in_one_piece(block: Block, solute: Solute) -> Float[np.ndarray, "K n 3"]:
    """Positions of the solute (Å), each molecule whole, all of them beside each other as in the first frame.

    Args:
        block: of the atoms that the solute reads.
    """
    return solute.pieces.placed(block)


def read_shapes(trajectory: Trajectory, solute: Solute, frames: Int[np.ndarray, "F"]) -> Float[np.ndarray, "F h 3"]:
    """Positions (Å) of the superposed atoms in some frames (ascending indices), read a part at a time."""
    size = frames_per_block(len(solute.read))
    parts = [
        in_one_piece(trajectory.read(frames[k : k + size], atoms=solute.read), solute)[:, solute.shape]
        for k in range(0, len(frames), size)
    ]
    return np.concatenate(parts)


def _check_finite(trajectory: Trajectory, solute: Solute) -> None:
    pieces = solute.pieces
    bonded = trajectory.topology.take(pieces.read).bonds
    block = trajectory.read(np.array([0]), atoms=pieces.read)
    if block.cell is None or len(bonded) == 0:
        return
    placed = made_whole(block.positions, block.cell, pieces.tree)
    i, j = bonded.T
    bonds = placed[:, j] - placed[:, i]
    if np.abs(minimum_image(bonds, block.cell) - bonds).max() > 1.0:
        raise InputError(
            f"{trajectory.path}: the solute is bonded to its own periodic images and has no end, so no shape either; "
            "choose atoms by a selection"
        )
