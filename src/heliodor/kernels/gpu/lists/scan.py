"""The kernel of neighbour lists: one program an atom reads runs of atoms sorted by bin and keeps those in reach."""

# mypy: disable-error-code="import-untyped, no-untyped-def"

from __future__ import annotations

import triton.language as tl

from heliodor.kernels.gpu.jit import jit

BLOCKS = {False: (64, 1), True: (128, 2)}
"""Atoms looked at in one go and warps of a program: of short searches, of long ones."""


@jit
def scan_rows(
    atom,
    place,
    image,
    bin_of,
    first,
    frame,
    index,
    shift,
    count,
    wanted,
    n_atoms,
    capacity,
    nx,
    ny,
    nz,
    rx,
    ry,
    rz,
    OPEN_X: tl.constexpr,
    OPEN_Y: tl.constexpr,
    OPEN_Z: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """See `heliodor.kernels.gpu.lists.lists.build_list`; arrays over atoms are in the order of their bins."""
    me = tl.program_id(0)
    row = tl.load(atom + me)
    x = tl.load(place + me)
    y = tl.load(place + n_atoms + me)
    z = tl.load(place + 2 * n_atoms + me)
    # pack_shift(0) with this atom's own image: an edge's translation is search + own image - other image
    base = tl.load(image + me) + 512 + (512 << 10) + (512 << 20)
    key = tl.load(bin_of + me)
    bz = key % nz
    by = (key // nz) % ny
    bx = key // (nz * ny)
    b00 = tl.load(frame)
    b01 = tl.load(frame + 1)
    b02 = tl.load(frame + 2)
    b10 = tl.load(frame + 3)
    b11 = tl.load(frame + 4)
    b12 = tl.load(frame + 5)
    b20 = tl.load(frame + 6)
    b21 = tl.load(frame + 7)
    b22 = tl.load(frame + 8)
    # a float handed over by itself would be rounded to single precision
    squared = tl.load(frame + 9)
    lanes = tl.arange(0, BLOCK)
    start = row.to(tl.int64) * capacity
    found = 0
    # translations are counted from -reach, so that no negative number is divided
    if OPEN_Z:
        mz_first = rz
        mz_last = rz
    else:
        mz_first = (bz - rz + nz * rz) // nz
        mz_last = (bz + rz + nz * rz) // nz
    columns = (2 * rx + 1) * (2 * ry + 1)
    column = 0
    while column < columns:
        ax = bx + column // (2 * ry + 1) - rx
        ay = by + column % (2 * ry + 1) - ry
        seen = True
        if OPEN_X:
            mx = 0
            seen = seen & (ax >= 0) & (ax < nx)
        else:
            mx = (ax + nx * rx) // nx - rx
            ax = ax - mx * nx
        if OPEN_Y:
            my = 0
            seen = seen & (ay >= 0) & (ay < ny)
        else:
            my = (ay + ny * ry) // ny - ry
            ay = ay - my * ny
        if seen:
            head = (ax * ny + ay) * nz
            turn = mz_first
            while turn <= mz_last:
                mz = turn - rz
                low = tl.maximum(bz - rz - mz * nz, 0)
                high = tl.minimum(bz + rz - mz * nz, nz - 1)
                k = tl.load(first + head + low)
                end = tl.load(first + head + high + 1)
                # towards the image of the other atom from this one
                tx = mx * b00 + my * b10 + mz * b20 - x
                ty = mx * b01 + my * b11 + mz * b21 - y
                tz = mx * b02 + my * b12 + mz * b22 - z
                home = (mx == 0) & (my == 0) & (mz == 0)
                packed = base + mx + my * 1024 + mz * 1048576
                while k < end:
                    other = k + lanes
                    there = other < end
                    dx = tl.load(place + other, mask=there, other=0.0) + tx
                    dy = tl.load(place + n_atoms + other, mask=there, other=0.0) + ty
                    dz = tl.load(place + 2 * n_atoms + other, mask=there, other=0.0) + tz
                    near = there & (dx * dx + dy * dy + dz * dz <= squared)
                    near = near & ((other != me) | (not home))
                    one = near.to(tl.int32)
                    at = found + tl.cumsum(one, 0) - 1
                    keep = near & (at < capacity)
                    tl.store(index + start + at, tl.load(atom + other, mask=keep, other=0), mask=keep)
                    theirs = tl.load(image + other, mask=keep, other=0)
                    tl.store(shift + start + at, packed - theirs, mask=keep)
                    found += tl.sum(one, 0)
                    k += BLOCK
                turn += 1
        column += 1
    tl.store(wanted + row, found)
    tl.store(count + row, tl.minimum(found, capacity))
