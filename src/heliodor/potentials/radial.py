"""Cutoff functions and radial bases."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from heliodor.errors import InputError

RADIAL_BASES = ("exp-bernstein", "exp-gaussian", "bernstein", "gaussian", "sinc")
"""What `RadialBasis` can be made of."""


def polynomial_cutoff(d: Float[Tensor, "E"], cutoff: float) -> Float[Tensor, "E"]:
    """PhysNet's cutoff function, 1 at d = 0 and 0 from the cutoff on, with two continuous derivatives.

    f(u) = 1 - 6u⁵ + 15u⁴ - 10u³, u = d/cutoff (Unke & Meuwly 2019, eq. 8).
    """
    u = (d / cutoff).clamp(max=1.0)
    return 1.0 + u**3 * (u * (15.0 - 6.0 * u) - 10.0)


def bessel_basis(
    d: Float[Tensor, "E"], frequency: Float[Tensor, "B"], cutoff: float, power: int
) -> Float[Tensor, "E B"]:
    """sqrt(2/cutoff) sin(frequency d)/d, times 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2), x = d/cutoff.

    Gasteiger, Groß & Günnemann (ICLR 2020), eq. 7 and 8: two continuous derivatives at the cutoff.
    """
    x = (d / cutoff).clamp(max=1.0)
    p = power
    rest = 0.5 * (p + 1) * (p + 2) - p * (p + 2) * x + 0.5 * p * (p + 1) * x * x
    switch = (1.0 - x**p * rest) / d
    return math.sqrt(2.0 / cutoff) * torch.sin(d.unsqueeze(-1) * frequency) * switch.unsqueeze(-1)


def smooth_switch(x: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
    """1 for x <= 0, 0 for x >= 1, infinitely smooth between: s(1-x) / (s(1-x) + s(x)), s(t) = exp(-1/t)."""
    inside = (x > 0.0) & (x < 1.0)
    t = torch.where(inside, x, 0.5 * torch.ones_like(x))
    # s(x)/s(1-x) = exp(1/(1-t) - 1/t); the logistic form cannot overflow
    return torch.where(inside, torch.sigmoid(1.0 / t - 1.0 / (1.0 - t)), (x <= 0.0).to(x.dtype))


class BernsteinBasis(nn.Module):
    """Bernstein polynomials in x = exp(-γ d): b_k = C(K-1, k) x^k (1-x)^(K-1-k), k = 0..K-1.

    SpookyNet's basis (Unke et al. 2021, eq. 12) without its cutoff factor. b_k(0) is 0, as in So3krates.
    """

    log_binomial: Tensor
    power: Tensor

    def __init__(self, n_basis: int, gamma: float) -> None:
        super().__init__()
        k = torch.arange(n_basis, dtype=torch.float64)
        top = torch.tensor(float(n_basis), dtype=torch.float64)
        log_binomial = torch.lgamma(top) - torch.lgamma(k + 1) - torch.lgamma(top - k)
        self.gamma = gamma
        self.register_buffer("log_binomial", log_binomial, persistent=False)
        self.register_buffer("power", k, persistent=False)

    def forward(self, d: Float[Tensor, "E"]) -> Float[Tensor, "E K"]:
        """Basis functions at the distances d (Å)."""
        tiny = torch.finfo(d.dtype).tiny
        log_x = -self.gamma * d
        log_rest = torch.log((-torch.expm1(log_x)).clamp(min=tiny))
        n = self.power.shape[0] - 1
        power = self.power.to(d.dtype)
        exponent = self.log_binomial.to(d.dtype) + power * log_x.unsqueeze(-1) + (n - power) * log_rest.unsqueeze(-1)
        return torch.where((d > 0.0).unsqueeze(-1), exponent.exp(), 0.0)


def exponential_cutoff(d: Float[Tensor, "E"], cutoff: float) -> Float[Tensor, "E"]:
    """exp(-d²/((c-d)(c+d))) below the cutoff c and 0 from there on, infinitely smooth (Unke et al. 2021)."""
    inside = d < cutoff
    r = torch.where(inside, d, 0.5 * cutoff)
    return torch.where(inside, torch.exp(-r.square() / ((cutoff - r) * (cutoff + r))), 0.0)


class RadialBasis(nn.Module):
    """The radial bases of SpookyNet, times its cutoff function; K functions g_0 ... g_(K-1) of d < cutoff.

    Unke et al., Nat. Commun. 12, 7273 (2021). With x = exp(-αd), α learned, or x = d/cutoff:

    - "exp-bernstein", "bernstein": C(K-1, v) x^(K-1-v) (1-x)^v;
    - "exp-gaussian": exp(-K (x - c_v)²), c from 1 down to 0;
    - "gaussian": exp(-K/cutoff (d - c_v)²), c from 0 to the cutoff;
    - "sinc": sin(π(v+1)x)/(π(v+1)x).

    Args:
        kind: one of `RADIAL_BASES`.
        cutoff: Å.
        exp_weighting: multiply the "exp-" kinds by x once more.
        single_precision: round the constants to float32, as some released parameters were trained with.
    """

    constants: Tensor

    def __init__(
        self, kind: str, n_basis: int, cutoff: float, *, exp_weighting: bool = False, single_precision: bool = False
    ) -> None:
        super().__init__()
        if kind not in RADIAL_BASES:
            raise InputError(f"no radial basis called {kind!r}; there are {', '.join(RADIAL_BASES)}")
        self.kind, self.cutoff = kind, cutoff
        self.exp_weighting = exp_weighting and kind.startswith("exp-")
        k = torch.arange(n_basis, dtype=torch.float64)
        if kind.endswith("bernstein"):
            top = torch.tensor(float(n_basis), dtype=torch.float64)
            constants = torch.lgamma(top) - torch.lgamma(k + 1) - torch.lgamma(top - k)
        elif kind == "exp-gaussian":
            constants = torch.linspace(1.0, 0.0, n_basis, dtype=torch.float64)
        elif kind == "gaussian":
            constants = torch.linspace(0.0, cutoff, n_basis, dtype=torch.float64)
        else:
            constants = k + 1.0
        constants = constants.float().double() if single_precision else constants
        self.register_buffer("constants", constants, persistent=False)
        if kind.startswith("exp-"):
            # softplus of it is α, 1/(2 Bohr) to begin with
            self.raw_alpha = nn.Parameter(torch.tensor(0.9448630629184640).expm1().log())

    def forward(self, d: Float[Tensor, "E"]) -> Float[Tensor, "E K"]:
        """Basis functions at the distances d (Å)."""
        c = self.constants.to(d.dtype)
        factor = exponential_cutoff(d, self.cutoff)
        # what lies beyond the cutoff gets no weight, and must not make infinite derivatives
        r = torch.where(d < self.cutoff, d, 0.5 * self.cutoff)
        if self.kind == "gaussian":
            basis = torch.exp(-len(c) / self.cutoff * (r.unsqueeze(-1) - c).square())
        elif self.kind == "sinc":
            basis = torch.sinc(c * r.unsqueeze(-1) / self.cutoff)
        else:
            log_x = -softplus(self.raw_alpha) * r if self.kind.startswith("exp-") else torch.log(r / self.cutoff)
            if self.exp_weighting:
                factor = factor * log_x.exp()
            if self.kind == "exp-gaussian":
                basis = torch.exp(-len(c) * (log_x.exp().unsqueeze(-1) - c).square())
            else:
                v = torch.arange(len(c), dtype=d.dtype, device=d.device)
                rest = torch.log(-torch.expm1(log_x))
                basis = torch.exp(c + (len(c) - 1 - v) * log_x.unsqueeze(-1) + v * rest.unsqueeze(-1))
        return factor.unsqueeze(-1) * basis
