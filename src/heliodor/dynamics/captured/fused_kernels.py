"""The steps of `heliodor.dynamics.captured.fused`: one pass over the atoms each, sums by blocks in a fixed order."""

# mypy: disable-error-code="import-untyped, no-untyped-def"

from __future__ import annotations

import triton.language as tl

from heliodor.kernels.gpu.jit import jit


@jit
def gathered(partial, row, blocks, LANES: tl.constexpr):
    """Sum of one row of partial sums, the same in every program."""
    lanes = tl.arange(0, LANES)
    total = tl.zeros([LANES], tl.float64)
    k = 0
    while k < blocks:
        total += tl.load(partial + row * blocks + k + lanes, mask=k + lanes < blocks, other=0.0)
        k += LANES
    return tl.sum(total, 0)


@jit
def largest(partial, blocks, LANES: tl.constexpr):
    """The largest of a row of numbers."""
    lanes = tl.arange(0, LANES)
    most = tl.zeros([LANES], tl.float64)
    k = 0
    while k < blocks:
        most = tl.maximum(most, tl.load(partial + k + lanes, mask=k + lanes < blocks, other=0.0))
        k += LANES
    return tl.max(most, 0)


@jit
def gauss(atom, step, key, STREAM: tl.constexpr, BLOCK: tl.constexpr):
    """Three normal numbers an atom: `heliodor.dynamics.captured.philox.normals`."""
    ahead = tl.load(step)
    seed = (tl.load(key + 1).to(tl.uint64) << 32) | tl.load(key).to(tl.uint64)
    c0 = atom.to(tl.uint32)
    c1 = tl.zeros([BLOCK], tl.uint32) + (ahead & 0xFFFFFFFF).to(tl.uint32)
    c2 = tl.zeros([BLOCK], tl.uint32) + (ahead >> 32).to(tl.uint32)
    c3 = tl.zeros([BLOCK], tl.uint32) + STREAM
    a, b, c, d = tl.philox(seed, c0, c1, c2, c3)
    # written as tensors: constants in a kernel are of single precision
    scale = tl.full([BLOCK], 2.3283064365386963e-10, tl.float64)
    half = tl.full([BLOCK], 0.5, tl.float64)
    turn = tl.full([BLOCK], 6.283185307179586, tl.float64)
    minus = tl.full([BLOCK], -2.0, tl.float64)
    first = tl.sqrt(minus * tl.log((a.to(tl.float64) + half) * scale))
    angle = turn * ((b.to(tl.float64) + half) * scale)
    second = tl.sqrt(minus * tl.log((c.to(tl.float64) + half) * scale))
    other = turn * ((d.to(tl.float64) + half) * scale)
    return first * tl.cos(angle), first * tl.sin(angle), second * tl.cos(other)


@jit
def distance(at, x, y, z, then, there):
    """Largest squared distance from where the lists were made; infinite where a position is not a number."""
    dx = x - tl.load(then + at, mask=there, other=0.0)
    dy = y - tl.load(then + at + 1, mask=there, other=0.0)
    dz = z - tl.load(then + at + 2, mask=there, other=0.0)
    d2 = dx * dx + dy * dy + dz * dz
    d2 = tl.where(d2 == d2, d2, float("inf"))
    return tl.max(tl.where(there, d2, 0.0), 0)


@jit
def push(
    place,
    velocity,
    force,
    mass,
    inverse,
    then,
    kelvin,
    numbers,
    step,
    key,
    new_place,
    new_velocity,
    partial,
    n_atoms,
    LANGEVIN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Half kick; then half drift, friction and noise, or the whole drift. Partial sums: see `fused`."""
    block = tl.program_id(0)
    blocks = tl.num_programs(0)
    atom = block * BLOCK + tl.arange(0, BLOCK)
    there = atom < n_atoms
    at = 3 * atom
    inv = tl.load(inverse + atom, mask=there, other=0.0)
    gain = tl.load(numbers) * inv
    vx = tl.load(velocity + at, mask=there, other=0.0) + tl.load(force + at, mask=there, other=0.0) * gain
    vy = tl.load(velocity + at + 1, mask=there, other=0.0) + tl.load(force + at + 1, mask=there, other=0.0) * gain
    vz = tl.load(velocity + at + 2, mask=there, other=0.0) + tl.load(force + at + 2, mask=there, other=0.0) * gain
    drift = tl.load(numbers + 1)
    x = tl.load(place + at, mask=there, other=0.0) + drift * vx
    y = tl.load(place + at + 1, mask=there, other=0.0) + drift * vy
    z = tl.load(place + at + 2, mask=there, other=0.0) + drift * vz
    if LANGEVIN:
        m = tl.load(mass + atom, mask=there, other=0.0)
        tl.store(partial + block, tl.sum(m * (vx * vx + vy * vy + vz * vz), 0))
        keep = tl.load(numbers + 2)
        width = tl.sqrt(tl.load(numbers + 3) * tl.load(kelvin) * inv)
        gx, gy, gz = gauss(atom, step, key, 0, BLOCK)
        vx = keep * vx + gx * width
        vy = keep * vy + gy * width
        vz = keep * vz + gz * width
        tl.store(partial + blocks + block, tl.sum(m * vx, 0))
        tl.store(partial + 2 * blocks + block, tl.sum(m * vy, 0))
        tl.store(partial + 3 * blocks + block, tl.sum(m * vz, 0))
    else:
        tl.store(partial + block, distance(at, x, y, z, then, there))
    tl.store(new_place + at, x, mask=there)
    tl.store(new_place + at + 1, y, mask=there)
    tl.store(new_place + at + 2, z, mask=there)
    tl.store(new_velocity + at, vx, mask=there)
    tl.store(new_velocity + at + 1, vy, mask=there)
    tl.store(new_velocity + at + 2, vz, mask=there)


@jit
def settle(
    place,
    velocity,
    mass,
    then,
    numbers,
    partial,
    moved,
    energy,
    n_atoms,
    CENTER: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """In place: the motion of the centre of mass is taken out, and the second half of the drift."""
    block = tl.program_id(0)
    blocks = tl.num_programs(0)
    atom = block * BLOCK + tl.arange(0, BLOCK)
    there = atom < n_atoms
    at = 3 * atom
    vx = tl.load(velocity + at, mask=there, other=0.0)
    vy = tl.load(velocity + at + 1, mask=there, other=0.0)
    vz = tl.load(velocity + at + 2, mask=there, other=0.0)
    if CENTER:
        total = tl.load(numbers + 4)
        vx -= gathered(partial, 1, blocks, LANES) / total
        vy -= gathered(partial, 2, blocks, LANES) / total
        vz -= gathered(partial, 3, blocks, LANES) / total
    m = tl.load(mass + atom, mask=there, other=0.0)
    tl.store(energy + block, tl.sum(m * (vx * vx + vy * vy + vz * vz), 0))
    drift = tl.load(numbers + 1)
    x = tl.load(place + at, mask=there, other=0.0) + drift * vx
    y = tl.load(place + at + 1, mask=there, other=0.0) + drift * vy
    z = tl.load(place + at + 2, mask=there, other=0.0) + drift * vz
    tl.store(moved + block, distance(at, x, y, z, then, there))
    tl.store(place + at, x, mask=there)
    tl.store(place + at + 1, y, mask=there)
    tl.store(place + at + 2, z, mask=there)
    tl.store(velocity + at, vx, mask=there)
    tl.store(velocity + at + 1, vy, mask=there)
    tl.store(velocity + at + 2, vz, mask=there)


@jit
def kick(
    velocity,
    force,
    mass,
    inverse,
    numbers,
    free,
    bath,
    step,
    key,
    before,
    after,
    moved,
    new_velocity,
    sums,
    new_bath,
    new_step,
    furthest,
    n_atoms,
    LANGEVIN: tl.constexpr,
    RESCALED: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The second half kick; the first program keeps the books of what came before."""
    block = tl.program_id(0)
    blocks = tl.num_programs(0)
    atom = block * BLOCK + tl.arange(0, BLOCK)
    there = atom < n_atoms
    at = 3 * atom
    gain = tl.load(numbers) * tl.load(inverse + atom, mask=there, other=0.0)
    vx = tl.load(velocity + at, mask=there, other=0.0) + tl.load(force + at, mask=there, other=0.0) * gain
    vy = tl.load(velocity + at + 1, mask=there, other=0.0) + tl.load(force + at + 1, mask=there, other=0.0) * gain
    vz = tl.load(velocity + at + 2, mask=there, other=0.0) + tl.load(force + at + 2, mask=there, other=0.0) * gain
    tl.store(new_velocity + at, vx, mask=there)
    tl.store(new_velocity + at + 1, vy, mask=there)
    tl.store(new_velocity + at + 2, vz, mask=there)
    if RESCALED:
        m = tl.load(mass + atom, mask=there, other=0.0)
        tl.store(sums + block, tl.sum(m * (vx * vx + vy * vy + vz * vz), 0))
        gx, gy, gz = gauss(atom, step, key, 1, BLOCK)
        # as many squares as there are degrees of freedom but one
        some = tl.load(free) - 1.0
        squares = tl.where(at < some, gx * gx, 0.0) + tl.where(at + 1 < some, gy * gy, 0.0)
        squares += tl.where(at + 2 < some, gz * gz, 0.0)
        tl.store(sums + blocks + block, tl.sum(squares, 0))
        # the one left over is the last atom's last
        tl.store(sums + 2 * blocks + block, tl.sum(tl.where(atom == n_atoms - 1, gz, 0.0), 0))
    if block == 0:
        tl.store(furthest, largest(moved, blocks, LANES))
        tl.store(new_step, tl.load(step) + 1)
        told = tl.load(bath)
        if LANGEVIN:
            gone = gathered(before, 0, blocks, LANES) - gathered(after, 0, blocks, LANES)
            told += tl.load(numbers + 5) * gone
        tl.store(new_bath, told)


@jit
def rescale(
    velocity,
    numbers,
    kelvin,
    free,
    sums,
    bath,
    n_atoms,
    LANES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """In place: all velocities times the factor of stochastic velocity rescaling."""
    block = tl.program_id(0)
    blocks = tl.num_programs(0)
    atom = block * BLOCK + tl.arange(0, BLOCK)
    there = atom < n_atoms
    at = 3 * atom
    now = tl.load(numbers + 5) * gathered(sums, 0, blocks, LANES)
    others = gathered(sums, 1, blocks, LANES)
    one = gathered(sums, 2, blocks, LANES)
    keep = tl.load(numbers + 2)
    rest = tl.load(numbers + 3)
    ratio = tl.load(numbers + 6) * tl.load(kelvin) / tl.where(now > 0, now, 1.0)
    mixed = tl.sqrt(keep * rest * ratio)
    squared = keep + rest * ratio * (others + one * one) + 2.0 * one * mixed
    factor = tl.sqrt(tl.maximum(squared, 0.0))
    factor = tl.where(one * mixed + keep < 0.0, -factor, factor)
    factor = tl.where((tl.load(free) > 0) & (now > 0), factor, 1.0)
    for c in tl.static_range(3):
        v = tl.load(velocity + at + c, mask=there, other=0.0)
        tl.store(velocity + at + c, factor * v, mask=there)
    if block == 0:
        tl.store(bath, tl.load(bath) + now - now * factor * factor)
