"""D4's pairs: energies, and derivatives by distances, coordination numbers and charges."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton.language as tl

from heliodor.kernels.gpu.jit import jit
from heliodor.kernels.gpu.pairs.edges import edge, row, store_strain, store_vector


# fmt: off
@jit
def dispersion_kernel(positions, cell, batch, starts, index, shift, count, numbers, size, root, root_by_cn, root_by_q,
                      energy, gradient, by_cn, charge_slope, strain, capacity, n_atoms,
                      BOHR: tl.constexpr, HARTREE: tl.constexpr, S6: tl.constexpr, S8: tl.constexpr,
                      A1: tl.constexpr, A2: tl.constexpr, EDGE: tl.constexpr, LIMITED: tl.constexpr,
                      STRAIN: tl.constexpr, IMAGES: tl.constexpr, SEVERAL: tl.constexpr, WIDTH: tl.constexpr,
                      BLOCK: tl.constexpr):
    """One atom: its row of senders, block by block.

    C6 is the scalar product of two atoms' rows of ``root``. With F(r) = E/C6, the sum Σ_j F_ij root_j is all that
    the energy and the derivatives by the atom's own coordination and charge need.
    """
    real = root.dtype.element_ty
    i = tl.program_id(0).to(tl.int64)
    n, first, box = row(i, cell, batch, starts, count, n_atoms, IMAGES, SEVERAL)
    x_i, y_i, z_i = tl.load(positions + 3 * i), tl.load(positions + 3 * i + 1), tl.load(positions + 3 * i + 2)
    size_i = tl.load(size + tl.load(numbers + i))
    k = tl.arange(0, WIDTH)
    root_i = tl.load(root + i * WIDTH + k)

    field = tl.zeros([BLOCK, WIDTH], real)
    none = tl.zeros([BLOCK], real)
    g_x, g_y, g_z = none, none, none
    if STRAIN:
        xx, yy, zz, yz, xz, xy = none, none, none, none, none, none
    start = tl.zeros([], tl.int32)
    while start < n:
        j, there, x, y, z = edge(i, start, n, first, x_i, y_i, z_i, positions, box, index, shift, capacity,
                                 IMAGES, BLOCK)
        x, y, z = x.to(real), y.to(real), z.to(real)
        # a sender's row in one piece
        root_j = tl.load(root + j[:, None] * WIDTH + k[None, :])
        size_j = tl.load(size + tl.load(numbers + j, mask=there, other=1))
        square = x * x + y * y + z * z
        if LIMITED:
            there = there & (square < (EDGE * BOHR) * (EDGE * BOHR))
        square = tl.where(there, square, 1.0)
        # 10⁴ Å away nothing is left of it, and r⁸ must not overflow
        y2 = tl.minimum(square * (1.0 / (BOHR * BOHR)), 4e8)
        inverse = tl.rsqrt(y2)
        r = y2 * inverse
        y6 = y2 * y2 * y2
        radius = size_i * size_j
        r0 = A1 * radius + A2
        p2 = r0 * r0
        p6 = p2 * p2 * p2
        o6, o8 = 1.0 / (y6 + p6), 1.0 / (y6 * y2 + p6 * p2)
        # slopes by r, over r
        o6_slope, o8_slope = -6.0 * y2 * y2 * o6 * o6, -8.0 * y6 * o8 * o8
        if LIMITED:
            b6, b8 = 1.0 / (EDGE**6 + p6), 1.0 / (EDGE**8 + p6 * p2)
            fall6, fall8 = (6.0 * EDGE**6 * b6) * b6, (8.0 * EDGE**8 * b8) * b8
            before = r * (1.0 / EDGE) - 1.0
            o6 += fall6 * before - b6
            o8 += fall8 * before - b8
            o6_slope += fall6 * (1.0 / EDGE) * inverse
            o8_slope += fall8 * (1.0 / EDGE) * inverse
        weight8 = S8 * radius * radius
        f = tl.where(there, -HARTREE * (S6 * o6 + weight8 * o8), 0.0)
        f_slope = tl.where(there, (-HARTREE / (BOHR * BOHR)) * (S6 * o6_slope + weight8 * o8_slope), 0.0)
        field += f[:, None] * root_j
        pull = f_slope * tl.sum(root_i[None, :] * root_j, 1)
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
    felt = tl.sum(field, 0)
    tl.store(energy + i, 0.5 * tl.sum(felt * root_i, 0))
    tl.store(by_cn + i, tl.sum(felt * tl.load(root_by_cn + i * WIDTH + k), 0))
    tl.store(charge_slope + i, tl.sum(felt * tl.load(root_by_q + i * WIDTH + k), 0))
    store_vector(gradient, i, g_x, g_y, g_z)
    if STRAIN:
        store_strain(strain, i, xx, yy, zz, yz, xz, xy)
# fmt: on
