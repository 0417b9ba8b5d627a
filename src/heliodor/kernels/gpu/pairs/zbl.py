"""Screened nuclear repulsion within the network's cutoff, with its derivatives."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from heliodor.errors import ModelError
from heliodor.kernels.gpu.jit import jit
from heliodor.kernels.gpu.matrix import NeighborMatrix
from heliodor.kernels.gpu.pairs.edges import (
    SHORT_BLOCK,
    SHORT_WARPS,
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
    from heliodor.potentials.so3lr import SO3LR
    from heliodor.potentials.spookynet import SpookyNet

N_ELEMENTS = 119


@dataclass(frozen=True, eq=False)
class ZBLTables:
    """Constants of `ZBLRepulsion` and of the cutoff function around it.

    Attributes:
        screening: exponents a and normalised coefficients ĉ.
        inverse_length: by element, Z^p times the inverse length, 1/Å.
        cutoff: of the network, Å.
        exponential: whether its cutoff function is `exponential_cutoff`, or `polynomial_cutoff`.
        switch_off: Å; None for none.
    """

    screening: Float[Tensor, "8"]
    inverse_length: Float[Tensor, "Z"]
    cutoff: float
    exponential: bool
    switch_off: float | None

    @staticmethod
    def of(model: SO3LR | SpookyNet) -> ZBLTables:
        """On the model's device, in its dtype.

        Raises:
            ModelError: a model without the term.
        """
        from heliodor.potentials.spookynet import SpookyNet

        zbl = model.zbl
        if zbl is None:
            raise ModelError(f"{model.name} has no ZBL repulsion")
        with torch.no_grad():
            c = softplus(zbl.coefficients.double())
            z = torch.arange(N_ELEMENTS, dtype=torch.float64, device=c.device)
            length = z ** softplus(zbl.power.double()) * softplus(zbl.inverse_length.double())
            screening = torch.cat([softplus(zbl.exponents.double()), c / c.sum()])
        return ZBLTables(
            screening.to(model.dtype),
            length.to(model.dtype),
            model.cutoff,
            isinstance(model, SpookyNet),
            zbl.switch_off,
        )


# fmt: off
@jit
def zbl_kernel(positions, cell, batch, starts, index, shift, count, numbers, screening, length,
               energy, gradient, strain, capacity, n_atoms,
               K: tl.constexpr, LIMIT: tl.constexpr, EXPONENTIAL: tl.constexpr, SWITCH: tl.constexpr,
               SWITCHED: tl.constexpr, STRAIN: tl.constexpr, IMAGES: tl.constexpr, SEVERAL: tl.constexpr,
               BLOCK: tl.constexpr):
    """One atom: its row of senders, block by block."""
    real = length.dtype.element_ty
    i = tl.program_id(0).to(tl.int64)
    n, first, box = row(i, cell, batch, starts, count, n_atoms, IMAGES, SEVERAL)
    x_i, y_i, z_i = tl.load(positions + 3 * i), tl.load(positions + 3 * i + 1), tl.load(positions + 3 * i + 2)
    own = tl.load(numbers + i)
    charge_i, length_i = K * own.to(real), tl.load(length + own)
    a0, a1, a2, a3 = tl.load(screening), tl.load(screening + 1), tl.load(screening + 2), tl.load(screening + 3)
    c0, c1, c2, c3 = tl.load(screening + 4), tl.load(screening + 5), tl.load(screening + 6), tl.load(screening + 7)

    none = tl.zeros([BLOCK], real)
    e = none
    g_x, g_y, g_z = none, none, none
    if STRAIN:
        xx, yy, zz, yz, xz, xy = none, none, none, none, none, none
    start = tl.zeros([], tl.int32)
    while start < n:
        j, there, x, y, z = edge(i, start, n, first, x_i, y_i, z_i, positions, box, index, shift, capacity,
                                 IMAGES, BLOCK)
        x, y, z = x.to(real), y.to(real), z.to(real)
        element = tl.load(numbers + j, mask=there, other=1)
        square = x * x + y * y + z * z
        there = there & (square < LIMIT * LIMIT)
        square = tl.where(there, square, 1.0)
        inverse = tl.rsqrt(square)
        d = square * inverse

        strength = tl.where(there, charge_i * element.to(real), 0.0)


        s = length_i + tl.load(length + element)
        rho = d * s
        t0, t1, t2, t3 = c0 * tl.exp(-a0 * rho), c1 * tl.exp(-a1 * rho), c2 * tl.exp(-a2 * rho), c3 * tl.exp(-a3 * rho)
        phi = (t0 + t1) + (t2 + t3)
        phi_slope = -s * ((a0 * t0 + a1 * t1) + (a2 * t2 + a3 * t3))
        if EXPONENTIAL:
            # so close to the cutoff nothing is left, and the quotient must not overflow
            room = tl.maximum(LIMIT * LIMIT - square, 1e-3 * LIMIT * LIMIT)
            f = tl.exp(-square / room)
            f_slope = -2.0 * d * (LIMIT * LIMIT) / (room * room) * f
        else:
            u = d * (1.0 / LIMIT)
            f = 1.0 + u * u * u * (u * (15.0 - 6.0 * u) - 10.0)
            f_slope = (-30.0 / LIMIT) * (u * u) * (1.0 - u) * (1.0 - u)
        value = f * phi
        slope = f_slope * phi + f * phi_slope
        if SWITCHED:
            kept, fall = switched(d * (1.0 / SWITCH))
            slope = slope * kept + value * fall * (1.0 / SWITCH)
            value *= kept
        strength *= inverse
        e += strength * value
        pull = strength * (slope - value * inverse) * inverse
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
    tl.store(energy + i, 0.5 * tl.sum(e, 0))
    store_vector(gradient, i, g_x, g_y, g_z)
    if STRAIN:
        store_strain(strain, i, xx, yy, zz, yz, xz, xy)
# fmt: on


def zbl_pairs(
    positions: Float[Tensor, "N 3"],
    cell: Float[Tensor, "B 3 3"],
    batch: Int[Tensor, "N"],
    short: NeighborMatrix | None,
    numbers: Int[Tensor, "N"],
    tables: ZBLTables,
    *,
    strain: bool,
) -> PairSums:
    """`ZBLRepulsion` of every pair within the network's cutoff, and its derivatives.

    Args:
        positions: Å, float64.
        cell: Å, float64; not looked at without a matrix.
        short: rows that hold all within the cutoff; None for all pairs of the same structure, none of them images.
        numbers: atomic numbers.
    """
    rows, kind = rows_of(short, batch, len(cell))
    n = len(batch)
    energy = tables.screening.new_empty(n)
    gradient = energy.new_empty(n, 3)
    strains = energy.new_empty(n, 9) if strain else None
    zbl_kernel[(n,)](
        positions=positions.contiguous(), cell=cell.contiguous(), batch=batch, numbers=numbers,
        screening=tables.screening, length=tables.inverse_length, energy=energy, gradient=gradient,
        strain=gradient if strains is None else strains, **rows, **zbl_constants(tables, strain=strain), **kind,
        BLOCK=SHORT_BLOCK, num_warps=SHORT_WARPS,
    )  # fmt: skip
    return PairSums(energy, gradient, strains)


def zbl_constants(tables: ZBLTables, *, strain: bool) -> dict[str, float | bool]:
    """Compile-time constants of `zbl_kernel`."""
    return {
        "K": COULOMB, "LIMIT": tables.cutoff, "EXPONENTIAL": tables.exponential, "SWITCH": tables.switch_off or 0.0,
        "SWITCHED": tables.switch_off is not None, "STRAIN": strain,
    }  # fmt: skip
