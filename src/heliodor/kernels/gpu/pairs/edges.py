"""What the kernels of pair terms share: an edge from a row of the matrix, the smooth switch, an atom's sums."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.kernels.gpu.jit import jit
from heliodor.kernels.gpu.matrix import NeighborMatrix

BLOCK = 128
"""Edges of a long row worked on at once by a program."""
WARPS = 4
SHORT_BLOCK = 32
"""Likewise within the network's cutoff."""
SHORT_WARPS = 1


# fmt: off
@jit
def edge(i, start, n, first, x_i, y_i, z_i,
         positions, box, index, shift, capacity,
         IMAGES: tl.constexpr, BLOCK: tl.constexpr):
    """Senders from ``start`` on, r = R_j - R_i + n @ cell in float64, and which of them there are.

    With IMAGES from the row of the matrix; without, atoms first ... first + n - 1 except i itself.
    """
    column = start + tl.arange(0, BLOCK)
    there = column < n
    if IMAGES:
        place = i * capacity + column
        j = tl.load(index + place, mask=there, other=0)
        packed = tl.load(shift + place, mask=there, other=0)
        n_x = ((packed & 1023) - 512).to(tl.float64)
        n_y = (((packed >> 10) & 1023) - 512).to(tl.float64)
        n_z = (((packed >> 20) & 1023) - 512).to(tl.float64)
    else:
        j = (first + column).to(tl.int32)
        there = there & (j != i)
        j = tl.where(there, j, 0)
    x = tl.load(positions + 3 * j, mask=there, other=0.0) - x_i
    y = tl.load(positions + 3 * j + 1, mask=there, other=0.0) - y_i
    z = tl.load(positions + 3 * j + 2, mask=there, other=0.0) - z_i
    if IMAGES:
        x += n_x * box[0] + n_y * box[3] + n_z * box[6]
        y += n_x * box[1] + n_y * box[4] + n_z * box[7]
        z += n_x * box[2] + n_y * box[5] + n_z * box[8]
    return j, there, x, y, z


@jit
def row(i, cell, batch, starts, count, n_atoms, IMAGES: tl.constexpr, SEVERAL: tl.constexpr):
    """Length of an atom's row, the first atom of its structure, and its cell."""
    structure = 0
    first = 0
    n = n_atoms
    if SEVERAL:
        structure = tl.load(batch + i).to(tl.int32)
    if IMAGES:
        n = tl.load(count + i)
    elif SEVERAL:
        first = tl.load(starts + structure)
        n = tl.load(starts + structure + 1) - first
    c = cell + 9 * structure
    box = (tl.load(c), tl.load(c + 1), tl.load(c + 2), tl.load(c + 3), tl.load(c + 4), tl.load(c + 5),
           tl.load(c + 6), tl.load(c + 7), tl.load(c + 8))
    return n, first, box


@jit
def switched(x):
    """`smooth_switch` and its slope, without overflow on either side."""
    t = tl.minimum(tl.maximum(x, 0.002), 0.998)
    # 1/t and 1/(1-t) from one division: w = 1/t · 1/(1-t) = 1/t + 1/(1-t)
    w = 1.0 / (t * (1.0 - t))
    u = tl.exp(tl.minimum(tl.maximum((2.0 * t - 1.0) * w, -80.0), 80.0))
    value = 1.0 / (1.0 + u)
    slope = -value * (u * value) * (w * w - 2.0 * w)
    inside = (x > 0.0) & (x < 1.0)
    return tl.where(inside, value, tl.where(x <= 0.0, 1.0, 0.0)), tl.where(inside, slope, 0.0)


@jit
def store_vector(gradient, i, x, y, z, ADD: tl.constexpr = False):
    """-Σ over edges into row i, or added to what is there."""
    out = gradient + 3 * i
    x, y, z = -tl.sum(x, 0), -tl.sum(y, 0), -tl.sum(z, 0)
    if ADD:
        x += tl.load(out)
        y += tl.load(out + 1)
        z += tl.load(out + 2)
    tl.store(out, x)
    tl.store(out + 1, y)
    tl.store(out + 2, z)


@jit
def store_strain(strain, i, xx, yy, zz, yz, xz, xy, ADD: tl.constexpr = False):
    """Half of Σ r_a ∂E/∂r_b over edges into row i, or added; pairs pull along r, so that it is symmetric."""
    out = strain + 9 * i
    xx, yy, zz = 0.5 * tl.sum(xx, 0), 0.5 * tl.sum(yy, 0), 0.5 * tl.sum(zz, 0)
    yz, xz, xy = 0.5 * tl.sum(yz, 0), 0.5 * tl.sum(xz, 0), 0.5 * tl.sum(xy, 0)
    if ADD:
        xx += tl.load(out)
        yy += tl.load(out + 4)
        zz += tl.load(out + 8)
        yz += tl.load(out + 5)
        xz += tl.load(out + 2)
        xy += tl.load(out + 1)
    tl.store(out, xx)
    tl.store(out + 1, xy)
    tl.store(out + 2, xz)
    tl.store(out + 3, xy)
    tl.store(out + 4, yy)
    tl.store(out + 5, yz)
    tl.store(out + 6, xz)
    tl.store(out + 7, yz)
    tl.store(out + 8, zz)
# fmt: on


@dataclass(frozen=True, eq=False)
class PairSums:
    """What pairs give each atom, in the dtype of the kernel.

    Attributes:
        energy: eV, half of each pair's.
        gradient: ∂E/∂R, eV/Å.
        strain: the atom's part of Σ r_a ∂E/∂r_b, eV, row by row; None where not asked for.
        charge_slope: ∂E/∂q, eV/e; None for terms without charges.
    """

    energy: Float[Tensor, "N"]
    gradient: Float[Tensor, "N 3"]
    strain: Float[Tensor, "N 9"] | None = None
    charge_slope: Float[Tensor, "N"] | None = None


def rows_of(
    matrix: NeighborMatrix | None, batch: Int[Tensor, "N"], n_structures: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of a kernel that say where its edges come from: tensors and numbers, and compile-time choices.

    Args:
        matrix: None for all pairs of atoms of the same structure.
    """
    several = n_structures > 1
    if matrix is not None:
        tensors = {"index": matrix.index, "shift": matrix.shift, "count": matrix.count, "starts": batch}
        capacity = matrix.capacity
    else:
        starts = batch
        if several:
            edges = torch.arange(n_structures + 1, dtype=batch.dtype, device=batch.device)
            starts = torch.searchsorted(batch, edges)
        # what stands for tables that are not read must be a tensor all the same
        tensors, capacity = {"index": batch, "shift": batch, "count": batch, "starts": starts}, 0
    numbers = {"capacity": capacity, "n_atoms": len(batch)}
    return tensors | numbers, {"IMAGES": matrix is not None, "SEVERAL": several}
