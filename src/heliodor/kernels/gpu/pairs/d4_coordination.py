"""D4's coordination numbers, the polarizabilities that follow from them, and forces through both."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton.language as tl

from heliodor.kernels.gpu.jit import jit
from heliodor.kernels.gpu.pairs.edges import edge, row, store_strain, store_vector, switched

N_REFERENCES = 8
"""Reference systems of an element, padded from 7."""


# fmt: off
@jit
def _contact(square, radius_i, en_i, radius_j, en_j, BOHR: tl.constexpr, EDGE: tl.constexpr,
             HEIGHT: tl.constexpr, K5: tl.constexpr, K6: tl.constexpr, STEEP: tl.constexpr, SWITCHED: tl.constexpr):
    """A neighbour's part in the coordination number, and its slope by the distance (Å) over the distance."""
    inverse = tl.rsqrt(square)
    d = square * inverse
    r0 = radius_i + radius_j
    unlike = tl.abs(en_i - en_j) + K5
    height = HEIGHT * tl.exp(unlike * unlike * (-1.0 / K6))
    x = (STEEP / BOHR) * d / r0 - STEEP
    count = height * (1.0 - tl.erf(x))
    slope = (-1.1283791670955126 * STEEP / BOHR) * height / r0 * tl.exp(-x * x)
    if SWITCHED:
        # Bohr by Bohr: as trained
        kept, fall = switched((d - EDGE) * (1.0 / (BOHR * BOHR)) + 1.0)
        slope = slope * kept + count * fall * (1.0 / (BOHR * BOHR))
        count *= kept
    return count, slope * inverse


@jit
def polarizability_kernel(positions, cell, batch, starts, index, shift, count, numbers, charges, radii, en,
                          cn_ref, n_gauss, fallback, reference_charge, zeff, hardness, references,
                          root, root_by_cn, root_by_q, capacity, n_atoms,
                          BOHR: tl.constexpr, LIMIT: tl.constexpr, EDGE: tl.constexpr, HEIGHT: tl.constexpr,
                          K5: tl.constexpr, K6: tl.constexpr, STEEP: tl.constexpr, WEIGHT: tl.constexpr,
                          EXPONENT: tl.constexpr, HARDNESS: tl.constexpr, EMPTY: tl.constexpr,
                          SWITCHED: tl.constexpr, LIMITED: tl.constexpr, IMAGES: tl.constexpr,
                          SEVERAL: tl.constexpr, N_REFERENCES: tl.constexpr, WIDTH: tl.constexpr,
                          BLOCK: tl.constexpr):
    """One atom: how it is coordinated, how much of each reference it is, what its polarizability is."""
    real = charges.dtype.element_ty
    i = tl.program_id(0).to(tl.int64)
    n, first, box = row(i, cell, batch, starts, count, n_atoms, IMAGES, SEVERAL)
    x_i, y_i, z_i = tl.load(positions + 3 * i), tl.load(positions + 3 * i + 1), tl.load(positions + 3 * i + 2)
    own = tl.load(numbers + i)
    radius_i, en_i = tl.load(radii + own), tl.load(en + own)
    total = tl.zeros([BLOCK], real)
    start = tl.zeros([], tl.int32)
    while start < n:
        j, there, x, y, z = edge(i, start, n, first, x_i, y_i, z_i, positions, box, index, shift, capacity,
                                 IMAGES, BLOCK)
        x, y, z = x.to(real), y.to(real), z.to(real)
        element = tl.load(numbers + j, mask=there, other=1)
        square = x * x + y * y + z * z
        if LIMITED:
            there = there & (square < LIMIT * LIMIT)
        square = tl.where(there, square, 1.0)
        part, _ = _contact(square, radius_i, en_i, tl.load(radii + element), tl.load(en + element),
                           BOHR, EDGE, HEIGHT, K5, K6, STEEP, SWITCHED)
        total += tl.where(there, part, 0.0)
        start += BLOCK
    cn = tl.sum(total, 0)

    place = own * N_REFERENCES + tl.arange(0, N_REFERENCES)
    apart = cn - tl.load(cn_ref + place)
    used = tl.load(n_gauss + place)
    gauss = tl.zeros([N_REFERENCES], real)
    gauss_slope = gauss
    for order in tl.static_range(1, 4):
        term = tl.where(used >= order, tl.exp((-WEIGHT * order) * apart * apart), 0.0)
        gauss += term
        gauss_slope += (-2.0 * WEIGHT * order) * apart * term
    norm, norm_slope = tl.sum(gauss, 0), tl.sum(gauss_slope, 0)
    known = norm > EMPTY
    inverse_norm = 1.0 / tl.where(known, norm, 1.0)
    weight = gauss * inverse_norm
    weight_slope = tl.where(known, (gauss_slope - weight * norm_slope) * inverse_norm, 0.0)
    weight = tl.where(known, weight, tl.load(fallback + place))

    actual = tl.load(zeff + own) + tl.load(charges + i)
    positive = actual > EMPTY
    inverse = 1.0 / tl.where(positive, actual, 1.0)
    ratio = tl.load(reference_charge + place) * inverse
    steep = HARDNESS * tl.load(hardness + own)
    inner = tl.where(positive, tl.exp(steep * (1.0 - ratio)), 0.0)
    factor = tl.exp(EXPONENT * (1.0 - inner))
    factor_slope = factor * (-EXPONENT * steep) * inner * ratio * inverse

    k = tl.arange(0, WIDTH)
    table = tl.load(references + place[:, None] * WIDTH + k[None, :])
    out = i * WIDTH + k
    tl.store(root + out, tl.sum((weight * factor)[:, None] * table, 0))
    tl.store(root_by_cn + out, tl.sum((weight_slope * factor)[:, None] * table, 0))
    tl.store(root_by_q + out, tl.sum((weight * factor_slope)[:, None] * table, 0))


@jit
def spread_kernel(positions, cell, batch, starts, index, shift, count, numbers, radii, en, by_cn,
                  gradient, strain, capacity, n_atoms,
                  BOHR: tl.constexpr, LIMIT: tl.constexpr, EDGE: tl.constexpr, HEIGHT: tl.constexpr,
                  K5: tl.constexpr, K6: tl.constexpr, STEEP: tl.constexpr, SWITCHED: tl.constexpr,
                  LIMITED: tl.constexpr, STRAIN: tl.constexpr, IMAGES: tl.constexpr, SEVERAL: tl.constexpr,
                  BLOCK: tl.constexpr):
    """One atom: what moving it does to its own and its neighbours' coordination; added to gradient and strain."""
    real = by_cn.dtype.element_ty
    i = tl.program_id(0).to(tl.int64)
    n, first, box = row(i, cell, batch, starts, count, n_atoms, IMAGES, SEVERAL)
    x_i, y_i, z_i = tl.load(positions + 3 * i), tl.load(positions + 3 * i + 1), tl.load(positions + 3 * i + 2)
    own = tl.load(numbers + i)
    radius_i, en_i, by_i = tl.load(radii + own), tl.load(en + own), tl.load(by_cn + i)
    none = tl.zeros([BLOCK], real)
    g_x, g_y, g_z = none, none, none
    if STRAIN:
        xx, yy, zz, yz, xz, xy = none, none, none, none, none, none
    start = tl.zeros([], tl.int32)
    while start < n:
        j, there, x, y, z = edge(i, start, n, first, x_i, y_i, z_i, positions, box, index, shift, capacity,
                                 IMAGES, BLOCK)
        x, y, z = x.to(real), y.to(real), z.to(real)
        element = tl.load(numbers + j, mask=there, other=1)
        by_j = tl.load(by_cn + j, mask=there, other=0.0)
        square = x * x + y * y + z * z
        if LIMITED:
            there = there & (square < LIMIT * LIMIT)
        square = tl.where(there, square, 1.0)
        _, slope = _contact(square, radius_i, en_i, tl.load(radii + element), tl.load(en + element),
                            BOHR, EDGE, HEIGHT, K5, K6, STEEP, SWITCHED)
        pull = tl.where(there, (by_i + by_j) * slope, 0.0)
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
    store_vector(gradient, i, g_x, g_y, g_z, True)
    if STRAIN:
        store_strain(strain, i, xx, yy, zz, yz, xz, xy, True)
# fmt: on
