"""SO3krates' parameters as its kernels read them: float32, in padded tiles, with constants folded in.

Worked out in float64 and rounded once. 1/N̄ goes into the filters; the sums over m of the invariants go into the weights
that act on them, so that these act on squares of components; the first layer's spherical filter goes into its bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad, silu

from heliodor.kernels.gpu.so3lr.layout import Layout, component_slots, slots, spread
from heliodor.kernels.gpu.so3lr.radial import RadialTable
from heliodor.potentials.so3krates import SO3kratesConfig, SO3kratesLayer


@dataclass(frozen=True, eq=False)
class BranchWeights:
    """Filters of one branch: c(d) @ combine + bias + silu(ev² @ into + into_bias) @ out."""

    combine: Float[Tensor, "R F"]
    bias: Float[Tensor, "F"]
    into: Float[Tensor, "M S"]
    into_bias: Float[Tensor, "S"]
    out: Float[Tensor, "S F"]


@dataclass(frozen=True, eq=False)
class Projections:
    """Block-diagonal maps to q, k, v of the first branch and q, k of the second.

    Attributes:
        columns: of x that each block reads; -1 for none.
        weight: of each block.
        target, width: where its result goes and how much of it.
        first, parts, branch: blocks that read the same columns, for the way back.
    """

    columns: Int[Tensor, "B W"]
    weight: Float[Tensor, "B W W"]
    target: Int[Tensor, "B"]
    width: Int[Tensor, "B"]
    first: Int[Tensor, "G"]
    parts: Int[Tensor, "G"]
    branch: Int[Tensor, "G"]


@dataclass(frozen=True, eq=False)
class UpdateWeights:
    """Norms, residual network, exchange; see `so3krates_nodes.update`."""

    gain_1: Float[Tensor, "F"]
    shift_1: Float[Tensor, "F"]
    gain_2: Float[Tensor, "F"]
    shift_2: Float[Tensor, "F"]
    inner: Float[Tensor, "F F"]
    inner_bias: Float[Tensor, "F"]
    outer: Float[Tensor, "F F"]
    outer_bias: Float[Tensor, "F"]
    x_x: Float[Tensor, "F F"]
    ev_x: Float[Tensor, "M F"]
    x_bias: Float[Tensor, "F"]
    x_ev: Float[Tensor, "F M"]
    ev_ev: Float[Tensor, "M M"]
    ev_bias: Float[Tensor, "M"]


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """One layer."""

    table: RadialTable
    branches: tuple[BranchWeights, BranchWeights]
    projections: Projections
    update: UpdateWeights


def vector_at(values: Tensor, places: Tensor | None, size: int) -> Tensor:
    """A vector with its numbers moved to places of a longer one of zeros."""
    return spread(values.detach().double().unsqueeze(0), None, places, (1, size))[0]


def layer_weights(
    layer: SO3kratesLayer, table: RadialTable, config: SO3kratesConfig, layout: Layout, *, first: bool
) -> LayerWeights:
    """The parameters of a layer, on its device."""
    with torch.no_grad():
        branches = tuple(_branch(layer, table, config, layout, n, first=first) for n in (0, 1))
        return LayerWeights(
            table, (branches[0], branches[1]), _projections(layer, config, layout), _update(layer, config, layout)
        )


def _branch(
    layer: SO3kratesLayer, table: RadialTable, config: SO3kratesConfig, layout: Layout, n: int, *, first: bool
) -> BranchWeights:
    f, s = config.n_features, config.n_features // 4
    if n == 0:
        places, size = slots(f, config.n_heads, layout.head_width), layout.features
    else:
        places, size = slots(f, len(config.degrees), layout.degree_width), layout.second
    scale = 1.0 / config.average_neighbors
    hidden, hidden_bias = layer.spherical_hidden.weight.double(), layer.spherical_hidden.bias.double()
    rows = slice(n * s, (n + 1) * s)
    out = layer.spherical_out[n].double()
    bias = table.mean[n * f : (n + 1) * f] + layer.filter_bias[n, 0].double()
    if first:
        bias = bias + silu(hidden_bias[rows]) @ out
    rank = table.rank
    return BranchWeights(
        combine=spread(scale * table.combine[:, n * f : (n + 1) * f], None, places, (rank, size)).float(),
        bias=vector_at(scale * bias, places, size).float(),
        into=spread(
            layer.contract.double() @ hidden[rows].T,
            component_slots(config, layout),
            None,
            (layout.components, layout.hidden),
        ).float(),
        into_bias=vector_at(hidden_bias[rows], None, layout.hidden).float(),
        out=spread(scale * out, None, places, (layout.hidden, size)).float(),
    )


def _projections(layer: SO3kratesLayer, config: SO3kratesConfig, layout: Layout) -> Projections:
    f, heads, degrees = config.n_features, config.n_heads, len(config.degrees)
    wide = max(layout.head_width, layout.degree_width)
    places = slots(f, heads, layout.head_width)
    columns: list[Tensor] = []
    weights: list[Tensor] = []
    target: list[int] = []
    width: list[int] = []
    first: list[int] = []
    parts: list[int] = []
    for weight, n, step, start, room in (
        (layer.project_x.double(), 3, layout.head_width, 0, layout.features),
        (layer.project_ev.double(), 2, layout.degree_width, 3 * layout.features, layout.second),
    ):
        size = weight.shape[1]
        for block in range(len(weight)):
            first.append(len(target))
            parts.append(n)
            # a first-branch head's padding is written to on the way back, as zeros: nobody else would
            read = places[block * size : (block + 1) * size]
            if n == 3:
                read = block * layout.head_width + torch.arange(layout.head_width)
            for part in range(n):
                columns.append(pad(read, (0, wide - len(read)), value=-1))
                weights.append(spread(weight[block, :, part * size : (part + 1) * size], None, None, (wide, wide)))
                target.append(start + part * room + block * step)
                width.append(step)
    device = layer.project_x.device

    def whole(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=device)

    return Projections(
        columns=torch.stack(columns).int().to(device),
        weight=torch.stack(weights).float(),
        target=whole(target),
        width=whole(width),
        first=whole(first),
        parts=whole(parts),
        branch=whole([0] * heads + [1] * degrees),
    )


def _update(layer: SO3kratesLayer, config: SO3kratesConfig, layout: Layout) -> UpdateWeights:
    f, x, m = config.n_features, layout.features, layout.components
    places = slots(f, config.n_heads, layout.head_width)
    exchange, bias = layer.exchange.weight.double().T, layer.exchange.bias.double()
    components = component_slots(config, layout)
    contract, repeat = layer.contract.double(), layer.repeat.double()

    def row(values: Tensor) -> Tensor:
        return vector_at(values, places, x).float()

    def square(values: Tensor) -> Tensor:
        return spread(values.double(), places, places, (x, x)).float()

    return UpdateWeights(
        gain_1=row(layer.norm_1.weight),
        shift_1=row(layer.norm_1.bias),
        gain_2=row(layer.norm_2.weight),
        shift_2=row(layer.norm_2.bias),
        inner=square(layer.update.hidden.weight.T),
        inner_bias=row(layer.update.hidden.bias),
        outer=square(layer.update.out.weight.T),
        outer_bias=row(layer.update.out.bias),
        x_x=square(exchange[:f, :f]),
        ev_x=spread(contract @ exchange[f:, :f], components, places, (m, x)).float(),
        x_bias=row(bias[:f]),
        x_ev=spread(exchange[:f, f:] @ repeat, places, components, (x, m)).float(),
        ev_ev=spread(contract @ exchange[f:, f:] @ repeat, components, components, (m, m)).float(),
        ev_bias=vector_at(bias[f:] @ repeat, components, m).float(),
    )
