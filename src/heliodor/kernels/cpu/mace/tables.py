"""What the MACE kernel needs of a model, worked out once: folded linear maps, splines, sparse couplings."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from heliodor.kernels.cpu.splines import hermite
from heliodor.potentials.couplings import wigner_3j
from heliodor.potentials.mace import MACE, Layer, Product
from heliodor.potentials.radial import bessel_basis

SPLINE_ERROR = {torch.float32: 3e-7, torch.float64: 1e-10}
"""Largest error of a radial function, as a fraction of the largest value of them all."""


@dataclass(frozen=True)
class Convolution:
    """One layer's convolution: see `heliodor.kernels.cpu.mace.loops.convolve` for the arrays.

    Attributes:
        blocks: for each path, its first and last component and the degree it leads to.
        spline_error: largest error of the splines, as a fraction of the largest radial function.
    """

    table: np.ndarray
    scale: float
    ways: np.ndarray
    entries: np.ndarray
    values: np.ndarray
    blocks: tuple[tuple[int, int, int], ...]
    spline_error: float


@dataclass(frozen=True)
class Products:
    """Symmetric products to several degrees at once: see `heliodor.kernels.cpu.mace.products.multiply`."""

    pairs: np.ndarray
    terms: np.ndarray
    coefficients: np.ndarray
    components: int


def convolution(layer: Layer, frequency: Tensor, dtype: torch.dtype) -> Convolution:
    """Tables of a layer, from float64 parameters."""
    real = np.float32 if dtype == torch.float32 else np.float64
    table, scale, error = splines(layer, frequency, dtype)
    ways: list[tuple[int, int, int]] = []
    entries: list[tuple[int, int, int]] = []
    values: list[float] = []
    blocks: list[tuple[int, int, int]] = []
    for p, (l1, l2, l3) in enumerate(layer.paths):
        first = len(ways)
        blocks.append((first, first + 2 * l3 + 1, l3))
        ways += [(p, l1, l2 * l2 + m if l1 == 0 else 0) for m in range(2 * l3 + 1)]
        if l1 == 0:
            continue
        coupling = math.sqrt(2 * l3 + 1) * wigner_3j(l1, l2, l3)
        for m1, m2, m3 in zip(*np.nonzero(np.abs(coupling) > 1e-12), strict=True):
            entries.append((first + int(m3), int(m1), l2 * l2 + int(m2)))
            values.append(float(coupling[m1, m2, m3]))
    return Convolution(
        table.astype(real),
        scale,
        np.array(ways, np.int64),
        # unsigned: negative indices would have to be looked for
        np.array(entries, np.uint64).reshape(-1, 3),
        np.array(values, real),
        tuple(blocks),
        error,
    )


def splines(layer: Layer, frequency: Tensor, dtype: torch.dtype) -> tuple[np.ndarray, float, float]:
    """Splines of the radial functions: table [knots, 2, P K], knots per Å, relative error."""
    config = layer.config

    def functions(r: Tensor) -> Tensor:
        return layer.radial_functions(bessel_basis(r, frequency, config.cutoff, config.cutoff_power)).flatten(1)

    table, scale, error = hermite(functions, config.cutoff, SPLINE_ERROR[dtype])
    return table.numpy(), scale, error


def products(layer: Layer, dtype: torch.dtype) -> Products:
    """The products of a layer to all its degrees, as one list of terms."""
    pairs: dict[tuple[int, int], int] = {}
    terms: list[tuple[int, int, int]] = []
    rows: list[Tensor] = []
    first = 0
    for module in layer.products:
        assert isinstance(module, Product)
        for order, weight in enumerate(module.weights, start=1):
            factors = module.get_buffer(f"factors_{order}").tolist()
            coefficients = module.get_buffer(f"coefficients_{order}")
            for chosen, coupling in zip(factors, coefficients, strict=True):
                for m in range(coupling.shape[0]):
                    if not bool(coupling[m].abs().max() > 1e-12):
                        continue
                    two = -1 if order == 1 else pairs.setdefault((chosen[-2], chosen[-1]), len(pairs))
                    terms.append((first + m, -1 if order == 2 else chosen[0], two))
                    rows.append(torch.einsum("p,zpk->zk", coupling[m], weight))
        first += 2 * module.degree + 1
    # by pair, so that what is read was read just before
    order_of = sorted(range(len(terms)), key=lambda n: (terms[n][2], terms[n][1], terms[n][0]))
    stacked = torch.stack([rows[n] for n in order_of], dim=1)
    return Products(
        np.array(list(pairs), np.int64).reshape(-1, 2),
        np.array([terms[n] for n in order_of], np.int64),
        stacked.detach().to(dtype).contiguous().numpy(),
        first,
    )


@dataclass(frozen=True)
class Tables:
    """Folded maps of a two-layer MACE, of the model's dtype (Batatia et al. 2022; rewrites exact but for rounding).

    Attributes:
        sender: [Z, K], what an element sends in the first layer.
        mix: first layer, for each degree [Z, K, K]; second layer, for each path [K, K].
        up: for each degree [K, K], from the first products to what is sent in the second layer.
        read: [K], from the first products to the first readout.
        skip: [Z, K, H], from the first products to the last hidden units.
        hidden, out: [K, H] and [H], from the second products to the last readout.
    """

    convolutions: tuple[Convolution, Convolution]
    products: tuple[Products, Products]
    sender: Tensor
    mix: tuple[list[Tensor], list[Tensor]]
    up: list[Tensor]
    read: Tensor
    skip: Tensor
    hidden: Tensor
    out: Tensor
    gate: float
    scale: float
    shift: float


def tables(model: MACE, dtype: torch.dtype) -> Tables:
    """Work out the tables in float64 and round them once."""
    exact = copy.deepcopy(model).double().cpu()
    config, network = exact.config, exact.network
    k, n = config.channels, len(config.elements)
    root, all_species = math.sqrt(k), math.sqrt(k * n)
    first, second = cast(Layer, network.layers[0]), cast(Layer, network.layers[1])
    with torch.no_grad():
        out = [w / root for w in first.out]
        last_hidden = exact.last_hidden / root
        mix_1 = [
            torch.einsum("uv,zvw->zuw", m, s) / (first.neighbors * root * all_species)
            for m, s in zip(first.mix, first.skip, strict=True)
        ]
        mix_2 = []
        for p, (_, _, degree) in enumerate(second.paths):
            ways = second.ways[degree]
            block = second.mix[degree].view(len(ways), k, k)[ways.index(p)]
            mix_2.append(block / (second.neighbors * math.sqrt(k * len(ways))))

        def rounded(x: Tensor) -> Tensor:
            return x.to(dtype).contiguous()

        return Tables(
            (convolution(first, network.frequency, dtype), convolution(second, network.frequency, dtype)),
            (products(first, dtype), products(second, dtype)),
            rounded(network.embedding / math.sqrt(n) @ first.up[0] / root),
            ([rounded(m) for m in mix_1], [rounded(m) for m in mix_2]),
            [rounded(a @ b / root) for a, b in zip(out, second.up, strict=True)],
            rounded(out[0] @ exact.readouts[0] / root),
            rounded(torch.einsum("uv,zvw,wh->zuh", out[0], second.skip[0] / all_species, last_hidden)),
            rounded(second.out[0] / root @ last_hidden),
            rounded(exact.last_out / math.sqrt(config.readout_hidden)),
            config.gate_scale,
            float(exact.scale),
            float(exact.shift),
        )
