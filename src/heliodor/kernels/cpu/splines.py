"""Cubic splines of functions of a distance, from float64, with as many knots as their error asks for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

MAX_KNOTS = 8192


def hermite(
    functions: Callable[[Tensor], Tensor], end: float, tolerance: float, *, seen_from: float = 0.3
) -> tuple[Float[Tensor, "knots 2 F"], float, float]:
    """Hermite splines of F functions of a distance between 0 and an end: table, knots per Å, relative error.

    Knots are doubled until the error between them, as a fraction of the largest value, is below the tolerance. Values
    and slopes are those of one and the same spline, so that forces are the exact gradient of the energy.

    Args:
        functions: from distances [n] to values [n, F], Å, float64.
        seen_from: Å; errors at shorter distances, which repulsion forbids, do not count.
    """
    intervals = 128
    while True:
        # nothing is ever closer than the first; sin(x)/x at 0 itself is not a number
        knots = torch.linspace(0.0, end, intervals + 1, dtype=torch.float64)
        values, slopes = with_slopes(functions, knots.clamp(min=1e-3))
        with torch.no_grad():
            step = end / intervals
            between = 0.5 * (values[1:] + values[:-1]) + step / 8.0 * (slopes[:-1] - slopes[1:])
            exact = functions(0.5 * (knots[1:] + knots[:-1]))
            seen = knots[:-1] > seen_from
            error = float((between - exact)[seen].abs().max() / values[1:][seen].abs().max())
        if error <= tolerance or intervals >= MAX_KNOTS:
            return torch.stack([values, slopes * step], dim=1), 1.0 / step, error
        intervals *= 2


def with_slopes(functions: Callable[[Tensor], Tensor], r: Tensor) -> tuple[Tensor, Tensor]:
    """Values [n, F] at r [n] and their derivatives by it."""
    # differentiated twice backwards: forward mode would make torch import its compiler, which takes seconds
    with torch.enable_grad():
        r = r.detach().requires_grad_()
        values = functions(r)
        weights = torch.zeros_like(values, requires_grad=True)
        (weighted,) = torch.autograd.grad((values * weights).sum(), r, create_graph=True)
        (slopes,) = torch.autograd.grad(weighted.sum(), weights)
    return values.detach(), slopes
