"""What is timed: liquid water of any size, polyalanine helices of any length, one small molecule.

All come from three small structures beside this file: nothing has to be packed or equilibrated first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from io import StringIO

import ase
import ase.io
import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError, suggestion

SYSTEMS = ("water", "peptide", "molecule")
SIZES: dict[str, tuple[int, ...]] = {
    "water": (192, 768, 1536, 5184, 12288, 24000, 49152, 98304, 196608, 397488),
    "peptide": (52, 162, 512),
    "molecule": (20,),
}
"""Atoms, by default; they grow until time or memory is over."""

CELL = 192
"""Atoms of the box of water that is repeated."""

CAPS, RESIDUE, SHIPPED = 12, 10, 15
"""Atoms of both caps and of an alanine; alanines of the helix that is shipped."""

FRONT = 6
"""Atoms of the first cap."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A structure to be timed.

    Attributes:
        kind: one of `SYSTEMS`.
        atoms: the structure.
        cell: what it is made of: the whole is `repeat` of it, so that forces on it are known from those on the cell;
            ``atoms`` itself where nothing is repeated.
        repeat: how often along each axis.
    """

    kind: str
    atoms: ase.Atoms
    cell: ase.Atoms
    repeat: tuple[int, int, int] = (1, 1, 1)

    @property
    def tiles(self) -> int:
        """Copies of the cell."""
        return int(np.prod(self.repeat))


def subject(kind: str, atoms: int) -> Subject:
    """The structure whose size comes nearest to a number of atoms.

    Water: a cell of 64 molecules, equilibrated at 300 K and 1 g/cm³ under SO3LR, repeated. Peptide: Ac-(Ala)n-NHMe, an
    ideal α helix in vacuum. Molecule: paracetamol, whatever the number.

    Raises:
        InputError: no such system; a number of atoms that is not positive.
    """
    if kind not in SYSTEMS:
        raise InputError(f"no system called {kind!r}{suggestion(kind, SYSTEMS)}; there are {', '.join(SYSTEMS)}")
    if atoms < 1:
        raise InputError(f"a size is a number of atoms, at least 1, not {atoms}")
    if kind == "water":
        cell, repeat = _shipped()["water"].copy(), tiling(atoms)
        return Subject(kind, cell.repeat(repeat), cell, repeat)
    made = (
        polyalanine(max(1, round((atoms - CAPS) / RESIDUE))) if kind == "peptide" else _shipped()["paracetamol"].copy()
    )
    return Subject(kind, made, made)


def tiling(atoms: int) -> tuple[int, int, int]:
    """How often to repeat the cell of water along each axis: as near to the number as a box no longer than twice its
    width comes, and of such boxes the most nearly cubic."""
    wanted = max(1.0, atoms / CELL)
    side = round(wanted ** (1 / 3))
    around = range(max(1, side - 2), side + 4)
    boxes = [(a, b, c) for a in around for b in around for c in around if a >= b >= c and a <= 2 * c]
    return min(boxes, key=lambda box: (abs(box[0] * box[1] * box[2] - wanted), box[0] - box[2]))


def polyalanine(residues: int) -> ase.Atoms:
    """An ideal α helix of capped alanines, of any length: 12 + 10 atoms for each residue.

    A residue of an ideal helix is the one before it, turned and shifted by one and the same screw. The shipped helix of
    15 is lengthened by copies of its middle residue, or shortened there, and its end moved along the screw.
    """
    if residues < 1:
        raise InputError(f"a peptide has at least one residue, not {residues}")
    whole = _shipped()["polyalanine"]
    turn, shift = _screw(whole.positions)
    more = residues - SHIPPED
    kept = min(residues, 8) if more <= 0 else 8
    first = FRONT + RESIDUE * kept
    last = first - RESIDUE * min(more, 0)
    middle = slice(first - RESIDUE, first)
    parts = [whole[:first]]
    place = whole.positions[middle]
    for _ in range(max(more, 0)):
        place = place @ turn.T + shift
        parts.append(_moved(whole[middle], place))
    end = whole.positions[last:]
    for _ in range(abs(more)):
        end = end @ turn.T + shift if more > 0 else (end - shift) @ turn
    parts.append(_moved(whole[last:], end))
    made = parts[0]
    for part in parts[1:]:
        made += part
    return made


def _moved(atoms: ase.Atoms, positions: Float[np.ndarray, "N 3"]) -> ase.Atoms:
    atoms.positions = positions
    return atoms


def _screw(positions: Float[np.ndarray, "N 3"]) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Rotation R and shift t of x -> R x + t from the seventh to the eighth residue (Kabsch 1976)."""
    backbone = np.array([0, 2, 4])  # N, CA, C
    a, b = (positions[FRONT + RESIDUE * k + backbone] for k in (6, 7))
    u, _, vt = np.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
    turn = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    return turn, b.mean(0) - turn @ a.mean(0)


@lru_cache(maxsize=1)
def _shipped() -> dict[str, ase.Atoms]:
    text = resources.files("heliodor.bench.speed").joinpath("structures.extxyz").read_text()
    frames = ase.io.read(StringIO(text), ":", format="extxyz")
    assert isinstance(frames, list)
    return {atoms.info.pop("name"): atoms for atoms in frames}
