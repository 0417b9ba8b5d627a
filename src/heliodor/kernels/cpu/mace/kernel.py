"""MACE on CPUs, energies and their gradient by hand: no graph, nothing kept for an edge, memory linear in atoms.

The arithmetic is that of `heliodor.potentials.mace`, regrouped: linear maps folded, messages of the first layer from a
table of elements, radial functions by splines, symmetric products as sums over distinct monomials.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from heliodor.kernels.cpu.mace import loops, products
from heliodor.kernels.cpu.mace.tables import Convolution, tables
from heliodor.kernels.cpu.threads import blocks, run
from heliodor.neighbors import Neighbors
from heliodor.potentials.mace import MACE
from heliodor.system import System


class MACEKernel:
    """Interaction energies of atoms, differentiable once by the positions and the cell."""

    def __init__(self, model: MACE) -> None:
        self._model = tables(model, model.dtype)
        self._index = model.network.index.cpu()
        self._cutoff = model.cutoff

    @property
    def spline_error(self) -> float:
        """Largest error of a radial function by its spline, as a fraction of the largest radial function."""
        return max(c.spline_error for c in self._model.convolutions)

    def __call__(self, system: System, neighbors: Neighbors) -> Float[Tensor, "N"]:
        """Interaction energy of each atom, eV."""
        assert neighbors.half
        # atoms of one element side by side: their linear maps are one matrix product
        species = self._index[system.numbers]
        order = torch.argsort(species, stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        energies: Tensor = _Energies.apply(  # type: ignore[no-untyped-call]
            neighbors.vectors(system), self, species[order], place[neighbors.i], place[neighbors.j]
        )
        return energies[place]

    def forward(self, vectors: Tensor, species: Tensor, i: Tensor, j: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """Energies of atoms sorted by species, and what `backward` needs."""
        model = self._model
        start, other, edge, pair, forward = loops.edges_by_atom(
            i.numpy(), j.numpy(), vectors.detach().double().numpy(), self._cutoff, len(species)
        )
        edges = (start, other, edge)
        ranges = blocks(start)
        spans = _spans(species)
        z = species.numpy()
        g_1 = model.sender[species].unsqueeze(0)
        messages = self._convolve(model.convolutions[0], ranges, edges, g_1)
        a_1 = torch.empty_like(messages)
        for degree, weight in enumerate(model.mix[0]):
            at = slice(degree**2, (degree + 1) ** 2)
            for s, rows in spans:
                torch.matmul(messages[at, rows], weight[s], out=a_1[at, rows])
        b_1 = self._multiply(0, ranges, z, a_1)
        g_2 = torch.empty_like(b_1)
        for degree, weight in enumerate(model.up):
            at = slice(degree**2, (degree + 1) ** 2)
            torch.matmul(b_1[at], weight, out=g_2[at])
        messages = self._convolve(model.convolutions[1], ranges, edges, g_2)
        a_2 = torch.empty_like(a_1)
        done: set[int] = set()
        for (first, last, degree), weight in zip(model.convolutions[1].blocks, model.mix[1], strict=True):
            rows_of = a_2[degree**2 : (degree + 1) ** 2].view(-1, a_2.shape[-1])
            came = messages[first:last].view(-1, a_2.shape[-1])
            if degree in done:
                rows_of.addmm_(came, weight)
            else:
                torch.mm(came, weight, out=rows_of)
            done.add(degree)
        b_2 = self._multiply(1, ranges, z, a_2)[0]
        hidden = b_2 @ model.hidden
        for s, rows in spans:
            hidden[rows].addmm_(b_1[0, rows], model.skip[s])
        total = b_1[0] @ model.read + model.gate * torch.nn.functional.silu(hidden) @ model.out
        return model.scale * total + model.shift, (ranges, spans, z, edges, pair, forward, g_1, a_1, g_2, a_2, hidden)

    def backward(self, pull: Tensor, kept: tuple[Any, ...], count: int) -> Tensor:
        """Gradient by the half list's vectors [H, 3], from that by the energies [N]."""
        model = self._model
        ranges, spans, z, edges, pair, forward, g_1, a_1, g_2, a_2, hidden = kept
        slopes = np.zeros((len(pair), 3))
        pull = (model.scale * pull).unsqueeze(-1)
        sigmoid = torch.sigmoid(hidden)
        hidden_pull = pull * model.gate * model.out * sigmoid * (1.0 + hidden * (1.0 - sigmoid))
        a_pull = self._multiply_back(1, ranges, z, a_2, (hidden_pull @ model.hidden.T).unsqueeze(0))
        convolution = model.convolutions[1]
        messages_pull = a_pull.new_empty(len(convolution.ways), *a_pull.shape[1:])
        for (first, last, degree), weight in zip(convolution.blocks, model.mix[1], strict=True):
            torch.matmul(a_pull[degree**2 : (degree + 1) ** 2], weight.T, out=messages_pull[first:last])
        g_pull = self._convolve_back(convolution, ranges, edges, g_2, messages_pull, slopes)
        b_pull = torch.empty_like(g_pull)
        for degree, weight in enumerate(model.up):
            at = slice(degree**2, (degree + 1) ** 2)
            torch.matmul(g_pull[at], weight.T, out=b_pull[at])
        b_pull[0].addmm_(pull, model.read.unsqueeze(0))
        for s, rows in spans:
            b_pull[0, rows].addmm_(hidden_pull[rows], model.skip[s].T)
        a_pull = self._multiply_back(0, ranges, z, a_1, b_pull)
        messages_pull = torch.empty_like(a_pull)
        for degree, weight in enumerate(model.mix[0]):
            at = slice(degree**2, (degree + 1) ** 2)
            for s, rows in spans:
                torch.matmul(a_pull[at, rows], weight[s].T, out=messages_pull[at, rows])
        self._convolve_back(model.convolutions[0], ranges, edges, g_1, messages_pull, slopes)
        result = np.zeros((count, 3))
        loops.to_pairs(slopes, pair, forward, result)
        return torch.from_numpy(result)

    def _convolve(self, c: Convolution, ranges: list[tuple[int, int]], edges: Any, g: Tensor) -> Tensor:
        out = g.new_empty(len(c.ways), *g.shape[1:])
        run(loops.convolve, ranges, *edges, c.table, c.scale, g.numpy(), c.ways, c.entries, c.values, out.numpy())
        return out

    def _convolve_back(
        self, c: Convolution, ranges: list[tuple[int, int]], edges: Any, g: Tensor, pull: Tensor, slopes: np.ndarray
    ) -> Tensor:
        out = torch.empty_like(g)
        run(
            loops.convolve_back,
            ranges,
            *edges,
            c.table,
            c.scale,
            g.numpy(),
            c.ways,
            c.entries,
            c.values,
            pull.numpy(),
            out.numpy(),
            slopes,
        )
        return out

    def _multiply(self, layer: int, ranges: list[tuple[int, int]], z: np.ndarray, a: Tensor) -> Tensor:
        p = self._model.products[layer]
        out = a.new_empty(p.components, *a.shape[1:])
        run(products.multiply, ranges, z, a.numpy(), p.pairs, p.terms, p.coefficients, out.numpy())
        return out

    def _multiply_back(
        self, layer: int, ranges: list[tuple[int, int]], z: np.ndarray, a: Tensor, pull: Tensor
    ) -> Tensor:
        p = self._model.products[layer]
        out = torch.zeros_like(a)
        run(products.multiply_back, ranges, z, a.numpy(), p.pairs, p.terms, p.coefficients, pull.numpy(), out.numpy())
        return out


class _Energies(torch.autograd.Function):
    """The kernel in torch's graph: only the vectors have a gradient."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, kernel: MACEKernel, species: Tensor, i: Tensor, j: Tensor) -> Tensor:
        energies, ctx.kept = kernel.forward(vectors, species, i, j)
        ctx.kernel, ctx.count = kernel, len(vectors)
        ctx.broken = None
        if not bool(vectors.sum().isfinite()):
            # a distance that is not a number is no edge, and would pass for atoms far apart
            ctx.broken = ~vectors.isfinite().all(-1)
            energies[torch.cat([i[ctx.broken], j[ctx.broken]])] = torch.nan
        return energies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, pull: Tensor) -> tuple[Tensor, None, None, None, None]:
        gradient = ctx.kernel.backward(pull.contiguous(), ctx.kept, ctx.count)
        if ctx.broken is not None:
            gradient[ctx.broken] = torch.nan
        return gradient, None, None, None, None


def _spans(species: Tensor) -> list[tuple[int, slice]]:
    """For sorted species: each with its range of atoms."""
    present, counts = torch.unique_consecutive(species, return_counts=True)
    spans, first = [], 0
    for s, count in zip(present.tolist(), counts.tolist(), strict=True):
        spans.append((s, slice(first, first + count)))
        first += count
    return spans
