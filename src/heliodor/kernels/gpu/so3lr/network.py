"""SO3krates in Triton: its layers there and back, three launches a layer and direction at most.

What forward keeps is per atom, and per place of a row the packed edge with its harmonics. For SO3LR's shape (F = 128,
ev in tiles of 32): x, sums, hidden layer and what comes before the last norm 2 KiB, q, k, v 2.5 KiB, ev, sums, scales
0.4 KiB: 5 KiB a layer and atom; on the way back 5 KiB once; 272 bytes a place of the row: 17 KiB with 64 places. 37 KiB
an atom in all: 15 GB for 400,000 atoms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
import triton
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import silu, softplus

from heliodor.kernels.gpu.so3lr.edges import attend
from heliodor.kernels.gpu.so3lr.edges_back import attend_back
from heliodor.kernels.gpu.so3lr.geometry import Edges
from heliodor.kernels.gpu.so3lr.heads import Groups
from heliodor.kernels.gpu.so3lr.layout import component_slots, harmonic_gradients, layout_of, slots
from heliodor.kernels.gpu.so3lr.nodes import project, project_back, update, update_back
from heliodor.kernels.gpu.so3lr.radial import tabulate
from heliodor.kernels.gpu.so3lr.weights import LayerWeights, layer_weights
from heliodor.potentials.angular import degree_sizes
from heliodor.potentials.so3krates import SO3krates, SO3kratesLayer


@dataclass(frozen=True)
class Tuning:
    """Sizes of tiles and numbers of warps; results depend on them in the last bits only.

    Attributes:
        precision: of products of tiles: "ieee", "tf32x3" (as exact as float32, on tensor cores) or "tf32" (three
            digits).
        edges, edges_warps: of the passes over edges, forward; at least 16 edges.
        back, back_warps: of those back.
        atoms, atoms_warps: of what is done atom by atom.
    """

    precision: str = "tf32x3"
    edges: int = 16
    edges_warps: int = 4
    back: int = 16
    back_warps: int = 4
    atoms: int = 16
    atoms_warps: int = 8


@dataclass(frozen=True, eq=False)
class Kept:
    """What a layer's way back needs."""

    projected: Float[Tensor, "N P"]
    ev: Float[Tensor, "N M"] | None
    sums: Float[Tensor, "N F"]
    hidden: Float[Tensor, "N F"]
    before: Float[Tensor, "N F"]
    ev_sums: Float[Tensor, "N M"]
    scale: Float[Tensor, "N M"] | None


class NetworkTriton:
    """Copies of a network's parameters, and its layers in both directions.

    Attributes:
        radial_error, slope_error: largest of the layers' `RadialTable`s.
    """

    def __init__(self, network: SO3krates, tuning: Tuning) -> None:
        config = network.config
        self.config, self.tuning = config, tuning
        self.layout = layout = layout_of(config)
        self.padded = (layout.heads, layout.degrees, layout.features) != (
            config.n_heads,
            len(config.degrees),
            config.n_features,
        )
        device = network.element.device
        self.places = slots(config.n_features, config.n_heads, layout.head_width).to(device)
        tables = tabulate(network)
        self.radial_error = max(table.error for table in tables)
        self.slope_error = max(table.slope_error for table in tables)
        self.layers: list[LayerWeights] = []
        for t, (layer, table) in enumerate(zip(network.layers, tables, strict=True)):
            assert isinstance(layer, SO3kratesLayer)
            self.layers.append(layer_weights(layer, table, config, layout, first=t == 0))
        used = torch.zeros(layout.features, device=device)
        used[self.places] = 1.0
        self.used = used
        at = component_slots(config, layout)
        degree_of = torch.repeat_interleave(
            torch.arange(len(config.degrees)), torch.tensor(degree_sizes(config.degrees))
        )
        self.degree_of = torch.full((layout.components,), -1, dtype=torch.int32).index_copy(0, at, degree_of.int())
        self.degree_of = self.degree_of.to(device)
        sign = torch.tensor([(-1.0) ** degree for degree in config.degrees])[degree_of]
        self.parity = torch.zeros(layout.components).index_copy(0, at, sign).to(device)
        self.climb = harmonic_gradients(config, layout).float().to(device)
        self.element = network.element.detach().float().clone()
        self.embeddings = [
            [p.detach().float().clone() for p in (e.query, e.key, e.value, e.residual_0.weight, e.residual_1.weight)]
            for e in (network.charge_embedding, network.spin_embedding)
        ]
        self.edge_shape = {
            "HEADS": layout.heads, "WIDTH": layout.head_width, "DEGREES": layout.degrees,
            "DEGREE_WIDTH": layout.degree_width, "M": layout.components, "HIDDEN": layout.hidden,
            "RANK": tables[0].rank, "INTERVALS": tables[0].intervals,
        }  # fmt: skip

    def embed(
        self, numbers: Int[Tensor, "N"], charge: Float[Tensor, "B"], spin: Float[Tensor, "B"], structures: Groups
    ) -> Float[Tensor, "N F"]:
        """`SO3krates.embed` with sums in a fixed order, in the kernels' columns."""
        x = self.element[numbers]
        for psi, (query, key, value, inner, outer) in zip((charge, spin), self.embeddings, strict=True):
            psi = psi.float()
            row = (psi < 0).long()
            logits = (query[numbers] * structures.spread_rows(key[row])).sum(-1) / math.sqrt(query.shape[1])
            weight = softplus(logits)
            share = structures.spread((psi.double() / structures.sum(weight)).float()) * weight
            u = share.unsqueeze(-1) * structures.spread_rows(value[row])
            x = x + u + silu(silu(u) @ inner.T) @ outer.T
        out = x.new_zeros(len(x), self.layout.features)
        return out.index_copy_(1, self.places, x / math.sqrt(3.0))

    def plain(self, x: Float[Tensor, "N F"]) -> Float[Tensor, "N F"]:
        """Features in the model's order."""
        return x.index_select(1, self.places)

    def project(self, layer: int, x: Float[Tensor, "N F"]) -> Float[Tensor, "N P"]:
        """Queries, keys and values of a layer."""
        maps, tuning = self.layers[layer].projections, self.tuning
        shape = (len(x), self.layout.projected)
        # heads and degrees that a padded layout adds are written by nobody
        out = x.new_zeros(shape) if self.padded else x.new_empty(shape)
        project[(triton.cdiv(len(x), tuning.atoms), len(maps.target))](
            x, maps.columns, maps.weight, maps.target, maps.width, out, len(x),
            F=self.layout.features, ROW=self.layout.projected, WIDTH=maps.weight.shape[1], BLOCK=tuning.atoms,
            PRECISION=tuning.precision, num_warps=1, num_stages=1,
        )  # fmt: skip
        return out

    def forward(
        self, x: Float[Tensor, "N F"], projected: Float[Tensor, "N P"], edges: Edges
    ) -> tuple[Float[Tensor, "N F"], list[Kept]]:
        """Last features, and what the way back needs, from embedded atoms and their first layer's projections."""
        ev: Tensor | None = None
        kept = []
        last = len(self.layers) - 1
        for t in range(len(self.layers)):
            if t:
                projected = self.project(t, x)
            x_update, ev_update = self._attend(t, projected, ev, edges)
            x, after, keep = self._update(t, x, x_update, projected, ev, ev_update, last=t == last)
            kept.append(keep)
            ev = after
        return x, kept

    def _attend(self, t: int, projected: Tensor, ev: Tensor | None, edges: Edges) -> tuple[Tensor, Tensor]:
        n, tuning = len(projected), self.tuning
        x_update = projected.new_empty(n, self.layout.features)
        ev_update = projected.new_empty(n, self.layout.components)
        attend[(n,)](
            **self._edge_arguments(self.layers[t], projected, ev, edges), x_update=x_update, ev_update=ev_update,
            **self.edge_shape, FIRST=t == 0, BLOCK=tuning.edges, PRECISION=tuning.precision,
            num_warps=tuning.edges_warps, num_stages=1,
        )  # fmt: skip
        return x_update, ev_update

    def _edge_arguments(
        self, layer: LayerWeights, projected: Tensor, ev: Tensor | None, edges: Edges
    ) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "index": edges.index, "vector": edges.vector, "count": edges.count, "angular": edges.angular,
            "projected": projected,
            "ev": projected if ev is None else ev, "table": layer.table.powers,
            "capacity": edges.index.shape[1], "cutoff": self.config.cutoff, "per_angstrom": layer.table.per_angstrom,
            "degree_of": self.degree_of, "heads": self.config.n_heads, "degrees": len(self.config.degrees),
        }  # fmt: skip
        for n, branch in enumerate(layer.branches, start=1):
            arguments |= {f"{field.name}_{n}": getattr(branch, field.name) for field in fields(branch)}
        return arguments

    def _update(
        self,
        t: int,
        x: Tensor,
        x_update: Tensor,
        projected: Tensor,
        ev: Tensor | None,
        ev_update: Tensor,
        *,
        last: bool,
    ) -> tuple[Tensor, Tensor | None, Kept]:
        n, tuning, weights = len(x), self.tuning, self.layers[t].update
        sums, hidden, before, after = (torch.empty_like(x) for _ in range(4))
        ev_sums = torch.empty_like(ev_update)
        scale, ev_after = (None, None) if last else (torch.empty_like(ev_update), torch.empty_like(ev_update))
        update[(triton.cdiv(n, tuning.atoms),)](
            x, x_update, ev_update if ev is None else ev, ev_update, self.used,
            weights.gain_1, weights.shift_1, weights.gain_2, weights.shift_2, weights.inner, weights.inner_bias,
            weights.outer, weights.outer_bias, weights.x_x, weights.ev_x, weights.x_bias, weights.x_ev, weights.ev_ev,
            weights.ev_bias, sums, hidden, before, after, ev_sums, ev_sums if scale is None else scale,
            ev_sums if ev_after is None else ev_after, n, float(self.config.n_features),
            F=self.layout.features, M=self.layout.components, FIRST=ev is None, LAST=last, BLOCK=tuning.atoms,
            PRECISION=tuning.precision, num_warps=tuning.atoms_warps, num_stages=1,
        )  # fmt: skip
        return after, ev_after, Kept(projected, ev, sums, hidden, before, ev_sums, scale)

    def backward(
        self, x_pull: Float[Tensor, "N F"], kept: list[Kept], edges: Edges, *, strain: bool
    ) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 9"] | None]:
        """∂E/∂R and each atom's part of Σ r_a ∂E/∂r_b, from ∂E by the last features."""
        n = len(x_pull)
        gradient = x_pull.new_empty(n, 3)
        strains = x_pull.new_empty(n, 9) if strain else None
        by_projection = x_pull.new_zeros(2, *x_pull.shape) if self.padded else x_pull.new_empty(2, *x_pull.shape)
        projected_pull = torch.empty_like(kept[0].projected)
        ev_between = x_pull.new_empty(n, self.layout.components)
        ev_pull = ev_between
        for t in reversed(range(len(self.layers))):
            last = t == len(self.layers) - 1
            x_pull, ev_pull = self._update_back(t, x_pull, by_projection, ev_pull, ev_between, kept[t], last=last)
            self._attend_back(
                t, kept[t], edges, x_pull, ev_pull, projected_pull, ev_between, gradient, strains, add=not last
            )
            if t:
                self._project_back(t, projected_pull, by_projection)
        return gradient, strains

    def _update_back(
        self,
        t: int,
        x_pull: Tensor,
        by_projection: Tensor,
        ev_pull: Tensor,
        ev_between: Tensor,
        kept: Kept,
        *,
        last: bool,
    ) -> tuple[Tensor, Tensor]:
        n, tuning, weights = len(x_pull), self.tuning, self.layers[t].update
        sum_pull, ev_sum_pull = torch.empty_like(x_pull), torch.empty_like(kept.ev_sums)
        update_back[(triton.cdiv(n, tuning.atoms),)](
            x_pull, by_projection, ev_pull, ev_between, self.used, weights.gain_1, weights.shift_1, weights.gain_2,
            weights.inner, weights.outer, weights.x_x, weights.ev_x, weights.x_ev, weights.ev_ev, kept.sums,
            kept.hidden, kept.before, kept.ev_sums, kept.ev_sums if kept.scale is None else kept.scale, sum_pull,
            ev_sum_pull, n, float(self.config.n_features), F=self.layout.features, M=self.layout.components, LAST=last,
            BLOCK=tuning.atoms, PRECISION=tuning.precision, num_warps=tuning.atoms_warps, num_stages=1,
        )  # fmt: skip
        return sum_pull, ev_sum_pull

    def _attend_back(
        self, t: int, kept: Kept, edges: Edges, x_pull: Tensor, ev_pull: Tensor, projected_pull: Tensor,
        ev_between: Tensor, gradient: Tensor, strains: Tensor | None, *, add: bool,
    ) -> None:  # fmt: skip
        tuning = self.tuning
        attend_back[(len(x_pull),)](
            **self._edge_arguments(self.layers[t], kept.projected, kept.ev, edges), lower=edges.lower, x_pull=x_pull,
            ev_pull=ev_pull, parity=self.parity, climb=self.climb, projected_pull=projected_pull,
            ev_between_pull=ev_between,
            gradient=gradient, strain=gradient if strains is None else strains, **self.edge_shape,
            LOW=self.layout.lower_components,
            FIRST=t == 0, ADD=add, STRAIN=strains is not None, BLOCK=tuning.back, PRECISION=tuning.precision,
            num_warps=tuning.back_warps, num_stages=1,
        )  # fmt: skip

    def _project_back(self, t: int, projected_pull: Tensor, by_projection: Tensor) -> None:
        n, tuning, maps = len(projected_pull), self.tuning, self.layers[t].projections
        project_back[(triton.cdiv(n, tuning.atoms), len(maps.first))](
            projected_pull, maps.columns, maps.weight, maps.target, maps.width, maps.first, maps.parts, maps.branch,
            by_projection, n, F=self.layout.features, ROW=self.layout.projected, WIDTH=maps.weight.shape[1],
            BLOCK=tuning.atoms, PRECISION=tuning.precision, num_warps=1, num_stages=1,
        )  # fmt: skip
