"""The general robust loss against the closed forms of its members, scipy's integrals and known samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from heliodor.errors import InputError
from heliodor.train.robust import RobustLoss, log_partition, robust_loss

X = torch.linspace(-7.0, 7.0, 57, dtype=torch.float64)
C = 1.7

MEMBERS = {
    2.0: lambda z: 0.5 * z,
    1.0: lambda z: np.sqrt(z + 1.0) - 1.0,
    0.0: lambda z: np.log(0.5 * z + 1.0),
    -2.0: lambda z: 2.0 * z / (z + 4.0),
    -np.inf: lambda z: 1.0 - np.exp(-0.5 * z),
}


@pytest.mark.parametrize("alpha", MEMBERS)
def test_members(alpha: float) -> None:
    expected = MEMBERS[alpha](np.square(X.numpy() / C))
    np.testing.assert_allclose(robust_loss(X, alpha, C).numpy(), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(("alpha", "near"), [(2.0, 2.0 - 1e-9), (0.0, 1e-9), (0.0, -1e-9), (-np.inf, -1e9)])
def test_continuous(alpha: float, near: float) -> None:
    torch.testing.assert_close(robust_loss(X, near, C), robust_loss(X, alpha, C), rtol=1e-6, atol=1e-9)


def test_partition_closed_forms() -> None:
    from scipy.special import k1

    known = {2.0: np.sqrt(2 * np.pi), 1.0: 2.0 * np.e * k1(1.0), 0.0: np.pi * np.sqrt(2.0)}
    for alpha, z in known.items():
        assert float(log_partition(alpha)) == pytest.approx(np.log(z), abs=1e-12)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.3, 1.9])
def test_partition_integral(alpha: float) -> None:
    from scipy.integrate import quad

    def density(x: float) -> float:
        b = 2.0 - alpha
        return float(np.exp(-b / alpha * ((x * x / b + 1.0) ** (alpha / 2) - 1.0)))

    integral = 2.0 * sum(quad(density, *part, epsabs=1e-13, limit=400)[0] for part in ((0, 10), (10, np.inf)))
    assert float(log_partition(alpha)) == pytest.approx(np.log(integral), abs=1e-9)


def test_no_likelihood_below_zero() -> None:
    with pytest.raises(InputError, match="no likelihood for the shape -1"):
        log_partition(-1.0)
    with pytest.raises(InputError, match="between"):
        RobustLoss(shape=2.5)


def test_gaussian_end() -> None:
    loss = RobustLoss(scale=C, shape=1.999 - 1e-9)
    gauss = -torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), C).log_prob(X)
    inner = X.abs() <= C
    torch.testing.assert_close(loss(X)[inner], gauss[inner], atol=2e-3, rtol=0.0)


def test_gradients() -> None:
    loss = RobustLoss(scale=0.4, shape=0.7)
    x = X.clone().requires_grad_()

    def total(latent: torch.Tensor, log_scale: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        named = {"latent_shape": latent, "log_scale": log_scale}
        return torch.func.functional_call(loss, named, (x,)).sum()

    leaves = [p.detach().clone().requires_grad_() for p in (loss.latent_shape, loss.log_scale)]
    assert torch.autograd.gradcheck(total, (*leaves, x))


@pytest.mark.parametrize("alpha", [0.001, 1e-2, 1.99])
def test_float32(alpha: float) -> None:
    torch.testing.assert_close(
        robust_loss(X.float(), alpha, C).double(), robust_loss(X.float().double(), alpha, C), rtol=2e-5, atol=1e-6
    )


def fitted(sample: np.ndarray) -> tuple[float, float]:
    loss = RobustLoss()
    optimizer = torch.optim.LBFGS(loss.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    x = torch.from_numpy(sample)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(x).mean()
        value.backward()
        return value

    optimizer.step(closure)
    return loss.shape.item(), loss.scale.item()


def test_shape_finds_the_tails(rng: np.random.Generator) -> None:
    """Maximum likelihood: near-Gaussian shape for normal residuals, near 0 for Cauchy ones, between with outliers."""
    clean = rng.normal(scale=0.3, size=4000)
    soiled = np.where(rng.random(4000) < 0.05, 20.0 * clean, clean)
    shape, scale = fitted(clean)
    assert shape > 1.85 and scale == pytest.approx(0.3, rel=0.05)
    # ln(½(x/c)² + 1) is Cauchy's density of width c √2
    shape, scale = fitted(0.3 * rng.standard_cauchy(4000))
    assert shape < 0.1 and scale * np.sqrt(2.0) == pytest.approx(0.3, rel=0.1)
    shape, scale = fitted(soiled)
    # heavier tails than the normal's, and a scale that the outliers (sample deviation 1.4) do not widen
    assert 0.01 < shape < 1.0 and scale < 0.3
