"""SpookyNet's local messages with the kernels: edges in reach once a step, sums over neighbours in each module."""

# mypy: disable-error-code="import-untyped"
from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.kernels.gpu.matrix import NeighborMatrix
from heliodor.kernels.gpu.spookynet.basis import BasisTable
from heliodor.kernels.gpu.spookynet.edges import edges_in_reach, neighbor_sums
from heliodor.kernels.gpu.spookynet.edges_back import neighbor_pulls
from heliodor.kernels.gpu.spookynet.products import BLOCK, WARPS, combine, combine_back
from heliodor.potentials.spookynet_blocks import Interaction
from heliodor.system import System

REACH_BLOCK = 64
EDGES = 16
"""Edges a program works on at once: the least that a product on tensor cores takes."""


BACK_REGISTERS = 128
"""A thread's limit on the way back, which leaves a multiprocessor room for 16 warps."""


def edge_warps(n_features: int, *, back: bool = False) -> int:
    """Warps of a program of the edge kernels: a thread has eight values of a tile of edges, on the way back four."""
    return max(1, n_features // (8 if back else 16))


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges within the cutoff at the front of each row: senders, unit vectors and distances."""

    send: Int[Tensor, "N C"]
    geometry: Float[Tensor, "4 N C"]
    reached: Int[Tensor, "N"]

    @staticmethod
    def of(system: System, short: NeighborMatrix, cutoff: float, dtype: torch.dtype) -> Edges:
        n, device = system.n_atoms, system.device
        send = torch.empty_like(short.index)
        geometry = torch.empty(4, n, short.capacity, dtype=dtype, device=device)
        reached = torch.empty_like(short.count)
        edges_in_reach[(n,)](
            system.positions.double(), system.cell.double(), system.batch, short.index, short.shift, short.count, send,
            geometry, reached, n, short.capacity, cutoff, C=REACH_BLOCK, num_warps=REACH_BLOCK // 32,
        )  # fmt: skip
        return Edges(send, geometry, reached)


@dataclass(frozen=True, eq=False)
class MessagesKept:
    """What the way back reads: p, d projected; senders."""

    dipoles: Float[Tensor, "3 N G"]
    quadrupoles: Float[Tensor, "5 N G"]
    features: Float[Tensor, "3 N F"]


@dataclass(frozen=True, eq=False)
class Messages:
    """Sums over neighbours and their products, of one module.

    Attributes:
        table: radial basis.
        weight: of the filters of s, p, d.
        project_p, project_d: as torch's weights, [2F, F].
    """

    table: BasisTable
    weight: Float[Tensor, "3 K F"]
    project_p: Float[Tensor, "G F"]
    project_d: Float[Tensor, "G F"]

    @staticmethod
    def of(module: Interaction, table: BasisTable, dtype: torch.dtype) -> Messages:
        stored = module.radial.weight.detach().to(dtype)
        f, k = stored.shape[0] // 3, stored.shape[1]
        weight = stored.new_zeros(3, table.columns, f)
        weight[:, :k] = stored.view(3, f, k).mT
        project = (part.weight.detach().to(dtype).contiguous() for part in (module.projection_p, module.projection_d))
        return Messages(table, weight, *project)

    def forth(
        self, center: Float[Tensor, "N F"], features: Float[Tensor, "3 N F"], edges: Edges
    ) -> tuple[Float[Tensor, "N F"], MessagesKept]:
        """From an atom's own features and those it sends (s, p, d), both contiguous."""
        n, f = center.shape
        sums = center.new_empty(9, n, f)
        neighbor_sums[(n, 3)](
            edges.geometry, edges.send, edges.reached, self.table.coefficients, self.weight, features, sums, n,
            edges.send.shape[1], self.table.per_length, **self._tile(f),
        )  # fmt: skip
        dipoles = (sums[1:4].view(3 * n, f) @ self.project_p.mT).view(3, n, 2 * f)
        quadrupoles = (sums[4:].view(5 * n, f) @ self.project_d.mT).view(5, n, 2 * f)
        out = torch.empty_like(center)
        combine[(triton.cdiv(n * f, BLOCK),)](
            center, sums, dipoles, quadrupoles, out, n, F=f, BLOCK=BLOCK, num_warps=WARPS
        )
        return out, MessagesKept(dipoles, quadrupoles, features)

    def back(
        self,
        pull: Float[Tensor, "N F"],
        kept: MessagesKept,
        edges: Edges,
        gradient: Float[Tensor, "3 N 3"],
        strain: Float[Tensor, "3 N 6"] | None,
        out: Float[Tensor, "3 N F"] | None,
    ) -> None:
        """Adds to gradient and strain (by degree, `neighbor_pulls`), and writes ∂E/∂(s, p, d) to ``out``."""
        n, f = pull.shape
        dipoles, quadrupoles = torch.empty_like(kept.dipoles), torch.empty_like(kept.quadrupoles)
        combine_back[(triton.cdiv(n * f, BLOCK),)](
            pull, kept.dipoles, kept.quadrupoles, dipoles, quadrupoles, n, F=f, BLOCK=BLOCK, num_warps=WARPS
        )
        pulls = pull.new_empty(9, n, f)
        pulls[0].copy_(pull)
        torch.mm(dipoles.view(3 * n, 2 * f), self.project_p, out=pulls[1:4].view(3 * n, f))
        torch.mm(quadrupoles.view(5 * n, 2 * f), self.project_d, out=pulls[4:].view(5 * n, f))
        neighbor_pulls[(n, 3)](
            edges.geometry, edges.send, edges.reached, self.table.coefficients, self.weight, kept.features, pulls,
            pulls if out is None else out, gradient, gradient if strain is None else strain, n, edges.send.shape[1],
            self.table.per_length, **self._tile(f, back=True), SENDERS=out is not None, STRAIN=strain is not None,
            maxnreg=BACK_REGISTERS,
        )  # fmt: skip

    def _tile(self, f: int, *, back: bool = False) -> dict[str, int | str]:
        intervals, _, columns = self.table.coefficients.shape
        precision = "tf32x3" if self.weight.dtype == torch.float32 else "ieee"
        return {
            "M": intervals, "F": f, "K": columns, "E": EDGES, "PRECISION": precision,
            "num_warps": edge_warps(f, back=back),
        }  # fmt: skip
