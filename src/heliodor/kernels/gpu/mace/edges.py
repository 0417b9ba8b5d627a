"""What all layers of MACE share of an edge: its direction and length, harmonics, and the gradient by the positions.

Arrays of edges are rows of [N, C], one row an atom, filled from the left with `number` edges within the cutoff.
"""

from __future__ import annotations

import triton.language as tl

from heliodor.kernels.gpu.jit import jit

S3 = tl.constexpr(1.7320508075688772)
S5 = tl.constexpr(2.23606797749979)
S7 = tl.constexpr(2.6457513110645907)
S15 = tl.constexpr(3.872983346207417)
S105 = tl.constexpr(10.246950765959598)
S35_8 = tl.constexpr(2.091650066335189)
S21_8 = tl.constexpr(1.620185174601965)


@jit
def harmonics(x, y, z):  # type: ignore[no-untyped-def]
    """Harmonics of degrees 1..3 of a unit vector, |Y_l|² = 2l+1, polar axis y, in e3nn's order."""
    xx = x * x
    yy = y * y
    zz = z * z
    return (
        S3 * x,
        S3 * y,
        S3 * z,
        S15 * (x * z),
        S15 * (x * y),
        S5 * (yy - 0.5 * (xx + zz)),
        S15 * (y * z),
        0.5 * S15 * (zz - xx),
        S35_8 * (x * (3.0 * zz - xx)),
        S105 * (x * y * z),
        S21_8 * (x * (4.0 * yy - xx - zz)),
        0.5 * S7 * (y * (2.0 * yy - 3.0 * xx - 3.0 * zz)),
        S21_8 * (z * (4.0 * yy - xx - zz)),
        0.5 * S105 * (y * (zz - xx)),
        S35_8 * (z * (zz - 3.0 * xx)),
    )


@jit
def harmonics_pullback(x, y, z, d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15):  # type: ignore[no-untyped-def]
    """Σ_q d_q ∂Y_q/∂(x, y, z) of the polynomials in `harmonics`."""
    xx = x * x
    yy = y * y
    zz = z * z
    gx = S3 * d1 + S15 * (z * d4 + y * d5 - x * d8) - S5 * (x * d6)
    gy = S3 * d2 + S15 * (x * d5 + z * d7) + 2.0 * S5 * (y * d6)
    gz = S3 * d3 + S15 * (x * d4 + y * d7 + z * d8) - S5 * (z * d6)
    gx += 3.0 * S35_8 * ((zz - xx) * d9) + S105 * (y * z * d10) + S21_8 * ((4.0 * yy - 3.0 * xx - zz) * d11)
    gx -= x * (3.0 * S7 * (y * d12) + 2.0 * S21_8 * (z * d13) + S105 * (y * d14) + 6.0 * S35_8 * (z * d15))
    gy += S105 * (x * z * d10) + 8.0 * S21_8 * (y * (x * d11 + z * d13))
    gy += 1.5 * S7 * ((2.0 * yy - xx - zz) * d12) + 0.5 * S105 * ((zz - xx) * d14)
    gz += 6.0 * S35_8 * (x * z * d9) + S105 * (x * y * d10) - 2.0 * S21_8 * (x * z * d11)
    gz += S21_8 * ((4.0 * yy - xx - 3.0 * zz) * d13) - 3.0 * S7 * (y * z * d12)
    gz += S105 * (y * z * d14) + 3.0 * S35_8 * ((zz - xx) * d15)
    return gx, gy, gz


@jit
def edges(  # type: ignore[no-untyped-def]
    positions,
    cell,
    batch,
    species,
    index,
    shift,
    count,
    sender,
    kind,
    image,
    vector,
    number,
    capacity,
    CUTOFF: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Edges of atom i within the cutoff, side by side.

    Args:
        index, shift, count: of a `NeighborMatrix`; capacity its C.
        sender, kind, image: [N, C] written: the neighbour, its species, its packed translation.
        vector: [N, C, 4], written: direction from i to the neighbour, and distance, Å.
        number: [N], written.
    """
    i = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, WIDTH)
    listed = c < tl.minimum(tl.load(count + i), capacity)
    j = tl.load(index + i * capacity + c, mask=listed, other=0)
    packed = tl.load(shift + i * capacity + c, mask=listed, other=0)
    nx = ((packed & 1023) - 512).to(tl.float64)
    ny = (((packed >> 10) & 1023) - 512).to(tl.float64)
    nz = (((packed >> 20) & 1023) - 512).to(tl.float64)
    h = cell + tl.load(batch + i) * 9
    o = positions + i * 3
    s = positions + j.to(tl.int64) * 3
    # odd under exchange of the two atoms to the last bit, so that an edge and its partner are both in or both out
    x = (tl.load(s) - tl.load(o)).to(tl.float64) + (nx * tl.load(h) + ny * tl.load(h + 3) + nz * tl.load(h + 6))
    y = (tl.load(s + 1) - tl.load(o + 1)).to(tl.float64) + (
        nx * tl.load(h + 1) + ny * tl.load(h + 4) + nz * tl.load(h + 7)
    )
    z = (tl.load(s + 2) - tl.load(o + 2)).to(tl.float64) + (
        nx * tl.load(h + 2) + ny * tl.load(h + 5) + nz * tl.load(h + 8)
    )
    r = tl.sqrt(x * x + y * y + z * z)
    # what is not a number stays in: it must show
    far = r >= CUTOFF
    near = listed & (far == 0)
    place = tl.cumsum(near.to(tl.int32), 0) - 1
    at = i * capacity + place
    safe = tl.where(listed, r, 1.0)
    real = vector.dtype.element_ty
    tl.store(sender + at, j, mask=near)
    tl.store(kind + at, tl.load(species + j), mask=near)
    tl.store(image + at, packed, mask=near)
    tl.store(vector + at * 4, (x / safe).to(real), mask=near)
    tl.store(vector + at * 4 + 1, (y / safe).to(real), mask=near)
    tl.store(vector + at * 4 + 2, (z / safe).to(real), mask=near)
    tl.store(vector + at * 4 + 3, r.to(real), mask=near)
    tl.store(number + i, tl.sum(near.to(tl.int32), 0))


@jit
def collect(  # type: ignore[no-untyped-def]
    sender,
    image,
    vector,
    number,
    slopes,
    gradient,
    strain,
    n_atoms,
    capacity,
    PARTS: tl.constexpr,
    WIDTH: tl.constexpr,
    STRAIN: tl.constexpr,
):
    """Gradient by the position of atom i from those by vectors of edges, float64.

    The edge from i to j lies in row i, its partner from j to i in row j, where it is looked for: cheaper than to work
    out both directions twice, and without atomics.

    Args:
        slopes: [PARTS, N, C, 3] gradients by the vector of an edge, to be summed over the parts.
        gradient: [N, 3] written; strain [N, 9], Σ r_a ∂E/∂r_b over the row, written if STRAIN.
    """
    i = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, WIDTH)
    own = tl.load(number + i)
    here = c < own
    gx = tl.zeros([WIDTH], tl.float64)
    gy = tl.zeros([WIDTH], tl.float64)
    gz = tl.zeros([WIDTH], tl.float64)
    for part in tl.static_range(PARTS):
        at = slopes + ((part * n_atoms + i) * capacity + c) * 3
        gx -= tl.load(at, mask=here, other=0.0).to(tl.float64)
        gy -= tl.load(at + 1, mask=here, other=0.0).to(tl.float64)
        gz -= tl.load(at + 2, mask=here, other=0.0).to(tl.float64)
    if STRAIN:
        v = vector + (i * capacity + c) * 4
        r = tl.load(v + 3, mask=here, other=0.0).to(tl.float64)
        for a in tl.static_range(3):
            along = -r * tl.load(v + a, mask=here, other=0.0).to(tl.float64)
            tl.store(strain + i * 9 + 3 * a, tl.sum(along * gx, 0))
            tl.store(strain + i * 9 + 3 * a + 1, tl.sum(along * gy, 0))
            tl.store(strain + i * 9 + 3 * a + 2, tl.sum(along * gz, 0))
    for e in range(own):
        j = tl.load(sender + i * capacity + e).to(tl.int64)
        # a translation and its opposite add up to this, packed
        opposite = 1024 * (1 + 1024 + 1048576) - tl.load(image + i * capacity + e)
        row = j * capacity + c
        there = c < tl.load(number + j)
        found = tl.load(sender + row, mask=there, other=-1) == i
        found = found & (tl.load(image + row, mask=there, other=0) == opposite)
        for part in tl.static_range(PARTS):
            at = slopes + (part * n_atoms * capacity + row) * 3
            gx += tl.load(at, mask=found, other=0.0).to(tl.float64)
            gy += tl.load(at + 1, mask=found, other=0.0).to(tl.float64)
            gz += tl.load(at + 2, mask=found, other=0.0).to(tl.float64)
    tl.store(gradient + i * 3, tl.sum(gx, 0))
    tl.store(gradient + i * 3 + 1, tl.sum(gy, 0))
    tl.store(gradient + i * 3 + 2, tl.sum(gz, 0))
