"""SpookyNet's radial basis as cubic splines: any of its kinds, its cutoff function included, in one small table."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.potentials.radial import RadialBasis

INTERVALS = 512
"""Of the splines between 0 and the cutoff: from 0.4 Å on values of all bases within 6e-8, and slopes within 5e-6 of 1/Å
or of the steepest, if that is more (tested). Twice as many would not stay in a multiprocessor's cache."""

_NEAREST = 1e-4
"""Å; the bases are not defined at 0, and no two atoms come as close."""


@dataclass(frozen=True, eq=False)
class BasisTable:
    """b(d) = Σ_n coefficients[m, n] t^n, m + t = d · per_length; exact in value and slope at the knots.

    Coefficients and not knots: in float32 a slope is then not a difference of values nearly the same.

    Attributes:
        coefficients: of the powers of t; columns beyond the number of functions are zero.
        per_length: knots per Å.
        cutoff: Å.
    """

    coefficients: Float[Tensor, "M 4 K"]
    per_length: float
    cutoff: float

    @property
    def columns(self) -> int:
        return self.coefficients.shape[2]


def basis_table(radial: RadialBasis, dtype: torch.dtype, intervals: int = INTERVALS) -> BasisTable:
    """Table of a basis, worked out in float64, its functions padded to a power of two and to 16 at least."""
    # kernels get it in float32: the knots stand where that number puts them
    per_length = float(torch.tensor(intervals / radial.cutoff, dtype=torch.float32))
    values, slopes = _knots(radial, intervals, per_length)
    step = 1.0 / per_length
    v0, v1, s0, s1 = values[:-1], values[1:], slopes[:-1] * step, slopes[1:] * step
    powers = torch.stack([v0, s0, 3.0 * (v1 - v0) - 2.0 * s0 - s1, 2.0 * (v0 - v1) + s0 + s1], dim=1)
    n = powers.shape[2]
    columns = max(16, 1 << (n - 1).bit_length())
    table = torch.zeros(intervals, 4, columns, dtype=dtype, device=values.device)
    table[:, :, :n] = powers.to(dtype)
    return BasisTable(table, per_length, radial.cutoff)


def _knots(radial: RadialBasis, intervals: int, per_length: float) -> tuple[Tensor, Tensor]:
    """Values and slopes [M + 1, K] in float64."""
    exact = copy.deepcopy(radial).double().requires_grad_(False)
    d = torch.arange(intervals + 1, dtype=torch.float64, device=exact.constants.device) / per_length
    d[0] = _NEAREST
    with torch.enable_grad():
        d.requires_grad_()
        values = exact(d)
        columns = [torch.autograd.grad(b.sum(), d, retain_graph=True)[0] for b in values.unbind(1)]
    return values.detach(), torch.stack(columns, dim=1)
