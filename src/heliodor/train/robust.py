"""Barron's general adaptive robust loss: a family of likelihoods whose heaviness of tails is learned.

Barron, "A general and adaptive robust loss function", CVPR 2019. One shape α and one scale c belong to each property;
they are trained with the model, so that the weights of energies, forces and dipoles against each other, and how much
an outlier counts, follow from the data. GEMS trains with this loss (Unke et al., Sci. Adv. 10, eadn4397, 2024).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heliodor.errors import InputError

SHAPE_RANGE = (0.001, 1.999)
"""Of a learned α. Below zero there is no likelihood (Z diverges); at the very ends the derivatives are 0/0."""

SMALLEST_SCALE = 1e-6
"""In units of the property: a model that fits exactly has no likelihood either."""


def robust_loss(x: Float[Tensor, "..."], alpha: float | Tensor, scale: float | Tensor) -> Float[Tensor, "..."]:
    """ρ(x, α, c) = |α-2|/α [((x/c)²/|α-2| + 1)^(α/2) - 1], eqs. 8 and 9 of the paper.

    α = 2: ½(x/c)²; 1: sqrt((x/c)² + 1) - 1 (Charbonnier); 0: ln(½(x/c)² + 1) (Cauchy); -2: Geman-McClure;
    -∞: 1 - exp(-½(x/c)²) (Welsch). Differentiable in all three; an α that is a tensor must not be exactly 2, 0 or -∞.
    """
    c = torch.as_tensor(scale, dtype=torch.float64, device=x.device)
    z = (x / c.to(x.dtype)).square()
    if not isinstance(alpha, Tensor):
        if alpha == 2.0:
            return 0.5 * z
        if alpha == 0.0:
            return torch.log1p(0.5 * z)
        if alpha == -math.inf:
            return -torch.expm1(-0.5 * z)
    a = torch.as_tensor(alpha, dtype=torch.float64, device=x.device)
    b = (a - 2.0).abs()
    # log1p and expm1 keep every digit as α goes to 0
    exponent = (0.5 * a).to(x.dtype) * torch.log1p(z / b.to(x.dtype))
    return (b / a).to(x.dtype) * torch.expm1(exponent)


def log_partition(alpha: float | Tensor) -> Float[Tensor, ""]:
    """ln Z(α), Z = ∫ exp(-ρ(x, α, 1)) dx over all x; differentiable in α, float64.

    By the double-exponential rule of Takahasi and Mori, x = sinh(½π sinh t), whose trapezoidal sum is exact to 1e-13
    even for the tails of α = 0.

    Raises:
        InputError: α below zero, where the integral diverges.
    """
    if not isinstance(alpha, Tensor) and not alpha >= 0.0:
        raise InputError(f"the robust loss has no likelihood for the shape {alpha:g}: choose one from 0 to 2")
    device = alpha.device if isinstance(alpha, Tensor) else torch.device("cpu")
    x, weight = (part.to(device) for part in _NODES)
    return torch.log((weight * torch.exp(-robust_loss(x, alpha, 1.0))).sum())


class RobustLoss(nn.Module):
    """-ln p(x) = ρ(x, α, c) + ln c + ln Z(α) of residuals, with α and c to be learned.

    Args:
        scale: c to begin with, in units of the residuals.
        shape: α to begin with, between 0.001 and 1.999.
        adaptive: whether α is learned; c always is.
    """

    def __init__(self, scale: float = 1.0, shape: float = 1.0, adaptive: bool = True) -> None:
        super().__init__()
        low, high = SHAPE_RANGE
        if not low < shape < high:
            raise InputError(f"the robust loss begins with a shape between {low} and {high}, not {shape:g}")
        if not scale > SMALLEST_SCALE:
            raise InputError(f"the robust loss needs a scale above {SMALLEST_SCALE:g}, not {scale:g}")
        inside = (shape - low) / (high - low)
        self.latent_shape = nn.Parameter(
            torch.tensor(math.log(inside / (1.0 - inside)), dtype=torch.float64), requires_grad=adaptive
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale - SMALLEST_SCALE), dtype=torch.float64))

    @property
    def shape(self) -> Float[Tensor, ""]:
        """α."""
        low, high = SHAPE_RANGE
        return low + (high - low) * torch.sigmoid(self.latent_shape)

    @property
    def scale(self) -> Float[Tensor, ""]:
        """c."""
        return SMALLEST_SCALE + self.log_scale.exp()

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Negative log-likelihood of each residual."""
        alpha, c = self.shape, self.scale
        return robust_loss(x, alpha, c) + (c.log() + log_partition(alpha)).to(x.dtype)


def _nodes() -> tuple[Tensor, Tensor]:
    step = 0.02
    t = torch.arange(-210, 211, dtype=torch.float64) * step
    inner = 0.5 * math.pi * t.sinh()
    return inner.sinh(), step * 0.5 * math.pi * t.cosh() * inner.cosh()


_NODES = _nodes()
