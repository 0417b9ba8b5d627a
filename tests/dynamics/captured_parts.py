"""A Lennard-Jones potential twice: for the ordinary loop, and with the interface of kernels, on neighbour matrices."""

from __future__ import annotations

import torch
from torch import Tensor
from toys import LennardJones

from heliodor.kernels.derived import Derived
from heliodor.kernels.gpu.matrix import NeighborMatrix, unpack_shift
from heliodor.potential import Terms
from heliodor.system import System


class MatrixLennardJones:
    """The forces written out on paper; shapes depend on the matrix alone, so that a CUDA graph can hold it."""

    def __init__(self, plain: LennardJones) -> None:
        self.plain = plain
        self.calls = 0
        self.lists: list[NeighborMatrix] = []

    def __call__(
        self, system: System, short: NeighborMatrix, long: NeighborMatrix | None, *, gradient: bool, strain: bool
    ) -> Derived:
        self.calls += 1
        edges = short if long is None else long
        epsilon, sigma, cutoff = self.plain.epsilon, self.plain.sigma, self.plain.cutoff
        place, sender = system.positions, edges.index.long()
        shift = (unpack_shift(edges.shift).to(place.dtype).unsqueeze(-1) * system.cell[0]).sum(-2)
        r = place[sender] - place.unsqueeze(1) + shift
        column = torch.arange(edges.capacity, device=place.device)
        d2 = r.square().sum(-1)
        inside = (column < edges.count.unsqueeze(1)) & (d2 <= cutoff**2)
        d = torch.where(inside, d2, cutoff**2).sqrt()
        c6, k6 = (sigma / d) ** 6, (sigma / cutoff) ** 6
        slope = 4.0 * epsilon * (-12.0 * k6**2 + 6.0 * k6) / cutoff
        pair = 4.0 * epsilon * (c6**2 - c6 - k6**2 + k6) - slope * (d - cutoff)
        by_d = 4.0 * epsilon * (-12.0 * c6**2 + 6.0 * c6) / d - slope
        pull = torch.where(inside, by_d / d, 0.0).unsqueeze(-1) * r
        node = 0.5 * torch.where(inside, pair, 0.0).sum(1)
        bend: Tensor | None = None
        if strain:
            bend = 0.5 * (r.unsqueeze(-1) * pull.unsqueeze(-2)).sum((0, 1)).unsqueeze(0)
        return Derived(Terms({"pair": node}), -pull.sum(1) if gradient else None, bend)
