"""SO3krates: an equivariant transformer that never multiplies irreps (Frank, Unke, Müller & Chmiela 2024).

Invariant features x [N, F] and one Euclidean variable per degree, ev [N, M], M = Σ(2l+1), talk to each other
only through the norms of ev. Filters depend on an edge through its length and through the difference of the
two ev, both symmetric in the two atoms: they are computed once per pair, on the half list, and serve both
directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from heliodor.halo import Halo
from heliodor.neighbors import Neighbors
from heliodor.potentials.angular import degree_sizes, spherical_harmonics
from heliodor.potentials.radial import BernsteinBasis, polynomial_cutoff
from heliodor.system import System


@dataclass(frozen=True)
class SO3kratesConfig:
    """Shape of the network; the defaults are the released SO3LR's (lengths in Å)."""

    n_features: int = 128
    n_heads: int = 4
    degrees: tuple[int, ...] = (1, 2, 3, 4)
    n_layers: int = 3
    n_basis: int = 32
    cutoff: float = 4.5
    gamma: float = 0.9448630809783936
    """Decay of the radial basis, 1/Å: the float32 rounding of 1/(2 Bohr), as trained."""
    average_neighbors: float = 13.168995780096482
    n_elements: int = 119


@dataclass(frozen=True)
class EdgeGeometry:
    """What every layer needs to know of the edges. Edges e = 0..E-1 are i<-j, edges E..2E-1 are j<-i."""

    receive: Int[Tensor, "E2"]
    send: Int[Tensor, "E2"]
    i: Int[Tensor, "E"]
    j: Int[Tensor, "E"]
    basis: Float[Tensor, "E K"]
    cutoff: Float[Tensor, "E"]
    harmonics: Float[Tensor, "E2 M"]
    halo: Halo | None = None


class Dense(nn.Module):
    """Two linear maps with silu between."""

    def __init__(self, n_in: int, n_hidden: int, n_out: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_in, n_hidden)
        self.out = nn.Linear(n_hidden, n_out)

    def forward(self, x: Float[Tensor, "N I"]) -> Float[Tensor, "N O"]:
        return self.out(silu(self.hidden(x)))


class ChargeSpinEmbedding(nn.Module):
    """Spread a total charge (or number of unpaired electrons) over the atoms by attention to the elements.

    The weights are normalised over the whole structure: for charged or open-shell structures the embedding,
    and so the energy, is not size-consistent.
    """

    def __init__(self, config: SO3kratesConfig) -> None:
        super().__init__()
        f = config.n_features
        self.query = nn.Parameter(torch.randn(config.n_elements, f) / math.sqrt(f))
        self.key = nn.Parameter(torch.randn(2, f) / math.sqrt(f))
        self.value = nn.Parameter(torch.randn(2, f) / math.sqrt(f))
        self.residual_0 = nn.Linear(f, f, bias=False)
        self.residual_1 = nn.Linear(f, f, bias=False)

    def forward(
        self, numbers: Int[Tensor, "N"], psi: Float[Tensor, "B"], batch: Int[Tensor, "N"], halo: Halo | None = None
    ) -> Float[Tensor, "N F"]:
        row = (psi < 0).long()
        logits = (self.query[numbers] * self.key[row][batch]).sum(-1) / math.sqrt(self.query.shape[1])
        weight = softplus(logits)
        total = torch.zeros_like(psi).index_add(0, batch, weight) if halo is None else halo.sum(weight).view(1)
        u = (psi[batch] * weight / total[batch]).unsqueeze(-1) * self.value[row][batch]
        return u + self.residual_1(silu(self.residual_0(silu(u))))


class SO3kratesLayer(nn.Module):
    """One attention update of x and ev, followed by their exchange (spec 2.4)."""

    contract: Tensor
    repeat: Tensor

    def __init__(self, config: SO3kratesConfig) -> None:
        super().__init__()
        f, heads, n_degrees = config.n_features, config.n_heads, len(config.degrees)
        if f % heads or f % n_degrees:
            raise ValueError(f"{f} features cannot be divided over {heads} heads and {n_degrees} degrees")
        self.n_features, self.n_heads, self.n_degrees = f, heads, n_degrees
        self.average_neighbors = config.average_neighbors
        s = f // 4
        self.project_x = nn.Parameter(torch.randn(heads, f // heads, 3 * (f // heads)) / math.sqrt(f // heads))
        self.project_ev = nn.Parameter(
            torch.randn(n_degrees, f // n_degrees, 2 * (f // n_degrees)) / math.sqrt(f // n_degrees)
        )
        # both branches' filters side by side: [.., 0:F] for x, [.., F:2F] for ev
        self.radial_hidden = nn.Linear(config.n_basis, 2 * f)
        self.radial_out = nn.Parameter(torch.randn(2, f, f) / math.sqrt(f))
        self.spherical_hidden = nn.Linear(n_degrees, 2 * s)
        self.spherical_out = nn.Parameter(torch.randn(2, s, f) / math.sqrt(s))
        self.filter_bias = nn.Parameter(torch.zeros(2, 1, f))
        self.norm_1 = nn.LayerNorm(f, eps=1e-6)
        self.norm_2 = nn.LayerNorm(f, eps=1e-6)
        self.update = Dense(f, f, f)
        self.exchange = nn.Linear(f + n_degrees, f + n_degrees)

        sizes = degree_sizes(config.degrees)
        repeat = torch.repeat_interleave(torch.eye(n_degrees, dtype=torch.float64), torch.tensor(sizes), dim=1)
        self.register_buffer("repeat", repeat, persistent=False)
        norms = torch.tensor(sizes, dtype=torch.float64).rsqrt()
        self.register_buffer("contract", repeat.T * norms, persistent=False)

    def invariants(self, ev: Float[Tensor, "N M"]) -> Float[Tensor, "N L"]:
        """Σ_m ev_lm² / √(2l+1) for each degree."""
        return ev.square() @ self.contract

    def filters(self, edges: EdgeGeometry, ev: Float[Tensor, "N M"] | None) -> Float[Tensor, "2 E F"]:
        n_edges, f = edges.basis.shape[0], self.n_features
        if ev is None:
            angular = self.spherical_hidden.bias.view(2, 1, -1)
            bias = torch.baddbmm(self.filter_bias, silu(angular), self.spherical_out)
        else:
            between = ev.index_select(0, edges.j) - ev.index_select(0, edges.i)
            angular = silu(self.spherical_hidden(self.invariants(between)))
            bias = torch.baddbmm(self.filter_bias, angular.view(n_edges, 2, f // 4).transpose(0, 1), self.spherical_out)
        radial = silu(self.radial_hidden(edges.basis)).view(n_edges, 2, f).transpose(0, 1)
        return torch.baddbmm(bias, radial, self.radial_out)

    def forward(
        self, x: Float[Tensor, "_ F"], ev: Float[Tensor, "_ M"] | None, edges: EdgeGeometry
    ) -> tuple[Float[Tensor, "O F"], Float[Tensor, "O M"]]:
        if edges.halo is not None and ev is not None:
            x, ev = edges.halo.fill(x, ev)
        n, f, heads, degrees = x.shape[0], self.n_features, self.n_heads, self.n_degrees
        filter_x, filter_ev = self.filters(edges, ev).unbind(0)
        q, k, v = _project(x, self.project_x, 3)
        scale = (edges.cutoff / self.average_neighbors).unsqueeze(-1)

        alpha = self._attention(q, k, filter_x, edges, heads) * scale
        message = v.index_select(0, edges.send).view(2, -1, heads, f // heads) * alpha.unsqueeze(-1)
        x_update = torch.zeros_like(x).index_add(0, edges.receive, message.view(-1, f))

        q, k = _project(x, self.project_ev, 2)
        alpha = self._attention(q, k, filter_ev, edges, degrees) * scale
        geometric = (alpha @ self.repeat).flatten(0, 1) * edges.harmonics
        ev_update = torch.zeros(n, geometric.shape[1], dtype=x.dtype, device=x.device)
        ev_update = ev_update.index_add(0, edges.receive, geometric)

        if edges.halo is not None:
            # what reaches copies here is a part of what reaches their atoms where they are at home
            own = edges.halo.own
            x, x_update, ev_update = own(x), own(x_update), own(ev_update)
            ev = None if ev is None else own(ev)
        x = self.norm_1(x + x_update)
        ev = ev_update if ev is None else ev + ev_update
        x = x + self.update(silu(x))
        y = self.exchange(torch.cat([x, self.invariants(ev)], dim=-1))
        ev = ev + (y[:, f:] @ self.repeat) * ev
        return self.norm_2(x + y[:, :f]), ev

    @staticmethod
    def _attention(
        q: Float[Tensor, "N F"], k: Float[Tensor, "N F"], filters: Float[Tensor, "E F"], edges: EdgeGeometry, heads: int
    ) -> Float[Tensor, "2 E H"]:
        n_edges, f = filters.shape
        pair = (q.index_select(0, edges.receive) * k.index_select(0, edges.send)).view(2, n_edges, f)
        return (pair * filters).view(2, n_edges, heads, f // heads).sum(-1)


class SO3krates(nn.Module):
    """Atomic numbers, charge, spin and edge vectors in; invariant features [N, F] out."""

    parity: Tensor

    def __init__(self, config: SO3kratesConfig) -> None:
        super().__init__()
        self.config = config
        self.element = nn.Parameter(torch.randn(config.n_elements, config.n_features))
        self.charge_embedding = ChargeSpinEmbedding(config)
        self.spin_embedding = ChargeSpinEmbedding(config)
        self.basis = BernsteinBasis(config.n_basis, config.gamma)
        self.layers = nn.ModuleList(SO3kratesLayer(config) for _ in range(config.n_layers))
        signs = [(-1.0) ** degree for degree in config.degrees for _ in range(2 * degree + 1)]
        self.register_buffer("parity", torch.tensor(signs), persistent=False)

    def geometry(
        self,
        i: Int[Tensor, "E"],
        j: Int[Tensor, "E"],
        r: Float[Tensor, "E 3"],
        d: Float[Tensor, "E"],
        halo: Halo | None = None,
    ) -> EdgeGeometry:
        """Expand the half list's edges in radial and angular functions; Y(-r) = (-1)^l Y(r)."""
        harmonics = spherical_harmonics(r / d.unsqueeze(-1), self.config.degrees)
        return EdgeGeometry(
            receive=torch.cat([i, j]),
            send=torch.cat([j, i]),
            i=i,
            j=j,
            basis=self.basis(d),
            cutoff=polynomial_cutoff(d, self.config.cutoff),
            harmonics=torch.cat([harmonics, harmonics * self.parity]),
            halo=halo,
        )

    def embed(
        self,
        numbers: Int[Tensor, "N"],
        charge: Float[Tensor, "B"],
        spin: Float[Tensor, "B"],
        batch: Int[Tensor, "N"],
        halo: Halo | None = None,
    ) -> Float[Tensor, "N F"]:
        """Features before the first layer."""
        x = self.element[numbers]
        x = x + self.charge_embedding(numbers, charge, batch, halo) + self.spin_embedding(numbers, spin, batch, halo)
        return x / math.sqrt(3.0)

    def forward(self, x: Float[Tensor, "N F"], edges: EdgeGeometry) -> Float[Tensor, "O F"]:
        """Run the layers on embedded atoms; of a domain, only its own atoms come out."""
        ev = None
        for layer in self.layers:
            x, ev = layer(x, ev, edges)
        return x

    def features(self, system: System, neighbors: Neighbors) -> list[list[Tensor]]:
        """After each layer: invariants [N, F, 1], then each degree's variable [N, 1, 2l+1] (`heliodor.descriptor`)."""
        dtype = self.element.dtype
        edges = neighbors.within(system)
        r = edges.vectors(system).to(dtype)
        geometry = self.geometry(edges.i, edges.j, r, r.square().sum(-1).sqrt())
        x = self.embed(system.numbers, system.charge.to(dtype), system.spin.to(dtype), system.batch)
        ev: Tensor | None = None
        found = []
        for layer in self.layers:
            x, ev = layer(x, ev, geometry)
            assert ev is not None
            blocks = torch.split(ev.unsqueeze(1), degree_sizes(self.config.degrees), dim=-1)
            found.append([x.unsqueeze(-1), *blocks])
        return found


def _project(x: Float[Tensor, "N F"], weight: Float[Tensor, "H D DP"], parts: int) -> tuple[Tensor, ...]:
    """Block-diagonal maps: head h of x through weight[h]; returns `parts` tensors [N, F]."""
    n, f = x.shape
    heads, width, _ = weight.shape
    out = torch.bmm(x.view(n, heads, width).transpose(0, 1), weight)
    return out.view(heads, n, parts, width).permute(2, 1, 0, 3).reshape(parts, n, f).unbind(0)
