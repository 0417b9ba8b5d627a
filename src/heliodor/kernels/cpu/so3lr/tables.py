"""What the compiled SO3LR needs of a model, worked out once in float64: splines, matrices both ways round."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import silu, softplus

from heliodor.kernels.cpu.functions import packed
from heliodor.kernels.cpu.so3lr.first import FirstLayer
from heliodor.kernels.cpu.so3lr.harmonics import COMPONENTS
from heliodor.kernels.cpu.so3lr.long_range import PairConstants, pair_constants
from heliodor.kernels.cpu.splines import hermite, with_slopes
from heliodor.potentials.angular import degree_sizes
from heliodor.potentials.radial import polynomial_cutoff
from heliodor.potentials.so3krates import SO3krates, SO3kratesLayer
from heliodor.potentials.so3lr import SO3LR

SPLINE_ERROR = {torch.float32: 2e-7, torch.float64: 1e-11}
"""Largest error of a radial filter, as a fraction of the largest value of them all."""


class EdgesOfLayer(NamedTuple):
    """F features, H heads, L degrees with M components (a multiple of 8, the rest zeros), S = F/4.

    Matrices are `packed`; their shapes are given as they were before.

    Attributes:
        table, scale: radial part of both filters [knots, 2, 2F], with all that is constant; knots per Å.
        spherical: whether there is a part that depends on ev (not so in the first layer).
        contract: [M, 16] from squares of components to invariants of L degrees; contract_back [L, M up to 16's
            multiple], twice its transpose.
        spherical_hidden, spherical_bias, spherical_out: [L, 2S], [2S], [2, S, F]; *_back transposed, to 16 columns.
        norms, parity: [L], 1/√(2l+1) and (-1)^l.
        first: [L + 1], first component of each degree.
    """

    table: np.ndarray
    scale: float
    spherical: bool
    heads: int
    contract: np.ndarray
    contract_back: np.ndarray
    spherical_hidden: np.ndarray
    spherical_hidden_back: np.ndarray
    spherical_bias: np.ndarray
    spherical_out: np.ndarray
    spherical_back: np.ndarray
    norms: np.ndarray
    parity: np.ndarray
    first: np.ndarray


class NodesOfLayer(NamedTuple):
    """As `EdgesOfLayer`.

    Attributes:
        project_x, project_ev: [H, 3, F/H, F/H], [L, 2, F/L, F/L]; *_back transposed.
        norm_1, norm_1_bias, norm_2, norm_2_bias: [F].
        update_hidden, update_out: [F, F] with biases; *_back transposed.
        exchange: [F + L, F + 16], its bias [F + 16]; exchange_back [F + L, F + 16].
    """

    heads: int
    norms: np.ndarray
    first: np.ndarray
    project_x: np.ndarray
    project_x_back: np.ndarray
    project_ev: np.ndarray
    project_ev_back: np.ndarray
    norm_1: np.ndarray
    norm_1_bias: np.ndarray
    norm_2: np.ndarray
    norm_2_bias: np.ndarray
    update_hidden: np.ndarray
    update_hidden_bias: np.ndarray
    update_hidden_back: np.ndarray
    update_out: np.ndarray
    update_out_bias: np.ndarray
    update_out_back: np.ndarray
    exchange: np.ndarray
    exchange_bias: np.ndarray
    exchange_back: np.ndarray


class Layer(NamedTuple):
    """A layer, and its M."""

    edges: EdgesOfLayer
    nodes: NodesOfLayer
    components: int


class Heads(NamedTuple):
    """Readouts: hidden units of energy, charge and ratio side by side [F, 2F + n], last weights by element [Z, n].

    Matrices are `packed`.
    """

    hidden: np.ndarray
    hidden_bias: np.ndarray
    hidden_back: np.ndarray
    energy: np.ndarray
    energy_bias: float
    energy_scale: np.ndarray
    energy_offset: np.ndarray
    charge: np.ndarray
    charge_bias: float
    charge_offset: np.ndarray
    ratio: np.ndarray
    ratio_offset: np.ndarray


class Repulsion(NamedTuple):
    """ZBL: exponents, coefficients that add up to 1, Z^p and Z by element, the inverse length, where it is off (Å)."""

    exponents: np.ndarray
    coefficients: np.ndarray
    power: np.ndarray
    charge: np.ndarray
    inverse: float
    switch_off: float


class FirstExact(NamedTuple):
    """Of the first layer, float64, at knots: radial filters [knots, 2, 2F], the cutoff function over the average number
    of neighbours [knots, 2], values and slopes per knot distance; projections to q, k, v and to q, k [F, 5F].
    """

    table: Tensor
    cutoff: Tensor
    scale: float
    project: Tensor
    heads: int
    degrees: int


class Tables(NamedTuple):
    """Of a whole model."""

    layers: tuple[Layer, ...]
    heads: Heads
    repulsion: Repulsion
    pairs: PairConstants
    spline_error: float
    first: FirstExact


def tables(model: SO3LR, dtype: torch.dtype) -> Tables:
    """Work out the tables in float64 and round them once."""
    exact = copy.deepcopy(model).cpu().double()
    exact.use_kernel(None, "reference")
    real = np.float32 if dtype == torch.float32 else np.float64
    network = exact.network
    layers, errors = [], []
    for t, module in enumerate(network.layers):
        made, error = _layer(network, cast(SO3kratesLayer, module), t > 0, dtype)
        layers.append(made)
        errors.append(error)
    first = _first(network, cast(SO3kratesLayer, network.layers[0]), dtype)
    return Tables(
        tuple(layers), _heads(exact, real), _repulsion(exact), pair_constants(exact, real), max(errors), first
    )


def _radial(network: SO3krates, layer: SO3kratesLayer, spherical: bool) -> Callable[[Tensor], Tensor]:
    """What of both filters [n, 2F] depends on the distances [n] alone."""
    f = layer.n_features

    def radial(d: Tensor) -> Tensor:
        hidden = silu(layer.radial_hidden(network.basis(d))).view(len(d), 2, f).transpose(0, 1)
        bias: Tensor = layer.filter_bias
        if not spherical:
            angular = layer.spherical_hidden.bias.view(2, 1, -1)
            bias = torch.baddbmm(bias, silu(angular), layer.spherical_out)
        return torch.baddbmm(bias.expand(2, len(d), f), hidden, layer.radial_out).transpose(0, 1).reshape(len(d), 2 * f)

    return radial


def _first(network: SO3krates, layer: SO3kratesLayer, dtype: torch.dtype) -> FirstExact:
    config = network.config
    f, heads, degrees = layer.n_features, layer.n_heads, layer.n_degrees
    # a product of three functions: finer than each of them needs
    table, scale, _ = hermite(_radial(network, layer, False), config.cutoff, 0.1 * SPLINE_ERROR[dtype])
    knots = torch.linspace(0.0, config.cutoff, len(table), dtype=torch.float64)
    values, slopes = with_slopes(lambda d: polynomial_cutoff(d, config.cutoff).unsqueeze(-1), knots)
    cutoff = torch.cat([values, slopes / scale], dim=1) / config.average_neighbors
    project = torch.zeros(f, 5 * f, dtype=torch.float64)
    with torch.no_grad():
        for weight, blocks, parts, at in ((layer.project_x, heads, 3, 0), (layer.project_ev, degrees, 2, 3)):
            width = f // blocks
            for h in range(blocks):
                rows = slice(h * width, (h + 1) * width)
                for part in range(parts):
                    columns = slice((at + part) * f + h * width, (at + part) * f + (h + 1) * width)
                    project[rows, columns] = weight[h, :, part * width : (part + 1) * width]
    return FirstExact(table, cutoff, scale, project, heads, degrees)


def first_layer(first: FirstExact, x: Float[Tensor, "C F"], real: type) -> FirstLayer:
    """Attention between classes of atoms with these features before the first layer."""
    f, c = x.shape[1], len(x)
    q, k, v, q_ev, k_ev = torch.split(x.double() @ first.project, f, dim=1)
    both = []
    for queries, keys, filters, blocks in (
        (q, k, first.table[:, :, :f], first.heads),
        (q_ev, k_ev, first.table[:, :, f:], first.degrees),
    ):
        product = (queries.unsqueeze(1) * keys.unsqueeze(0)).view(c, c, blocks, f // blocks)
        both.append(torch.einsum("abhw,nshw->abnsh", product, filters.view(-1, 2, blocks, f // blocks)))
    one_way = torch.cat(both, dim=-1)
    cut, cut_slope = first.cutoff[:, :1], first.cutoff[:, 1:]
    value, slope = one_way[:, :, :, 0] * cut, one_way[:, :, :, 1] * cut + one_way[:, :, :, 0] * cut_slope
    one_way = torch.stack([value, slope], dim=3)
    wide = 2 * one_way.shape[-1]
    table = torch.zeros(c, c, len(first.table), 2, -(-wide // 8) * 8, dtype=torch.float64)
    table[..., :wide] = torch.cat([one_way, one_way.transpose(0, 1)], dim=-1)
    return FirstLayer(table.numpy().astype(real), first.scale, np.ascontiguousarray(v.numpy(), dtype=real))


def _layer(network: SO3krates, layer: SO3kratesLayer, spherical: bool, dtype: torch.dtype) -> tuple[Layer, float]:
    real = np.float32 if dtype == torch.float32 else np.float64

    def rounded(x: Tensor) -> np.ndarray:
        return np.ascontiguousarray(x.detach().numpy(), dtype=real)

    def matrix(x: Tensor) -> np.ndarray:
        return packed(rounded(x))

    f, heads, degrees = layer.n_features, layer.n_heads, layer.n_degrees
    width, wide = f // heads, f // degrees

    table, scale, error = hermite(_radial(network, layer, spherical), network.config.cutoff, SPLINE_ERROR[dtype])
    sizes = degree_sizes(network.config.degrees)
    first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    components = -(-int(first[-1]) // 8) * 8
    assert components <= COMPONENTS
    contract = torch.zeros(components, 16, dtype=torch.float64)
    contract_back = torch.zeros(degrees, -(-components // 16) * 16, dtype=torch.float64)
    for n, size in enumerate(sizes):
        contract[first[n] : first[n + 1], n] = 1.0 / math.sqrt(size)
        contract_back[n, first[n] : first[n + 1]] = 2.0 / math.sqrt(size)
    hidden_back = torch.zeros(len(layer.spherical_hidden.bias), 16, dtype=torch.float64)
    hidden_back[:, :degrees] = layer.spherical_hidden.weight
    exchange = torch.zeros(f + degrees, f + 16, dtype=torch.float64)
    exchange[:, : f + degrees] = layer.exchange.weight.T
    exchange_back = torch.zeros_like(exchange)
    exchange_back[:, : f + degrees] = layer.exchange.weight
    exchange_bias = torch.zeros(f + 16, dtype=torch.float64)
    exchange_bias[: f + degrees] = layer.exchange.bias
    norms = (1.0 / np.sqrt(sizes)).astype(real)
    edges = EdgesOfLayer(
        table=rounded(table),
        scale=scale,
        spherical=spherical,
        heads=heads,
        contract=matrix(contract),
        contract_back=matrix(contract_back),
        spherical_hidden=matrix(layer.spherical_hidden.weight.T),
        spherical_hidden_back=matrix(hidden_back),
        spherical_bias=rounded(layer.spherical_hidden.bias),
        spherical_out=matrix(layer.spherical_out),
        spherical_back=matrix(layer.spherical_out.transpose(1, 2)),
        norms=norms,
        parity=((-1.0) ** np.array(network.config.degrees)).astype(real),
        first=first,
    )
    nodes = NodesOfLayer(
        heads=heads,
        norms=norms,
        first=first,
        project_x=matrix(layer.project_x.view(heads, width, 3, width).transpose(1, 2)),
        project_x_back=matrix(layer.project_x.view(heads, width, 3, width).permute(0, 2, 3, 1)),
        project_ev=matrix(layer.project_ev.view(degrees, wide, 2, wide).transpose(1, 2)),
        project_ev_back=matrix(layer.project_ev.view(degrees, wide, 2, wide).permute(0, 2, 3, 1)),
        norm_1=rounded(layer.norm_1.weight),
        norm_1_bias=rounded(layer.norm_1.bias),
        norm_2=rounded(layer.norm_2.weight),
        norm_2_bias=rounded(layer.norm_2.bias),
        update_hidden=matrix(layer.update.hidden.weight.T),
        update_hidden_bias=rounded(layer.update.hidden.bias),
        update_hidden_back=matrix(layer.update.hidden.weight),
        update_out=matrix(layer.update.out.weight.T),
        update_out_bias=rounded(layer.update.out.bias),
        update_out_back=matrix(layer.update.out.weight),
        exchange=matrix(exchange),
        exchange_bias=rounded(exchange_bias),
        exchange_back=matrix(exchange_back),
    )
    return Layer(edges, nodes, components), error


def _heads(model: SO3LR, real: type) -> Heads:
    def rounded(x: Tensor) -> np.ndarray:
        return np.ascontiguousarray(x.detach().numpy(), dtype=real)

    parts = (model.energy_head, model.charge_head, model.hirshfeld_head)
    hidden = torch.cat([part.hidden.weight for part in parts])
    weight = model.hirshfeld_weight / model.config.n_hirshfeld**0.5
    last = model.hirshfeld_head.out
    return Heads(
        hidden=packed(rounded(hidden.T)),
        hidden_bias=rounded(torch.cat([part.hidden.bias for part in parts])),
        hidden_back=packed(rounded(hidden)),
        energy=rounded(model.energy_head.out.weight[0]),
        energy_bias=float(model.energy_head.out.bias),
        energy_scale=rounded(model.energy_scale),
        energy_offset=rounded(model.energy_offset),
        charge=rounded(model.charge_head.out.weight[0]),
        charge_bias=float(model.charge_head.out.bias),
        charge_offset=rounded(model.charge_offset),
        # the last map of the ratios and the weights of elements are one map for each element
        ratio=rounded(weight @ last.weight),
        ratio_offset=rounded(model.hirshfeld_offset + weight @ last.bias),
    )


def _repulsion(model: SO3LR) -> Repulsion:
    zbl = model.zbl
    coefficients = softplus(zbl.coefficients)
    numbers = torch.arange(model.config.network.n_elements, dtype=torch.float64)
    assert zbl.switch_off is not None
    return Repulsion(
        softplus(zbl.exponents).detach().numpy(),
        (coefficients / coefficients.sum()).detach().numpy(),
        (numbers ** softplus(zbl.power)).detach().numpy(),
        numbers.numpy(),
        float(softplus(zbl.inverse_length)),
        zbl.switch_off,
    )
