"""SpookyNet's electrostatics of all pairs in one pass, with all derivatives."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.kernels.gpu.jit import jit
from heliodor.kernels.gpu.matrix import NeighborMatrix
from heliodor.kernels.gpu.pairs.edges import (
    BLOCK,
    WARPS,
    PairSums,
    edge,
    row,
    rows_of,
    store_strain,
    store_vector,
    switched,
)
from heliodor.physics.tables import COULOMB

if TYPE_CHECKING:
    from heliodor.potentials.spookynet import SpookyNet


@dataclass(frozen=True)
class SmearedTables:
    """Constants of `smeared_coulomb`.

    Attributes:
        switch_on, switch_off: Å where the crossover from the smeared to the bare potential begins and ends.
        cutoff: Å; None for none.
    """

    switch_on: float
    switch_off: float
    cutoff: float | None

    @staticmethod
    def of(model: SpookyNet) -> SmearedTables:
        """Those of a model with electrostatics."""
        return SmearedTables(0.25 * model.cutoff, 0.75 * model.cutoff, model.config.long_range_cutoff)


# fmt: off
@jit
def smeared_kernel(positions, cell, batch, starts, index, shift, count, charges,
                   energy, gradient, charge_slope, strain, capacity, n_atoms,
                   K: tl.constexpr, ON: tl.constexpr, OFF: tl.constexpr, LIMIT: tl.constexpr,
                   NEAR: tl.constexpr, NEAR_TILT: tl.constexpr, FAR: tl.constexpr, FAR_TILT: tl.constexpr,
                   LIMITED: tl.constexpr, STRAIN: tl.constexpr, IMAGES: tl.constexpr, SEVERAL: tl.constexpr,
                   BLOCK: tl.constexpr):
    """One atom: its row of senders, block by block."""
    real = charges.dtype.element_ty
    i = tl.program_id(0).to(tl.int64)
    n, first, box = row(i, cell, batch, starts, count, n_atoms, IMAGES, SEVERAL)
    x_i, y_i, z_i = tl.load(positions + 3 * i), tl.load(positions + 3 * i + 1), tl.load(positions + 3 * i + 2)
    q_i = tl.load(charges + i)

    none = tl.zeros([BLOCK], real)
    by_q = none
    g_x, g_y, g_z = none, none, none
    if STRAIN:
        xx, yy, zz, yz, xz, xy = none, none, none, none, none, none
    start = tl.zeros([], tl.int32)
    while start < n:
        j, there, x, y, z = edge(i, start, n, first, x_i, y_i, z_i, positions, box, index, shift, capacity,
                                 IMAGES, BLOCK)
        x, y, z = x.to(real), y.to(real), z.to(real)
        q_j = tl.load(charges + j, mask=there, other=0.0)
        square = x * x + y * y + z * z
        if LIMITED:
            there = there & (square < LIMIT * LIMIT)
        q_j = tl.where(there, K * q_j, 0.0)
        square = tl.where(there, square, 1.0)
        inverse = tl.rsqrt(square)
        d = square * inverse
        near = tl.rsqrt(square + 1.0)
        near_slope = NEAR_TILT - d * near * near * near
        far_slope = FAR_TILT - inverse * inverse
        # the shift: each branch as it is, plus a straight line
        far = inverse + d * FAR_TILT - FAR
        near += d * NEAR_TILT - NEAR
        s, fall = switched((d - ON) * (1.0 / (OFF - ON)))
        # weighted like this a close contact, where `far` is huge, takes nothing of it
        value = s * near + (1.0 - s) * far
        slope = s * near_slope + (1.0 - s) * far_slope + fall * (1.0 / (OFF - ON)) * (near - far)
        by_q += q_j * value
        pull = q_i * q_j * slope * inverse
        f_x, f_y, f_z = pull * x, pull * y, pull * z
        g_x += f_x
        g_y += f_y
        g_z += f_z
        if STRAIN:
            xx += f_x * x
            yy += f_y * y
            zz += f_z * z
            yz += f_y * z
            xz += f_x * z
            xy += f_x * y
        start += BLOCK
    potential = tl.sum(by_q, 0)
    tl.store(charge_slope + i, potential)
    tl.store(energy + i, 0.5 * q_i * potential)
    store_vector(gradient, i, g_x, g_y, g_z)
    if STRAIN:
        store_strain(strain, i, xx, yy, zz, yz, xz, xy)
# fmt: on


def smeared_coulomb_pairs(
    positions: Float[Tensor, "N 3"],
    cell: Float[Tensor, "B 3 3"],
    batch: Int[Tensor, "N"],
    long: NeighborMatrix | None,
    charges: Float[Tensor, "N"],
    tables: SmearedTables,
    *,
    strain: bool,
) -> PairSums:
    """`smeared_coulomb` of every pair, and its derivatives.

    Args:
        positions: Å, float64.
        cell: Å, float64; not looked at without a matrix.
        long: rows that hold all within the model's cutoff; None for all pairs of the same structure, none of them
            images, within that cutoff if there is one.
        charges: e.
    """
    rows, kind = rows_of(long, batch, len(cell))
    n = len(batch)
    energy, charge_slope = charges.new_empty(2, n)
    gradient = charges.new_empty(n, 3)
    strains = charges.new_empty(n, 9) if strain else None
    smeared_kernel[(n,)](
        positions=positions.contiguous(), cell=cell.contiguous(), batch=batch, charges=charges.contiguous(),
        energy=energy, gradient=gradient, charge_slope=charge_slope, strain=gradient if strains is None else strains,
        **rows, **smeared_constants(tables, strain=strain), **kind, BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip
    return PairSums(energy, gradient, strains, charge_slope)


def smeared_constants(tables: SmearedTables, *, strain: bool) -> dict[str, float | bool]:
    """Compile-time constants of `smeared_kernel`."""
    near = near_tilt = far = far_tilt = 0.0
    limit = tables.cutoff
    if limit is not None:
        root = (limit**2 + 1.0) ** 1.5
        near, near_tilt = (2.0 * limit**2 + 1.0) / root, limit / root
        far, far_tilt = 2.0 / limit, 1.0 / limit**2
    return {
        "K": COULOMB, "ON": tables.switch_on, "OFF": tables.switch_off, "LIMIT": 0.0 if limit is None else limit,
        "NEAR": near, "NEAR_TILT": near_tilt, "FAR": far, "FAR_TILT": far_tilt, "LIMITED": limit is not None,
        "STRAIN": strain,
    }  # fmt: skip
