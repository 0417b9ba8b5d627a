"""The radial filters of a layer of SO3krates as combinations of a few functions of distance, tabulated.

The 2F filters of a layer are one smooth curve in a space of 2F dimensions, and curves of that kind lie close to a
subspace of few: singular values of the sampled curve fall by ten for every two or three dimensions. A pass over an
edge then looks 32 functions up instead of 2F (512 bytes instead of 4 KiB from the second-level cache), and the products
that lead from them to the filters go the way of the spherical part's, on tensor cores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.potentials.radial import polynomial_cutoff
from heliodor.potentials.so3krates import SO3krates, SO3kratesLayer

NEAREST = 0.6
"""Å: bonds do not become shorter, and full accuracy is not sought below."""
TOLERANCE = 1e-6
"""What of the curve may be left out, of its largest principal value."""
INTERVALS = 1024
_WEIGHT_BELOW = 1e-3
_RANKS = (32, 64)


@dataclass(frozen=True, eq=False)
class RadialTable:
    """w(d) = mean + c(d) @ combine, c by cubic Hermite splines.

    Attributes:
        powers: coefficients of c in t, t², t³, 0 <= t < 1 within each interval from 0 to the cutoff. They are worked
            out in float64: differences of float32 values at neighbouring knots would leave slopes with four digits.
        combine: float64, the two branches side by side.
        mean: float64.
        per_angstrom: intervals per Å.
        error: largest deviation of f_c w for d > 0.6 Å over the root mean square of f_c w.
        slope_error: likewise of f_c w'.
    """

    powers: Float[Tensor, "K 4 R"]
    combine: Float[Tensor, "R W"]
    mean: Float[Tensor, "W"]
    per_angstrom: float
    error: float
    slope_error: float

    @property
    def rank(self) -> int:
        """Functions in the table."""
        return self.powers.shape[2]

    @property
    def intervals(self) -> int:
        """Pieces of the splines."""
        return self.powers.shape[0]


def radial_filters(
    network: SO3krates, layer: int, d: Float[Tensor, "E"]
) -> tuple[Float[Tensor, "E W"], Float[Tensor, "E W"]]:
    """The radial part of a layer's filters, without their bias, and its derivative by d, in the dtype of d."""
    block, basis = network.layers[layer], network.basis
    assert isinstance(block, SO3kratesLayer)
    b = basis(d)
    x = torch.exp(-basis.gamma * d).unsqueeze(1)
    k = basis.power.to(d.dtype)
    b_slope = basis.gamma * b * ((len(k) - 1 - k) * x / (1.0 - x) - k)
    weight, out = block.radial_hidden.weight.to(d.dtype), block.radial_out.to(d.dtype)
    z = (b @ weight.T + block.radial_hidden.bias.to(d.dtype)).view(len(d), 2, -1)
    s = z.sigmoid()
    z_slope = s * (1.0 + z * (1.0 - s)) * (b_slope @ weight.T).view(z.shape)
    value, slope = (torch.einsum("ebf,bfg->ebg", part, out).flatten(1) for part in (z * s, z_slope))
    return value, slope


def tabulate(network: SO3krates) -> list[RadialTable]:
    """Functions, intervals and combinations that keep f_c w and its slope, layer by layer, of one rank.

    Everything is float64 until it is stored.
    """
    layers = range(len(network.layers))
    found = [_directions(network, layer) for layer in layers]
    rank = max(needed for *_, needed in found)
    tables = []
    for layer, (mean, directions, _) in enumerate(found):
        combine = directions[:rank]
        combine = torch.nn.functional.pad(combine, (0, 0, 0, rank - len(combine)))
        tables.append(_splines(network, layer, combine, mean))
    return tables


def _directions(network: SO3krates, layer: int) -> tuple[Tensor, Tensor, int]:
    """The curve's mean, its principal directions, and how many of them are needed."""
    cutoff = network.config.cutoff
    sample = torch.linspace(0.0, cutoff, 2001, dtype=torch.float64, device=network.element.device)[1:]
    curve, _ = radial_filters(network, layer, sample)
    mean = curve.mean(0)
    weight = torch.where(sample < NEAREST, _WEIGHT_BELOW, 1.0).unsqueeze(1)
    _, strength, directions = torch.linalg.svd(weight * (curve - mean), full_matrices=False)
    tail = strength.square().flip(0).cumsum(0).flip(0).sqrt() / strength[0].clamp_min(1e-300)
    needed = next((r for r in _RANKS if r >= len(tail) or float(tail[r]) < TOLERANCE), _RANKS[-1])
    return mean, directions, needed


def _splines(network: SO3krates, layer: int, combine: Tensor, mean: Tensor) -> RadialTable:
    cutoff = network.config.cutoff
    at = torch.linspace(0.0, cutoff, INTERVALS + 1, dtype=torch.float64, device=combine.device)
    step = cutoff / INTERVALS
    # Bernstein's basis is defined as 0 at d = 0, which is no limit
    w, w_slope = radial_filters(network, layer, at.clamp_min(1e-4))
    c, slope = (w - mean) @ combine.T, w_slope @ combine.T
    v0, v1, s0, s1 = c[:-1], c[1:], step * slope[:-1], step * slope[1:]
    powers = [v0, s0, 3.0 * (v1 - v0) - 2.0 * s0 - s1, 2.0 * (v0 - v1) + s0 + s1]
    table = torch.stack(powers, dim=1).float().contiguous()
    made = RadialTable(table, combine, mean, 1.0 / step, 0.0, 0.0)
    # between the knots, where splines are worst
    middle = torch.linspace(NEAREST, cutoff - 0.5 * step, 2 * INTERVALS + 1, dtype=torch.float64, device=combine.device)
    error, slope_error = _errors(network, layer, made, middle)
    return RadialTable(table, combine, mean, 1.0 / step, error, slope_error)


def look_up(table: RadialTable, d: Float[Tensor, "E"]) -> tuple[Float[Tensor, "E W"], Float[Tensor, "E W"]]:
    """The filters and their derivatives as the kernels make them, in the dtype of d."""
    x = d * table.per_angstrom
    k = x.long().clamp(0, table.intervals - 1)
    t = (x - k).unsqueeze(1)
    a0, a1, a2, a3 = table.powers.to(d.dtype)[k].unbind(1)
    combine = table.combine.to(d.dtype)
    value = table.mean.to(d.dtype) + (a0 + t * (a1 + t * (a2 + t * a3))) @ combine
    return value, table.per_angstrom * (a1 + t * (2.0 * a2 + 3.0 * t * a3)) @ combine


def _errors(network: SO3krates, layer: int, table: RadialTable, d: Tensor) -> tuple[float, float]:
    fc = polynomial_cutoff(d, network.config.cutoff).unsqueeze(1)
    made, true = look_up(table, d), radial_filters(network, layer, d)
    errors = [
        float((fc * (a - b)).abs().max() / (fc * b).square().mean().sqrt()) for a, b in zip(made, true, strict=True)
    ]
    return errors[0], errors[1]
