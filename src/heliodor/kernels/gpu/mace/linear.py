"""Linear maps of all components of all atoms in one launch, with weights of each atom's element or of none.

Elements are few and unevenly many. A sum over all of them with masks would do Z = 10 times the work of the largest maps
of MACE; products of whole blocks of sorted atoms need their sizes on the host. Here tiles of sorted atoms belong to one
element each, and a table on the device says which: its length depends on the number of atoms alone, at most Z tiles are
empty.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.kernels.gpu.ahead import interpreted
from heliodor.kernels.gpu.jit import jit


@jit
def linear(  # type: ignore[no-untyped-def]
    x,
    weight,
    plan,
    first,
    out,
    order,
    tiles,
    stride,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    K: tl.constexpr,
    W: tl.constexpr,
    ADD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """A tile of out[n, m] = Σ over the ways w of m: x[n, plan[w, 0]] @ weight[element of n, plan[w, 1]].

    Args:
        x: [N, IN, K]; out [N, OUT, W].
        weight: [Z, maps, K, W], `stride` from element to element (0 for the same weights for all).
        plan: [ways, 2]; first [OUT + 1], the ways of each component.
        order: atoms sorted by element; tiles [T, 3], element, first place and end: see `Sorted`.
        ADD: components, the first ones, that add to what is in `out`.
    """
    tile = tiles + tl.program_id(0) * 3
    m = tl.program_id(1)
    begin = tl.load(tile + 1)
    end = tl.load(tile + 2)
    if begin < end:
        row = begin + tl.arange(0, ROWS)
        mine = row < end
        atom = tl.load(order + row, mask=mine, other=0).to(tl.int64)
        weights = weight + tl.load(tile) * stride
        column = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
        wanted = mine[:, None] & (column < W)[None, :]
        to = out + (atom * (OUT * W) + m * W)[:, None] + column[None, :]
        real = x.dtype.element_ty
        total = tl.load(to, mask=wanted & (m < ADD), other=0.0)
        inner = tl.arange(0, INNER)
        blocks: tl.constexpr = (K + INNER - 1) // INNER
        for step in range(tl.load(first + m) * blocks, tl.load(first + m + 1) * blocks):
            way = plan + (step // blocks) * 2
            k = (step % blocks) * INNER + inner
            read = x + (atom * (IN * K) + tl.load(way) * K)[:, None] + k[None, :]
            part = tl.load(read, mask=mine[:, None] & (k < K)[None, :], other=0.0)
            maps = weights + tl.load(way + 1) * (K * W)
            w = tl.load(
                maps + k[:, None] * W + column[None, :], mask=(k < K)[:, None] & (column < W)[None, :], other=0.0
            )
            total = tl.dot(part, w, total, input_precision=PRECISION, out_dtype=real)
        tl.store(to, total, mask=wanted)


@jit
def cut(end, tiles, Z: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr):  # type: ignore[no-untyped-def]
    """One row of `Sorted.tiles`, from the place after the last atom of each of Z elements."""
    tile = tl.program_id(0)
    z = tl.arange(0, WIDTH)
    first = tl.load(end + z - 1, mask=(z > 0) & (z < Z), other=0).to(tl.int32)
    last = tl.load(end + z, mask=z < Z, other=0).to(tl.int32)
    count = tl.where(z < Z, (last - first + ROWS - 1) // ROWS, 0)
    after = tl.cumsum(count, 0)
    mine = (after - count <= tile) & (tile < after)
    tl.store(tiles + tile * 3, tl.sum(tl.where(mine, z, 0), 0))
    tl.store(tiles + tile * 3 + 1, tl.sum(tl.where(mine, first + (tile - after + count) * ROWS, 0), 0))
    tl.store(tiles + tile * 3 + 2, tl.sum(tl.where(mine, last, 0), 0))


@dataclass(frozen=True, eq=False)
class Sorted:
    """Atoms by element, nothing of it known to the host.

    Attributes:
        order: atoms, those of one element side by side.
        tiles: element, first place in `order` and the place after the last one, at most as many as `tile_rows` on;
            those that are not needed are empty.
    """

    order: Int[Tensor, "N"]
    tiles: Int[Tensor, "T 3"]

    @staticmethod
    def of(species: Int[Tensor, "N"], n_elements: int, rows: int) -> Sorted:
        order = torch.argsort(species, stable=True)
        element = torch.arange(n_elements, dtype=species.dtype, device=species.device)
        end = (species.unsqueeze(0) <= element.unsqueeze(1)).sum(1)
        count = triton.cdiv(len(species), rows) + n_elements
        tiles = torch.empty(count, 3, dtype=torch.int32, device=species.device)
        cut[(count,)](end, tiles, Z=n_elements, WIDTH=triton.next_power_of_2(n_elements), ROWS=rows, num_warps=1)
        return Sorted(order.int(), tiles)


@dataclass(frozen=True, eq=False)
class Linear:
    """One linear map of components.

    Attributes:
        weight: for each element, or once, the maps.
        ways: for each component of the result: (component that comes in, map).
    """

    weight: Float[Tensor, "_ maps K W"]
    plan: Int[Tensor, "ways 2"]
    first: Int[Tensor, "_"]
    came: int

    @staticmethod
    def of(weight: Float[Tensor, "_ maps K W"], ways: list[list[tuple[int, int]]], came: int) -> Linear:
        """From lists of ways; `came` is the number of components that come in."""
        flat = [way for some in ways for way in some]
        first = [0]
        for some in ways:
            first.append(first[-1] + len(some))
        made = [torch.tensor(x, dtype=torch.int32, device=weight.device) for x in (flat, first)]
        return Linear(weight.contiguous(), made[0].view(-1, 2), made[1], came)

    @property
    def components(self) -> int:
        """Of the result."""
        return len(self.first) - 1

    def back(self) -> Linear:
        """The map of gradients."""
        ways: list[list[tuple[int, int]]] = [[] for _ in range(self.came)]
        first = self.first.tolist()
        for m in range(self.components):
            for came, n in self.plan[first[m] : first[m + 1]].tolist():
                ways[came].append((m, n))
        return Linear.of(self.weight.mT, ways, self.components)

    def __call__(
        self, x: Float[Tensor, "N C K"], atoms: Sorted, out: Float[Tensor, "N M W"] | None = None, add: int = 0
    ) -> Float[Tensor, "N M W"]:
        """Into `out` if given, added to it in its first `add` components."""
        n, _, k = x.shape
        w = self.weight.shape[-1]
        if out is None:
            out = x.new_empty(n, self.components, w)
        columns, inner = _tile(w)
        stride = self.weight.stride(0) if len(self.weight) > 1 else 0
        linear[(len(atoms.tiles), self.components, triton.cdiv(w, columns))](
            x,
            self.weight,
            self.plan,
            self.first,
            out,
            atoms.order,
            atoms.tiles,
            stride,
            IN=self.came,
            OUT=self.components,
            K=k,
            W=w,
            ADD=add,
            ROWS=tile_rows(),
            COLUMNS=columns,
            INNER=inner,
            PRECISION="tf32x3" if x.dtype == torch.float32 else "ieee",
            num_warps=4,
            num_stages=3,
        )
        return out


def tile_rows() -> int:
    """Atoms of a tile."""
    return 16 if interpreted() else 64


def _tile(width: int) -> tuple[int, int]:
    """Columns and depth of a tile for so many columns in all."""
    if interpreted():
        return max(16, triton.next_power_of_2(width)), 16
    return (64 if width % 64 == 0 else 32), 32
