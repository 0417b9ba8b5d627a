"""What SO3krates does to each atom by itself: projections to queries, keys, values; the update between two passes."""

from __future__ import annotations

import triton.language as tl

from heliodor.kernels.gpu.jit import jit
from heliodor.kernels.gpu.so3lr.filters import matrix, sigmoid, silu_slope


@jit
def tile(start, rows, there, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows of an array [N, COLUMNS]; zeros beyond its end."""
    at = rows[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    return tl.load(start + at, mask=there[:, None], other=0.0)


@jit
def write(start, rows, there, value, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """The reverse of `tile`."""
    at = rows[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    tl.store(start + at, value, mask=there[:, None])


@jit
def vector(start, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """A bias or the like as a row."""
    return tl.load(start + tl.arange(0, COLUMNS))[None, :]


@jit
def product(  # type: ignore[no-untyped-def]
    out,
    x,
    rows,
    there,
    weight,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    BACK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Rows of x [N, IN] in memory times a weight [IN, OUT] (BACK: [OUT, IN], transposed), added to out.

    Piece by piece: a whole weight would take all registers of a program.
    """
    PIECE: tl.constexpr = 32 if IN > 32 else IN
    k = tl.arange(0, PIECE)
    n = tl.arange(0, OUT)
    for start in range(0, IN, PIECE):
        value = tl.load(x + rows[:, None] * IN + (start + k)[None, :], mask=there[:, None], other=0.0)
        if BACK:
            part = tl.load(weight + n[None, :] * IN + (start + k)[:, None])
        else:
            part = tl.load(weight + (start + k)[:, None] * OUT + n[None, :])
        out = tl.dot(value, part, acc=out, input_precision=PRECISION)
    return out


@jit
def project(  # type: ignore[no-untyped-def]
    x,
    columns,
    weight,
    target,
    width,
    projected,
    n_atoms,
    F: tl.constexpr,
    ROW: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One block of the block-diagonal maps: some columns of x through a matrix to a piece of ``projected``."""
    block = tl.program_id(1)
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = rows < n_atoms
    c = tl.arange(0, WIDTH)
    column = tl.load(columns + block * WIDTH + c)
    value = tl.load(x + rows[:, None] * F + column[None, :], mask=there[:, None] & (column >= 0)[None, :], other=0.0)
    out = tl.dot(value, matrix(weight + block * WIDTH * WIDTH, WIDTH, WIDTH), input_precision=PRECISION)
    at = rows[:, None] * ROW + (tl.load(target + block) + c)[None, :]
    tl.store(projected + at, out, mask=there[:, None] & (c < tl.load(width + block))[None, :])


@jit
def project_back(  # type: ignore[no-untyped-def]
    projected_pull,
    columns,
    weight,
    target,
    width,
    first,
    parts,
    branch,
    x_pull,
    n_atoms,
    F: tl.constexpr,
    ROW: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Derivatives by x of a head or degree from those of its q, k (and v): to x_pull [2, N, F], one for each branch."""
    group = tl.program_id(1)
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = rows < n_atoms
    c = tl.arange(0, WIDTH)
    start = tl.load(first + group)
    out = tl.zeros((BLOCK, WIDTH), tl.float32)
    for block in range(start, start + tl.load(parts + group)):
        at = rows[:, None] * ROW + (tl.load(target + block) + c)[None, :]
        pull = tl.load(projected_pull + at, mask=there[:, None] & (c < tl.load(width + block))[None, :], other=0.0)
        back = tl.trans(matrix(weight + block * WIDTH * WIDTH, WIDTH, WIDTH))
        out = tl.dot(pull, back, acc=out, input_precision=PRECISION)
    column = tl.load(columns + start * WIDTH + c)
    place = x_pull + (tl.load(branch + group) * n_atoms + rows)[:, None] * F + column[None, :]
    tl.store(place, out, mask=there[:, None] & (column >= 0)[None, :])


@jit
def normalised(x, used, n_features):  # type: ignore[no-untyped-def]
    """Rows with mean 0 and variance 1 over the features in use, and the inverse of what they were divided by."""
    middle = tl.sum(x, axis=1)[:, None] / n_features
    centred = (x - middle) * used
    inverse = tl.rsqrt(tl.sum(centred * centred, axis=1) / n_features + 1e-6)[:, None]
    return centred * inverse, inverse


@jit
def normalised_back(pull, x, used, n_features):  # type: ignore[no-untyped-def]
    """Derivatives by x of Σ pull normalised(x)."""
    unit, inverse = normalised(x, used, n_features)
    along = tl.sum(pull * unit, axis=1)[:, None] / n_features
    middle = tl.sum(pull * used, axis=1)[:, None] / n_features
    return (pull - middle - unit * along) * used * inverse


@jit
def update(  # type: ignore[no-untyped-def]
    x,
    x_update,
    ev,
    ev_update,
    used,
    gain_1,
    shift_1,
    gain_2,
    shift_2,
    inner,
    inner_bias,
    outer,
    outer_bias,
    x_x,
    ev_x,
    x_bias,
    x_ev,
    ev_ev,
    ev_bias,
    sum_out,
    hidden_out,
    before_out,
    x_out,
    ev_sum_out,
    scale_out,
    ev_out,
    n_atoms,
    n_features,
    F: tl.constexpr,
    M: tl.constexpr,
    FIRST: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Norm, residual network, exchange of x and ev, norm; keeps what the way back needs.

    ev goes into the exchange through its invariants, Σ_m ev²: their sums are in the weights, which act on squares of
    components. In the LAST layer nobody reads ev afterwards; in the FIRST it is zero before.
    """
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = rows < n_atoms
    use = vector(used, F)
    h = tile(x, rows, there, F) + tile(x_update, rows, there, F)
    write(sum_out, rows, there, h, F)
    y, _ = normalised(h, use, n_features)
    y = y * vector(gain_1, F) + vector(shift_1, F)
    # left factors of products pass through what is written last: other threads of the program read them
    write(x_out, rows, there, y * sigmoid(y), F)
    tl.debug_barrier()
    z = product(
        tl.zeros((BLOCK, F), tl.float32) + vector(inner_bias, F), x_out, rows, there, inner, F, F, False, PRECISION
    )
    write(hidden_out, rows, there, z, F)
    write(before_out, rows, there, z * sigmoid(z), F)
    tl.debug_barrier()
    y = product(y + vector(outer_bias, F), before_out, rows, there, outer, F, F, False, PRECISION)
    write(x_out, rows, there, y, F)
    tl.debug_barrier()

    e = tile(ev_update, rows, there, M)
    if not FIRST:
        e += tile(ev, rows, there, M)
    write(ev_sum_out, rows, there, e, M)
    square = e * e
    if not LAST:
        scale = tl.dot(square, matrix(ev_ev, M, M), input_precision=PRECISION) + vector(ev_bias, M)
        scale = product(scale, x_out, rows, there, x_ev, F, M, False, PRECISION)
        write(scale_out, rows, there, scale, M)
        write(ev_out, rows, there, e + scale * e, M)
    after = product(y + vector(x_bias, F), x_out, rows, there, x_x, F, F, False, PRECISION)
    after = tl.dot(square, matrix(ev_x, M, F), acc=after, input_precision=PRECISION)
    tl.debug_barrier()
    write(before_out, rows, there, after, F)
    y, _ = normalised(after, use, n_features)
    write(x_out, rows, there, y * vector(gain_2, F) + vector(shift_2, F), F)


@jit
def update_back(  # type: ignore[no-untyped-def]
    x_pull,
    by_projection,
    ev_pull,
    ev_between_pull,
    used,
    gain_1,
    shift_1,
    gain_2,
    inner,
    outer,
    x_x,
    ev_x,
    x_ev,
    ev_ev,
    sum_kept,
    hidden_kept,
    before_kept,
    ev_sum_kept,
    scale_kept,
    sum_pull,
    ev_sum_pull,
    n_atoms,
    n_features,
    F: tl.constexpr,
    M: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Derivatives by x plus its update and by ev plus its update, from those by what `update` made.

    Of all but the LAST layer the derivative by x comes in three parts: past the next layer's attention, and through
    each branch of its projections; that by ev in two.
    """
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = rows < n_atoms
    use = vector(used, F)
    pull = tile(x_pull, rows, there, F)
    if not LAST:
        pull += tile(by_projection, rows, there, F)
        pull += tile(by_projection, rows + n_atoms, there, F)
    after = normalised_back(pull * vector(gain_2, F), tile(before_kept, rows, there, F), use, n_features)
    # as in `update`: left factors pass through what is written last
    write(sum_pull, rows, there, after, F)
    tl.debug_barrier()
    e = tile(ev_sum_kept, rows, there, M)
    by_y = product(after, sum_pull, rows, there, x_x, F, F, True, PRECISION)
    by_square = product(tl.zeros((BLOCK, M), tl.float32), sum_pull, rows, there, ev_x, F, M, True, PRECISION)
    if LAST:
        by_e = 2.0 * e * by_square
    else:
        ev_after = tile(ev_pull, rows, there, M) + tile(ev_between_pull, rows, there, M)
        by_scale = ev_after * e
        by_y = tl.dot(by_scale, tl.trans(matrix(x_ev, F, M)), acc=by_y, input_precision=PRECISION)
        by_square = tl.dot(by_scale, tl.trans(matrix(ev_ev, M, M)), acc=by_square, input_precision=PRECISION)
        by_e = ev_after * (1.0 + tile(scale_kept, rows, there, M)) + 2.0 * e * by_square
    tl.debug_barrier()
    write(ev_sum_pull, rows, there, by_e, M)

    write(sum_pull, rows, there, by_y, F)
    tl.debug_barrier()
    by_z = product(tl.zeros((BLOCK, F), tl.float32), sum_pull, rows, there, outer, F, F, True, PRECISION)
    by_z *= silu_slope(tile(hidden_kept, rows, there, F))
    tl.debug_barrier()
    write(sum_pull, rows, there, by_z, F)
    tl.debug_barrier()
    back = product(tl.zeros((BLOCK, F), tl.float32), sum_pull, rows, there, inner, F, F, True, PRECISION)
    h = tile(sum_kept, rows, there, F)
    y, _ = normalised(h, use, n_features)
    y = y * vector(gain_1, F) + vector(shift_1, F)
    by_y += back * silu_slope(y)
    tl.debug_barrier()
    write(sum_pull, rows, there, normalised_back(by_y * vector(gain_1, F), h, use, n_features), F)
