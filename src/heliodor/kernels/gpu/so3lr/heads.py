"""Energy, raw charge and Hirshfeld ratio of each atom from its last features, there and back; sums over structures."""

from __future__ import annotations

import torch
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.kernels.gpu.jit import jit
from heliodor.kernels.gpu.so3lr.filters import sigmoid, silu_slope
from heliodor.kernels.gpu.so3lr.nodes import product, vector, write


@jit
def read_out(  # type: ignore[no-untyped-def]
    x,
    numbers,
    energy_inner,
    energy_bias,
    energy_outer,
    charge_inner,
    charge_bias,
    charge_outer,
    ratio_inner,
    ratio_bias,
    ratio_outer,
    of_element,
    energy,
    charge,
    ratio,
    n_atoms,
    F: tl.constexpr,
    HIDDEN: tl.constexpr,
    RATIO: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """[N] each. ``of_element`` [Z, 4]: scale and offset of energies, offset of charges, of ratios; ``ratio_outer``
    [Z, RATIO]: the last layer of the ratio's network, contracted with the element's own weights."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = rows < n_atoms
    number = tl.load(numbers + rows, mask=there, other=0).to(tl.int64)
    constant = of_element + 4 * number
    z = tl.zeros((BLOCK, HIDDEN), tl.float32) + vector(energy_bias, HIDDEN)
    z = product(z, x, rows, there, energy_inner, F, HIDDEN, False, PRECISION)
    e = tl.sum(z * sigmoid(z) * vector(energy_outer, HIDDEN), axis=1)
    tl.store(energy + rows, tl.load(constant) * e + tl.load(constant + 1), mask=there)
    z = tl.zeros((BLOCK, HIDDEN), tl.float32) + vector(charge_bias, HIDDEN)
    z = product(z, x, rows, there, charge_inner, F, HIDDEN, False, PRECISION)
    q = tl.sum(z * sigmoid(z) * vector(charge_outer, HIDDEN), axis=1)
    tl.store(charge + rows, q + tl.load(constant + 2), mask=there)
    z = tl.zeros((BLOCK, RATIO), tl.float32) + vector(ratio_bias, RATIO)
    z = product(z, x, rows, there, ratio_inner, F, RATIO, False, PRECISION)
    weight = tl.load(ratio_outer + number[:, None] * RATIO + tl.arange(0, RATIO)[None, :])
    r = tl.sum(z * sigmoid(z) * weight, axis=1)
    tl.store(ratio + rows, r + tl.load(constant + 3), mask=there)


@jit
def read_out_back(  # type: ignore[no-untyped-def]
    x,
    numbers,
    charge_pull,
    ratio_pull,
    energy_inner,
    energy_bias,
    energy_outer,
    charge_inner,
    charge_bias,
    charge_outer,
    ratio_inner,
    ratio_bias,
    ratio_outer,
    of_element,
    x_pull,
    n_atoms,
    F: tl.constexpr,
    HIDDEN: tl.constexpr,
    RATIO: tl.constexpr,
    PIECE: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Derivatives of the sum of energies by x: its own, and through charges and ratios by the given ones."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = rows < n_atoms
    number = tl.load(numbers + rows, mask=there, other=0).to(tl.int64)
    out = tl.zeros((BLOCK, F), tl.float32)

    pull = tl.load(of_element + 4 * number)
    for start in range(0, HIDDEN, PIECE):
        s = start + tl.arange(0, PIECE)
        by_z = tl.load(energy_outer + s)[None, :] * pull[:, None]
        out = through(out, by_z, x, rows, there, s, energy_inner, energy_bias, F, HIDDEN, PIECE, BLOCK, PRECISION)
    pull = tl.load(charge_pull + rows, mask=there, other=0.0)
    for start in range(0, HIDDEN, PIECE):
        s = start + tl.arange(0, PIECE)
        by_z = tl.load(charge_outer + s)[None, :] * pull[:, None]
        out = through(out, by_z, x, rows, there, s, charge_inner, charge_bias, F, HIDDEN, PIECE, BLOCK, PRECISION)
    pull = tl.load(ratio_pull + rows, mask=there, other=0.0)
    for start in range(0, RATIO, PIECE):
        s = start + tl.arange(0, PIECE)
        by_z = tl.load(ratio_outer + number[:, None] * RATIO + s[None, :]) * pull[:, None]
        out = through(out, by_z, x, rows, there, s, ratio_inner, ratio_bias, F, RATIO, PIECE, BLOCK, PRECISION)
    write(x_pull, rows, there, out, F)


@jit
def through(  # type: ignore[no-untyped-def]
    out,
    by_lit,
    x,
    rows,
    there,
    s,
    inner,
    bias,
    F: tl.constexpr,
    HIDDEN: tl.constexpr,
    PIECE: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Back through some columns s of a hidden layer, from derivatives by its silu, added to out [BLOCK, F]."""
    STEP: tl.constexpr = 32 if F > 32 else F
    k = tl.arange(0, STEP)
    z = tl.zeros((BLOCK, PIECE), tl.float32) + tl.load(bias + s)[None, :]
    for at in range(0, F, STEP):
        value = tl.load(x + rows[:, None] * F + (at + k)[None, :], mask=there[:, None], other=0.0)
        z = tl.dot(value, tl.load(inner + (at + k)[:, None] * HIDDEN + s[None, :]), acc=z, input_precision=PRECISION)
    back = tl.trans(tl.load(inner + tl.arange(0, F)[:, None] * HIDDEN + s[None, :]))
    return tl.dot(by_lit * silu_slope(z), back, acc=out, input_precision=PRECISION)


@jit
def sum_members(value, order, start, total, WIDTH: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Sums [G, WIDTH] over the members of each group, in their order, in float64: one program a group and column."""
    group = tl.program_id(0)
    column = tl.program_id(1)
    first = tl.load(start + group)
    last = tl.load(start + group + 1)
    parts = tl.zeros((BLOCK,), tl.float64)
    for at in range(first, last, BLOCK):
        k = at + tl.arange(0, BLOCK)
        there = k < last
        atom = tl.load(order + k, mask=there, other=0)
        parts += tl.load(value + atom * WIDTH + column, mask=there, other=0.0).to(tl.float64)
    tl.store(total + group * WIDTH + column, tl.sum(parts, axis=0))


class Groups:
    """Atoms of each structure (or fragment), for sums without atomics: the same to the last bit every time.

    Args:
        index: group of each atom.
        n_groups: how many there are; nothing is read back from the device for it.
    """

    def __init__(self, index: Int[Tensor, "N"], n_groups: int) -> None:
        self.index, self.n_groups = index, n_groups
        if n_groups > 1:
            ordered, self.order = torch.sort(index, stable=True)
            edges = torch.arange(n_groups + 1, dtype=index.dtype, device=index.device)
            self.start = torch.searchsorted(ordered, edges)
            self.count = self.start.diff().double()
        else:
            self.count = torch.full((1,), float(len(index)), dtype=torch.float64, device=index.device)

    def sum(self, value: Float[Tensor, "N *W"]) -> Float[Tensor, "G *W"]:
        """Sums over groups, float64."""
        if self.n_groups == 1:
            return value.sum(0, keepdim=True, dtype=torch.float64)
        width = value[0].numel()
        total = torch.empty(self.n_groups, *value.shape[1:], dtype=torch.float64, device=value.device)
        sum_members[(self.n_groups, width)](
            value.contiguous(), self.order, self.start, total, WIDTH=width, BLOCK=256, num_warps=4
        )
        return total

    def spread(self, total: Float[Tensor, "G"]) -> Float[Tensor, "N"]:
        """A number of each group for its atoms."""
        return total.expand(len(self.index)) if self.n_groups == 1 else total.index_select(0, self.index)

    def spread_rows(self, total: Float[Tensor, "G W"]) -> Float[Tensor, "N W"]:
        """A row of each group for its atoms."""
        return total.expand(len(self.index), -1) if self.n_groups == 1 else total.index_select(0, self.index)

    def mean(self, value: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
        """Each group's mean, for its atoms, float64."""
        return self.spread(self.sum(value) / self.count)
