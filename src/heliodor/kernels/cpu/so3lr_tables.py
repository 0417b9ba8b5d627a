"""What the compiled SO3LR needs of a model, worked out once in float64: splines, matrices both ways round."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from heliodor.kernels.cpu.functions import packed
from heliodor.kernels.cpu.harmonics import COMPONENTS
from heliodor.kernels.cpu.long_range import PairConstants, pair_constants
from heliodor.kernels.cpu.splines import hermite
from heliodor.potentials.angular import degree_sizes
from heliodor.potentials.so3krates import SO3krates, SO3kratesLayer
from heliodor.potentials.so3lr import SO3LR

SPLINE_ERROR = {torch.float32: 2e-7, torch.float64: 1e-11}
"""Largest error of a radial filter, as a fraction of the largest value of them all."""


class Layer(NamedTuple):
    """A layer: F features, H heads, L degrees with M components (a multiple of 8, the rest zeros), S = F/4.

    Matrices are `packed`; their shapes are given as they were before.

    Attributes:
        table, scale: radial part of both filters [knots, 2, 2F], with all that is constant; knots per Å.
        spherical: whether there is a part that depends on ev (not so in the first layer).
        spherical_hidden, spherical_bias, spherical_out: [L, 2S], [2S], [2, S, F]; spherical_back [2, F, S].
        project_x, project_ev: [H, 3, F/H, F/H], [L, 2, F/L, F/L]; *_back transposed.
        norm_1, norm_1_bias, norm_2, norm_2_bias: [F].
        update_hidden, update_out: [F, F] with biases; *_back transposed.
        exchange: [F + L, F + 16], its bias [F + 16]; exchange_back [F + L, F + 16].
        degree, norm: [M], the degree's place and 1/√(2l+1) of each component; norms, parity: [L].
        first: [L + 1], first component of each degree.
    """

    table: np.ndarray
    scale: float
    spherical: bool
    heads: int
    spherical_hidden: np.ndarray
    spherical_bias: np.ndarray
    spherical_out: np.ndarray
    spherical_back: np.ndarray
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
    degree: np.ndarray
    norm: np.ndarray
    norms: np.ndarray
    parity: np.ndarray
    first: np.ndarray


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


class Tables(NamedTuple):
    """Of a whole model."""

    layers: tuple[Layer, ...]
    heads: Heads
    repulsion: Repulsion
    pairs: PairConstants
    spline_error: float


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
    return Tables(tuple(layers), _heads(exact, real), _repulsion(exact), pair_constants(exact, real), max(errors))


def _layer(network: SO3krates, layer: SO3kratesLayer, spherical: bool, dtype: torch.dtype) -> tuple[Layer, float]:
    real = np.float32 if dtype == torch.float32 else np.float64

    def rounded(x: Tensor) -> np.ndarray:
        return np.ascontiguousarray(x.detach().numpy(), dtype=real)

    def matrix(x: Tensor) -> np.ndarray:
        return packed(rounded(x))

    f, heads, degrees = layer.n_features, layer.n_heads, layer.n_degrees
    width, wide = f // heads, f // degrees

    def radial(d: Tensor) -> Tensor:
        hidden = silu(layer.radial_hidden(network.basis(d))).view(len(d), 2, f).transpose(0, 1)
        bias = layer.filter_bias
        if not spherical:
            angular = layer.spherical_hidden.bias.view(2, 1, -1)
            bias = torch.baddbmm(bias, silu(angular), layer.spherical_out)
        return torch.baddbmm(bias.expand(2, len(d), f), hidden, layer.radial_out).transpose(0, 1).reshape(len(d), 2 * f)

    table, scale, error = hermite(radial, network.config.cutoff, SPLINE_ERROR[dtype])
    sizes = degree_sizes(network.config.degrees)
    first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    components = -(-int(first[-1]) // 8) * 8
    degree, norm = np.zeros(components, np.int64), np.zeros(components)
    for n, size in enumerate(sizes):
        degree[first[n] : first[n + 1]] = n
        norm[first[n] : first[n + 1]] = 1.0 / math.sqrt(size)
    assert components <= COMPONENTS
    exchange = torch.zeros(f + degrees, f + 16, dtype=torch.float64)
    exchange[:, : f + degrees] = layer.exchange.weight.T
    exchange_back = torch.zeros_like(exchange)
    exchange_back[:, : f + degrees] = layer.exchange.weight
    exchange_bias = torch.zeros(f + 16, dtype=torch.float64)
    exchange_bias[: f + degrees] = layer.exchange.bias
    made = Layer(
        table=rounded(table),
        scale=scale,
        spherical=spherical,
        heads=heads,
        spherical_hidden=rounded(layer.spherical_hidden.weight.T),
        spherical_bias=rounded(layer.spherical_hidden.bias),
        spherical_out=matrix(layer.spherical_out),
        spherical_back=matrix(layer.spherical_out.transpose(1, 2)),
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
        degree=degree,
        norm=norm.astype(real),
        norms=(1.0 / np.sqrt(sizes)).astype(real),
        parity=((-1.0) ** np.array(network.config.degrees)).astype(real),
        first=first,
    )
    return made, error


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
