"""Where a bilayer lies in its box: its normal, its area, its middle, heights above that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.membranes.lipids import Kind
from heliodor.errors import InputError
from heliodor.trajectory.block import Block

AXES = ("a", "b", "c")


@dataclass(frozen=True, eq=False)
class Placed:
    """Boxes of K frames, and heights in them.

    Attributes:
        normal: unit vectors across the bilayer.
        area: Å² of the box in the plane of the bilayer.
        period: Å of the box along the normal.
        middle: Å, height of the bilayer's middle.
    """

    normal: Float[np.ndarray, "K 3"]
    area: Float[np.ndarray, "K"]
    period: Float[np.ndarray, "K"]
    middle: Float[np.ndarray, "K"]

    def heights(self, positions: Float[np.ndarray, "K n 3"]) -> Float[np.ndarray, "K n"]:
        """Å above the bilayer's middle, between minus and plus half a period."""
        z = np.einsum("knc,kc->kn", positions, self.normal) - self.middle[:, None]
        result: np.ndarray = z - self.period[:, None] * np.round(z / self.period[:, None])
        return result


def axis_of(name: str) -> int:
    """0, 1, 2 for "a", "b", "c".

    Raises:
        InputError: another word.
    """
    if name not in AXES:
        raise InputError(f"the axis across the bilayer must be a, b or c, not {name!r}")
    return AXES.index(name)


def placed(block: Block, across: int, ends: Int[np.ndarray, "e"]) -> Placed:
    """The bilayer's frame: normal to the other two lattice vectors, middle at the circular mean of the tails' ends.

    Args:
        block: of whatever atoms.
        across: lattice vector that leads out of the bilayer, 0 to 2.
        ends: places in the block of the last carbons of the tails.
    """
    if block.cell is None:
        raise InputError("a bilayer needs a periodic box in every frame")
    first, second = (block.cell[:, (across + k) % 3] for k in (1, 2))
    face = np.cross(first, second)
    area = np.linalg.norm(face, axis=1)
    normal = face / area[:, None]
    period = np.einsum("kc,kc->k", block.cell[:, across], normal)
    # of left-handed cells the normal points against the lattice vector
    normal, period = normal * np.sign(period)[:, None], np.abs(period)
    z = np.einsum("knc,kc->kn", block.positions[:, ends], normal)
    phase = np.exp(2j * np.pi * z / period[:, None]).mean(1)
    return Placed(normal, area, period, np.angle(phase) / (2.0 * np.pi) * period)


def tail_ends(kinds: tuple[Kind, ...]) -> Int[np.ndarray, "e"]:
    """Last carbons of all tails, ascending.

    Raises:
        InputError: none of the lipids has tails bound by esters.
    """
    ends = [tail.last for kind in kinds for tail in kind.tails]
    if not ends:
        raise InputError(
            "no tails were found: lipids are recognised by fatty acids bound as esters; are the bonds complete?"
        )
    return np.sort(np.concatenate(ends))
