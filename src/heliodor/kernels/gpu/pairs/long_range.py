"""SO3LR's electrostatics and dispersion of all pairs in one pass, with all derivatives."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.kernels.gpu.jit import jit
from heliodor.kernels.gpu.matrix import NeighborMatrix
from heliodor.kernels.gpu.pairs.edges import BLOCK, WARPS, edge, row, rows_of, store_strain, store_vector, switched
from heliodor.physics.dispersion import _GAMMA_FIT, _RADIUS_POWER, _VDW_PREFACTOR
from heliodor.physics.electrostatics import SWITCH_ON
from heliodor.physics.tables import BOHR_2014, COULOMB, HARTREE_2014

if TYPE_CHECKING:
    from heliodor.potentials.so3lr import SO3LR


@dataclass(frozen=True, eq=False)
class LongRangeTables:
    """Constants of the long-range terms.

    Attributes:
        free: by element, polarizability α⁰ (Bohr³) and α⁰²/C6⁰ (1/Hartree) of the free atom.
        damping: σ of the Coulomb interaction, Å.
        scale: of the damping radius of dispersion.
        width: Å over which dispersion is switched off.
    """

    free: Float[Tensor, "Z 2"]
    damping: float
    scale: float
    width: float

    @staticmethod
    def of(model: SO3LR) -> LongRangeTables:
        """On the model's device, in its dtype."""
        free = model.free_atoms.detach().double()
        table = torch.stack([free[:, 0], free[:, 0].square() / free[:, 1]], dim=-1)
        config = model.config
        return LongRangeTables(
            table.to(model.dtype), config.electrostatic_damping, config.dispersion_scale, model.dispersion_damping_width
        )


@dataclass(frozen=True, eq=False)
class LongRange:
    """What the long-range pairs give each atom, in the dtype of the charges.

    Attributes:
        coulomb, dispersion: eV, half of each pair's.
        gradient: ∂E/∂R at fixed charges and ratios, eV/Å.
        charge_slope: ∂E/∂q, eV/e.
        ratio_slope: ∂E by the Hirshfeld ratio, eV.
        strain: the atom's part of Σ r_a ∂E/∂r_b, eV, row by row; None where not asked for.
    """

    coulomb: Float[Tensor, "N"]
    dispersion: Float[Tensor, "N"]
    gradient: Float[Tensor, "N 3"]
    charge_slope: Float[Tensor, "N"]
    ratio_slope: Float[Tensor, "N"]
    strain: Float[Tensor, "N 9"] | None


# fmt: off
@jit
def _damped(d, inverse, DAMPING: tl.constexpr, LIMIT: tl.constexpr, VALUE: tl.constexpr,
            SLOPE: tl.constexpr, ON: tl.constexpr, LIMITED: tl.constexpr):
    """erf(d/σ)/d, shifted where there is a cutoff, and its slope."""
    x = d * (1.0 / DAMPING)
    value = tl.erf(x) * inverse
    slope = (1.1283791670955126 / DAMPING * tl.exp(-x * x) - value) * inverse
    if LIMITED:
        potential, fall = switched((d * (1.0 / LIMIT) - ON) * (1.0 / (1.0 - ON)))
        beyond = d - LIMIT
        value -= VALUE + (1.0 - potential) * SLOPE * beyond
        slope -= SLOPE * (1.0 - potential - fall * (1.0 / (LIMIT * (1.0 - ON))) * beyond)
    return value, slope


@jit
def _drude(y, alpha, RADIUS: tl.constexpr, POWER: tl.constexpr, B0: tl.constexpr,
           B1: tl.constexpr, B2: tl.constexpr, B3: tl.constexpr):
    """Σ of the damped series, its derivative by y = r² (Bohr²) and α times that by the mean polarizability α."""
    root = tl.exp2(tl.log2(alpha) * (1.0 / 7.0))
    rho = POWER * root
    s = ((B3 * rho + B2) * rho + B1) * rho + B0
    g = 2.0 * s * s
    # α ∂g/∂α
    g_alpha = (4.0 / 7.0) * s * rho * ((3.0 * B3 * rho + 2.0 * B2) * rho + B1)
    p = RADIUS * root
    p = p * p
    y2, p2 = y * y, p * p
    y4, p4 = y2 * y2, p2 * p2
    a6 = 1.0 / (y2 * y + p2 * p)
    a8 = 1.0 / (y4 + p4)
    a10 = 1.0 / (y4 * y + p4 * p)
    c8 = 5.0 * g
    c10 = 30.625 * g * g
    series = a6 + c8 * a8 + c10 * a10
    b6, b8, b10 = 3.0 * a6 * a6, 4.0 * c8 * a8 * a8, 5.0 * c10 * a10 * a10
    by_y = -(b6 * y2 + b8 * y2 * y + b10 * y4)
    by_alpha = (5.0 * a8 + 61.25 * g * a10) * g_alpha - (2.0 / 7.0) * p * (b6 * p2 + b8 * p2 * p + b10 * p4)
    return series, by_y, by_alpha


@jit
def long_range_kernel(positions, cell, batch, starts, index, shift, count, numbers, charges, ratios, free,
                      coulomb, dispersion, gradient, charge_slope, ratio_slope, strain, capacity, n_atoms,
                      K: tl.constexpr, DAMPING: tl.constexpr, LIMIT: tl.constexpr, VALUE: tl.constexpr,
                      SLOPE: tl.constexpr, ON: tl.constexpr, WIDTH: tl.constexpr, RADIUS: tl.constexpr,
                      POWER: tl.constexpr, B0: tl.constexpr, B1: tl.constexpr, B2: tl.constexpr,
                      B3: tl.constexpr, BOHR: tl.constexpr, HARTREE: tl.constexpr, LIMITED: tl.constexpr,
                      STRAIN: tl.constexpr, IMAGES: tl.constexpr, SEVERAL: tl.constexpr,
                      BLOCK: tl.constexpr):
    """One atom: its row of senders, block by block."""
    real = charges.dtype.element_ty
    i = tl.program_id(0).to(tl.int64)
    n, first, box = row(i, cell, batch, starts, count, n_atoms, IMAGES, SEVERAL)
    x_i, y_i, z_i = tl.load(positions + 3 * i), tl.load(positions + 3 * i + 1), tl.load(positions + 3 * i + 2)
    own = tl.load(numbers + i)
    free_i, weakness_i = tl.load(free + 2 * own), tl.load(free + 2 * own + 1)
    q_i = tl.load(charges + i)
    alpha_i = tl.load(ratios + i) * free_i

    none = tl.zeros([BLOCK], real)
    e_d, by_q, by_mean = none, none, none
    g_x, g_y, g_z = none, none, none
    if STRAIN:
        xx, yy, zz, yz, xz, xy = none, none, none, none, none, none
    start = tl.zeros([], tl.int32)
    while start < n:
        j, there, x, y, z = edge(i, start, n, first, x_i, y_i, z_i, positions, box, index, shift, capacity,
                                 IMAGES, BLOCK)
        x, y, z = x.to(real), y.to(real), z.to(real)
        element = tl.load(numbers + j, mask=there, other=1)
        q_j = tl.load(charges + j, mask=there, other=0.0)
        free_j = tl.load(free + 2 * element, mask=there, other=1.0)
        weakness_j = tl.load(free + 2 * element + 1, mask=there, other=1.0)
        alpha_j = tl.load(ratios + j, mask=there, other=1.0) * free_j
        square = x * x + y * y + z * z
        if LIMITED:
            there = there & (square < LIMIT * LIMIT)
        square = tl.where(there, square, 1.0)
        inverse = tl.rsqrt(square)
        d = square * inverse

        value, slope = _damped(d, inverse, DAMPING, LIMIT, VALUE, SLOPE, ON, LIMITED)
        q_j = tl.where(there, K * q_j, 0.0)
        by_q += q_j * value
        pull = q_i * q_j * slope * inverse

        # beyond 1700 Å nothing is left of it, and r¹⁰ must not overflow
        bohr = tl.minimum(square * (1.0 / (BOHR * BOHR)), 1e7)
        alpha = tl.maximum(0.5 * (alpha_i + alpha_j), 1e-12)
        series, by_y, by_alpha = _drude(bohr, alpha, RADIUS, POWER, B0, B1, B2, B3)
        # C6 = 2 α_i α_j / (weakness_i + weakness_j): the ratios cancel in it; both divisions at once
        weakness = weakness_i + weakness_j
        both = 1.0 / (weakness * alpha)
        c6 = tl.where(there, (-2.0 * HARTREE) * alpha_j * alpha * both, 0.0)
        if LIMITED:
            kept, fall = switched((d - LIMIT) * (1.0 / WIDTH) + 1.0)
            pull += alpha_i * c6 * (kept * by_y * (2.0 / (BOHR * BOHR)) + series * fall * (1.0 / WIDTH) * inverse)
            c6 *= kept
        else:
            pull += alpha_i * c6 * by_y * (2.0 / (BOHR * BOHR))
        e_d += c6 * series
        by_mean += c6 * by_alpha * (weakness * both)

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
    tl.store(coulomb + i, 0.5 * q_i * potential)
    by_alpha_i = tl.sum(e_d, 0)
    tl.store(dispersion + i, 0.5 * alpha_i * by_alpha_i)
    # by α_i as a factor of C6, and as half of the mean
    tl.store(ratio_slope + i, free_i * (by_alpha_i + 0.5 * alpha_i * tl.sum(by_mean, 0)))
    store_vector(gradient, i, g_x, g_y, g_z)
    if STRAIN:
        store_strain(strain, i, xx, yy, zz, yz, xz, xy)
# fmt: on


def long_range_pairs(
    positions: Float[Tensor, "N 3"],
    cell: Float[Tensor, "B 3 3"],
    batch: Int[Tensor, "N"],
    long: NeighborMatrix | None,
    numbers: Int[Tensor, "N"],
    charges: Float[Tensor, "N"],
    ratios: Float[Tensor, "N"],
    tables: LongRangeTables,
    *,
    strain: bool,
) -> LongRange:
    """`damped_coulomb` and `qdo_dispersion` of every pair, and their derivatives.

    Args:
        positions: Å, float64.
        cell: Å, float64; not looked at without a matrix.
        long: rows within the long-range cutoff, where both terms have come to zero; None for all pairs of the same
            structure without a cutoff, none of them images.
        numbers: atomic numbers.
        charges: e, of the dtype of the tables, as the ratios.
        ratios: Hirshfeld ratios.
    """
    choices = long_range_constants(tables, math.inf if long is None else long.cutoff, strain=strain)
    rows, kind = rows_of(long, batch, len(cell))
    n = len(batch)
    sums = charges.new_empty(4, n)
    gradient = charges.new_empty(n, 3)
    strains = charges.new_empty(n, 9) if strain else None
    long_range_kernel[(n,)](
        positions=positions.contiguous(), cell=cell.contiguous(), batch=batch, numbers=numbers,
        charges=charges.contiguous(), ratios=ratios.contiguous(), free=tables.free, coulomb=sums[0],
        dispersion=sums[1], gradient=gradient, charge_slope=sums[2], ratio_slope=sums[3],
        strain=gradient if strains is None else strains, **rows, **choices, **kind, BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip
    return LongRange(sums[0], sums[1], gradient, sums[2], sums[3], strains)


def long_range_constants(tables: LongRangeTables, cutoff: float, *, strain: bool) -> dict[str, float | bool]:
    """Compile-time constants of `long_range_kernel`."""
    value = slope = 0.0
    limited = math.isfinite(cutoff)
    if limited:
        x = cutoff / tables.damping
        value = math.erf(x) / cutoff
        slope = (2.0 / (math.sqrt(math.pi) * tables.damping) * math.exp(-x * x) - value) / cutoff
    b0, b1, b2, b3 = _GAMMA_FIT
    return {
        "K": COULOMB, "DAMPING": tables.damping, "LIMIT": cutoff if limited else 0.0, "VALUE": value, "SLOPE": slope,
        "ON": SWITCH_ON, "WIDTH": tables.width, "RADIUS": tables.scale * 2.0 * _VDW_PREFACTOR, "POWER": _RADIUS_POWER,
        "B0": b0, "B1": b1, "B2": b2, "B3": b3, "BOHR": BOHR_2014, "HARTREE": HARTREE_2014, "LIMITED": limited,
        "STRAIN": strain,
    }  # fmt: skip
