"""Edges within the cutoff, packed row by row once a step, and the harmonics that every pass over them needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.kernels.gpu.jit import jit
from heliodor.kernels.gpu.matrix import SHIFT_BITS, SHIFT_ZERO, NeighborMatrix
from heliodor.kernels.gpu.so3lr.layout import Layout
from heliodor.system import System

BLOCK = 32
"""Edges of a row packed at once."""
WARPS = 4

_BITS = tl.constexpr(SHIFT_BITS)
_ZERO = tl.constexpr(SHIFT_ZERO)
_Y00 = tl.constexpr(0.5 * math.sqrt(1 / math.pi))
_Y1 = tl.constexpr(math.sqrt(3 / (4 * math.pi)))
_Y2 = tl.constexpr(0.5 * math.sqrt(15 / math.pi))
_Y20 = tl.constexpr(0.25 * math.sqrt(5 / math.pi))
_Y33 = tl.constexpr(0.25 * math.sqrt(35 / (2 * math.pi)))
_Y32 = tl.constexpr(0.5 * math.sqrt(105 / math.pi))
_Y31 = tl.constexpr(0.25 * math.sqrt(21 / (2 * math.pi)))
_Y30 = tl.constexpr(0.25 * math.sqrt(7 / math.pi))
_Y44 = tl.constexpr(0.75 * math.sqrt(35 / math.pi))
_Y43 = tl.constexpr(0.75 * math.sqrt(35 / (2 * math.pi)))
_Y42 = tl.constexpr(0.75 * math.sqrt(5 / math.pi))
_Y41 = tl.constexpr(0.75 * math.sqrt(5 / (2 * math.pi)))
_Y40 = tl.constexpr(3 / 16 * math.sqrt(1 / math.pi))


@dataclass(frozen=True, eq=False)
class Edges:
    """Neighbours within the cutoff: those of the skin would cost each layer as much as others (45 % of a row at 1 Å).

    Attributes:
        index: senders; what stands beyond ``count`` was not written.
        vector: r = R_j - R_i + n @ cell, Å.
        count: edges of each atom.
        angular: harmonics of each edge's direction, in ev's components. They are worked out once and kept, 0.3 KB an
            edge: six passes read them faster than every thread of a tile could work them out again.
        lower: those of one degree less, which make their gradients.
    """

    index: Int[Tensor, "N C"]
    vector: Float[Tensor, "N 3 C"]
    count: Int[Tensor, "N"]
    angular: Float[Tensor, "N C M"]
    lower: Float[Tensor, "N C K"]


@jit
def put(tile, column, START: tl.constexpr, k: tl.constexpr, value):  # type: ignore[no-untyped-def]
    """Write a value into column START + k of a tile."""
    return tl.where((column == START + k)[None, :], value[:, None], tile)


@jit
def harmonics(  # type: ignore[no-untyped-def]
    x,
    y,
    z,
    COLUMNS: tl.constexpr,
    S0: tl.constexpr,
    S1: tl.constexpr,
    S2: tl.constexpr,
    S3: tl.constexpr,
    S4: tl.constexpr,
):
    """Real harmonics of unit vectors as a tile [E, COLUMNS]; degree l starts at column S_l, or is left out (-1)."""
    column = tl.arange(0, COLUMNS)
    tile = tl.zeros((x.shape[0], COLUMNS), tl.float32)
    xx = x * x
    yy = y * y
    zz = z * z
    if S0 >= 0:
        tile = put(tile, column, S0, 0, 0.0 * x + _Y00)
    if S1 >= 0:
        tile = put(tile, column, S1, 0, y * _Y1)
        tile = put(tile, column, S1, 1, z * _Y1)
        tile = put(tile, column, S1, 2, x * _Y1)
    if S2 >= 0:
        tile = put(tile, column, S2, 0, x * y * _Y2)
        tile = put(tile, column, S2, 1, y * z * _Y2)
        tile = put(tile, column, S2, 2, (3.0 * zz - 1.0) * _Y20)
        tile = put(tile, column, S2, 3, x * z * _Y2)
        tile = put(tile, column, S2, 4, (xx - yy) * (0.5 * _Y2))
    if S3 >= 0:
        tile = put(tile, column, S3, 0, y * (3.0 * xx - yy) * _Y33)
        tile = put(tile, column, S3, 1, x * y * z * _Y32)
        tile = put(tile, column, S3, 2, y * (5.0 * zz - 1.0) * _Y31)
        tile = put(tile, column, S3, 3, z * (5.0 * zz - 3.0) * _Y30)
        tile = put(tile, column, S3, 4, x * (5.0 * zz - 1.0) * _Y31)
        tile = put(tile, column, S3, 5, (xx - yy) * z * (0.5 * _Y32))
        tile = put(tile, column, S3, 6, x * (xx - 3.0 * yy) * _Y33)
    if S4 >= 0:
        tile = put(tile, column, S4, 0, x * y * (xx - yy) * _Y44)
        tile = put(tile, column, S4, 1, y * (3.0 * xx - yy) * z * _Y43)
        tile = put(tile, column, S4, 2, x * y * (7.0 * zz - 1.0) * _Y42)
        tile = put(tile, column, S4, 3, y * z * (7.0 * zz - 3.0) * _Y41)
        tile = put(tile, column, S4, 4, ((35.0 * zz - 30.0) * zz + 3.0) * _Y40)
        tile = put(tile, column, S4, 5, x * z * (7.0 * zz - 3.0) * _Y41)
        tile = put(tile, column, S4, 6, (xx - yy) * (7.0 * zz - 1.0) * (0.5 * _Y42))
        tile = put(tile, column, S4, 7, x * (xx - 3.0 * yy) * z * _Y43)
        tile = put(tile, column, S4, 8, (xx * (xx - 3.0 * yy) - yy * (3.0 * xx - yy)) * (0.25 * _Y44))
    return tile


@jit
def pack_edges(  # type: ignore[no-untyped-def]
    positions,
    cell,
    batch,
    index,
    shift,
    count,
    packed_index,
    packed_vector,
    packed_count,
    angular,
    lower,
    capacity,
    cutoff,
    M: tl.constexpr,
    S1: tl.constexpr,
    S2: tl.constexpr,
    S3: tl.constexpr,
    S4: tl.constexpr,
    LOW: tl.constexpr,
    L0: tl.constexpr,
    L1: tl.constexpr,
    L2: tl.constexpr,
    L3: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Keep an atom's edges below the cutoff, in their order; vectors are differences of float64 numbers."""
    i = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    xi = tl.load(positions + 3 * i)
    yi = tl.load(positions + 3 * i + 1)
    zi = tl.load(positions + 3 * i + 2)
    box = cell + 9 * tl.load(batch + i)
    xx = tl.load(box)
    xy = tl.load(box + 1)
    xz = tl.load(box + 2)
    yx = tl.load(box + 3)
    yy = tl.load(box + 4)
    yz = tl.load(box + 5)
    zx = tl.load(box + 6)
    zy = tl.load(box + 7)
    zz = tl.load(box + 8)
    n = tl.load(count + i)
    kept = 0
    for start in range(0, n, BLOCK):
        e = start + lanes
        there = e < n
        j = tl.load(index + i * capacity + e, mask=there, other=0).to(tl.int64)
        moved = tl.load(shift + i * capacity + e, mask=there, other=0)
        a = ((moved & (2 * _ZERO - 1)) - _ZERO).to(tl.float64)
        b = (((moved >> _BITS) & (2 * _ZERO - 1)) - _ZERO).to(tl.float64)
        c = (((moved >> (2 * _BITS)) & (2 * _ZERO - 1)) - _ZERO).to(tl.float64)
        rx = (tl.load(positions + 3 * j) - xi + (a * xx + b * yx + c * zx)).to(tl.float32)
        ry = (tl.load(positions + 3 * j + 1) - yi + (a * xy + b * yy + c * zy)).to(tl.float32)
        rz = (tl.load(positions + 3 * j + 2) - zi + (a * xz + b * yz + c * zz)).to(tl.float32)
        near = there & (rx * rx + ry * ry + rz * rz < cutoff * cutoff)
        place = kept + tl.cumsum(near.to(tl.int32), 0) - 1
        tl.store(packed_index + i * capacity + place, j.to(tl.int32), mask=near)
        row = packed_vector + i * 3 * capacity + place
        tl.store(row, rx, mask=near)
        tl.store(row + capacity, ry, mask=near)
        tl.store(row + 2 * capacity, rz, mask=near)
        inverse = 1.0 / tl.sqrt(tl.where(near, rx * rx + ry * ry + rz * rz, 1.0))
        ux = rx * inverse
        uy = ry * inverse
        uz = rz * inverse
        at = (i * capacity + place)[:, None]
        tile = harmonics(ux, uy, uz, M, -1, S1, S2, S3, S4)
        tl.store(angular + at * M + tl.arange(0, M)[None, :], tile, mask=near[:, None])
        tile = harmonics(ux, uy, uz, LOW, L0, L1, L2, L3, -1)
        tl.store(lower + at * LOW + tl.arange(0, LOW)[None, :], tile, mask=near[:, None])
        kept += tl.sum(near.to(tl.int32), 0)
    tl.store(packed_count + i, kept)


def edges_within(system: System, matrix: NeighborMatrix, cutoff: float, layout: Layout) -> Edges:
    """The list without its skin, at the present positions."""
    n, capacity = matrix.index.shape
    index = torch.empty_like(matrix.index)
    vector, angular, lower = (
        torch.empty(n, *shape, dtype=torch.float32, device=index.device)
        for shape in ((3, capacity), (capacity, layout.components), (capacity, layout.lower_components))
    )
    count = torch.empty_like(matrix.count)
    pack_edges[(n,)](
        system.positions, system.cell, system.batch, matrix.index, matrix.shift, matrix.count, index, vector, count,
        angular, lower, capacity, cutoff, **harmonic_constants(layout), BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip
    return Edges(index, vector, count, angular, lower)


def harmonic_constants(layout: Layout) -> dict[str, int]:
    """Compile-time constants of `pack_edges`."""
    return {
        "M": layout.components,
        **{f"S{degree}": layout.offsets[degree] for degree in range(1, 5)},
        "LOW": layout.lower_components,
        **{f"L{degree}": layout.lower[degree] for degree in range(4)},
    }
