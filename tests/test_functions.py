"""Radial and angular functions and the physical pair terms: identities, analytic limits, smoothness."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import comb, erf, sph_harm_y

from heliodor.physics.dispersion import qdo_dispersion
from heliodor.physics.electrostatics import damped_coulomb
from heliodor.physics.tables import BOHR_2014, COULOMB, HARTREE_2014, free_atom_table
from heliodor.physics.zbl import ZBLRepulsion
from heliodor.potentials.angular import degree_sizes, spherical_harmonics
from heliodor.potentials.radial import BernsteinBasis, polynomial_cutoff, smooth_switch

INFINITE = torch.tensor([torch.inf], dtype=torch.float64)
DEGREES = (1, 2, 3, 4)


def grid(start: float, stop: float, n: int) -> torch.Tensor:
    return torch.linspace(start, stop, n, dtype=torch.float64)


def slope(function, d: torch.Tensor) -> torch.Tensor:
    d = d.detach().clone().requires_grad_()
    return torch.autograd.grad(function(d).sum(), d)[0]


def sphere(n: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors and weights that integrate polynomials up to degree 2n-1 over the sphere exactly."""
    z, weight = np.polynomial.legendre.leggauss(n)
    phi = 2 * np.pi * np.arange(2 * n) / (2 * n)
    s = np.sqrt(1 - z**2)
    points = np.stack([np.outer(s, np.cos(phi)), np.outer(s, np.sin(phi)), np.outer(z, np.ones_like(phi))], axis=-1)
    return torch.from_numpy(points.reshape(-1, 3)), torch.from_numpy(np.repeat(weight * np.pi / n, 2 * n))


# angular ----------------------------------------------------------------------------------------------------


def test_harmonics_are_orthonormal():
    points, weight = sphere()
    y = torch.cat(
        [torch.full((len(points), 1), (4 * np.pi) ** -0.5, dtype=torch.float64), spherical_harmonics(points, DEGREES)],
        1,
    )
    torch.testing.assert_close((y * weight[:, None]).T @ y, torch.eye(25, dtype=torch.float64), rtol=0, atol=1e-13)


def test_harmonics_against_scipy():
    """Real combinations of the complex ones, m = -l..l, without the Condon-Shortley phase."""
    points, _ = sphere(7)
    x, y, z = points.numpy().T
    theta, phi = np.arccos(z), np.arctan2(y, x)
    columns = []
    for degree in DEGREES:
        for m in range(-degree, degree + 1):
            complex_ = (-1) ** m * sph_harm_y(degree, abs(m), theta, phi)
            columns.append(complex_.real if m == 0 else np.sqrt(2) * (complex_.imag if m < 0 else complex_.real))
    np.testing.assert_allclose(spherical_harmonics(points, DEGREES), np.stack(columns, axis=1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("degree", DEGREES)
def test_one_degree_is_a_part_of_all(degree):
    points, _ = sphere(3)
    first = sum(degree_sizes(DEGREES[: degree - 1]))
    block = spherical_harmonics(points, DEGREES)[:, first : first + 2 * degree + 1]
    assert torch.equal(spherical_harmonics(points, (degree,)), block)


def test_addition_theorem_and_parity(rng):
    """Σ_m Y_lm(a) Y_lm(b) = (2l+1)/4π P_l(a·b), so nothing depends on the axes; Y(-r) = (-1)^l Y(r)."""
    a, b = (torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(50, 3))), dim=1) for _ in range(2))
    for degree in DEGREES:
        legendre = np.polynomial.legendre.Legendre.basis(degree)((a * b).sum(1).numpy())
        product = (spherical_harmonics(a, (degree,)) * spherical_harmonics(b, (degree,))).sum(1)
        np.testing.assert_allclose(product, (2 * degree + 1) / (4 * np.pi) * legendre, rtol=0, atol=1e-13)
        torch.testing.assert_close(
            spherical_harmonics(-a, (degree,)), (-1) ** degree * spherical_harmonics(a, (degree,)), rtol=0, atol=1e-14
        )


# radial -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_basis", [1, 5, 32])
def test_bernstein_is_a_partition_of_unity(n_basis):
    basis = BernsteinBasis(n_basis, 0.9)
    values = basis(grid(1e-6, 20.0, 2001))
    assert values.shape == (2001, n_basis)
    assert values.min() >= 0
    torch.testing.assert_close(values.sum(1), torch.ones(2001, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(basis(grid(0.1, 6.0, 50).float()).sum(1), torch.ones(50), rtol=0, atol=1e-5)


def test_bernstein_against_its_definition():
    d = grid(0.05, 5.0, 60)
    x = np.exp(-0.9448630809783936 * d.numpy())[:, None]
    k = np.arange(32)
    expected = comb(31, k) * x**k * (1 - x) ** (31 - k)
    np.testing.assert_allclose(BernsteinBasis(32, 0.9448630809783936)(d), expected, rtol=1e-11, atol=1e-15)


def test_bernstein_of_zero_distance():
    """Zero by definition of So3krates, and finite to differentiate next to it."""
    basis = BernsteinBasis(32, 0.9)
    assert not basis(torch.zeros(2, dtype=torch.float64)).any()
    assert slope(basis, torch.tensor([1e-9, 1e-3, 50.0], dtype=torch.float64)).isfinite().all()


def test_polynomial_cutoff():
    d = grid(0.0, 6.0, 1201)
    f = polynomial_cutoff(d, 4.5)
    assert f[0] == 1
    assert not f[d >= 4.5].any()
    assert (f.diff() <= 0).all()
    u = 2.0 / 4.5
    at_two = polynomial_cutoff(torch.tensor([2.0], dtype=torch.float64), 4.5)
    assert at_two.item() == pytest.approx(1 - 6 * u**5 + 15 * u**4 - 10 * u**3, abs=1e-15)
    # two continuous derivatives at the cutoff: f ~ -10 (1-u)³
    h = 1e-3
    assert abs(polynomial_cutoff(torch.tensor([4.5 - h]).double(), 4.5)).item() < 11 * (h / 4.5) ** 3
    assert abs(slope(lambda r: polynomial_cutoff(r, 4.5), torch.tensor([4.5 - h]).double())).item() < 31 * h**2 / 4.5**3


@given(st.floats(-3.0, 4.0))
def test_smooth_switch_against_its_definition(x):
    def s(t: float) -> float:
        return float(np.exp(-1 / t)) if t > 0 else 0.0

    value = smooth_switch(torch.tensor([x], dtype=torch.float64)).item()
    assert value == pytest.approx(s(1 - x) / (s(1 - x) + s(x)), rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smooth_switch_ends(dtype):
    x = torch.tensor(
        [-torch.inf, -1.0, 0.0, 1e-9, 1e-4, 0.5, 1 - 1e-4, 1.0, 2.0, torch.inf], dtype=dtype, requires_grad=True
    )
    y = smooth_switch(x)
    torch.testing.assert_close(y.detach(), torch.tensor([1, 1, 1, 1, 1, 0.5, 0, 0, 0, 0], dtype=dtype))
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert first.isfinite().all()
    assert second.isfinite().all()
    assert not first[[0, 1, 2, 7, 8, 9]].any()
    assert first[5].item() == pytest.approx(-2.0)
    assert smooth_switch(torch.tensor([[0.25], [0.75]], dtype=dtype)).sum().item() == pytest.approx(1.0, abs=1e-6)


# electrostatics ---------------------------------------------------------------------------------------------


def coulomb(d: torch.Tensor, cutoff: torch.Tensor, product: float = -0.3) -> torch.Tensor:
    return damped_coulomb(d, torch.full_like(d, product), cutoff, 4.0)


def test_coulomb_far_away():
    d = grid(25.0, 500.0, 40)
    torch.testing.assert_close(coulomb(d, INFINITE), -0.3 * COULOMB / d, rtol=1e-14, atol=0)


def test_coulomb_damping_at_short_range():
    """V(0) = 2/(√π σ), reached with zero slope: partial charges cannot collapse."""
    near = torch.tensor([1e-3], dtype=torch.float64)
    assert coulomb(near, INFINITE).item() == pytest.approx(-0.3 * COULOMB * 2 / np.sqrt(np.pi) / 4.0, rel=1e-7)
    assert abs(slope(lambda r: coulomb(r, INFINITE), near).item()) < 1e-3


@pytest.mark.parametrize("radius", [6.0, 12.0, 1000.0])
def test_coulomb_with_a_cutoff(radius):
    """Shifted by V(R) below 0.45 R, force-shifted at R; formula written out once more, in numpy."""
    cutoff = torch.tensor([radius], dtype=torch.float64)
    d = grid(0.7, 1.1 * radius, 999)
    r = d.numpy()

    def v(x):
        return erf(x / 4.0) / x

    dv = (v(radius + 1e-4) - v(radius - 1e-4)) / 2e-4
    c = np.clip((r - 0.45 * radius) / (0.55 * radius), 1e-12, 1 - 1e-12)
    f = np.exp(-1 / (1 - c)) / (np.exp(-1 / (1 - c)) + np.exp(-1 / c))
    expected = f * (v(r) - v(radius)) + (1 - f) * (v(r) - v(radius) - dv * (r - radius))
    expected = np.where(r < radius, -0.3 * COULOMB * expected, 0.0)
    np.testing.assert_allclose(coulomb(d, cutoff), expected, rtol=0, atol=1e-8)

    edge = torch.tensor([radius - 1e-4, radius, radius + 1e-4], dtype=torch.float64)
    assert abs(coulomb(edge, cutoff)).max() < 1e-9
    assert abs(slope(lambda x: coulomb(x, cutoff), edge)).max() < 1e-4


def test_coulomb_cutoff_of_each_pair(rng):
    d = torch.from_numpy(rng.uniform(1, 9, 30))
    cutoff = torch.where(torch.arange(30) % 2 == 0, 7.0, torch.inf).double()
    mixed = coulomb(d, cutoff)
    torch.testing.assert_close(mixed[::2], coulomb(d[::2], torch.tensor([7.0], dtype=torch.float64)), rtol=0, atol=0)
    torch.testing.assert_close(mixed[1::2], coulomb(d[1::2], INFINITE), rtol=0, atol=0)


# dispersion -------------------------------------------------------------------------------------------------


def dispersion(
    d: torch.Tensor, cutoff: torch.Tensor = INFINITE, z: tuple[int, int] = (6, 8), width: float = 2.0
) -> torch.Tensor:
    (a, c), (b, e) = free_atom_table()[list(z)].tolist()
    return qdo_dispersion(d, *(torch.full_like(d, x) for x in (a, b, c, e)), cutoff, width, 1.2)


@pytest.mark.parametrize(("z", "c6"), [((6, 6), 46.6), ((1, 1), 6.5), ((17, 17), 94.6), ((6, 8), None)])
def test_dispersion_goes_to_c6(z, c6):
    """-C6/r⁶ far away, with Slater-Kirkwood's mixed coefficient; symmetric in the two atoms."""
    (a, ca), (b, cb) = free_atom_table()[list(z)].tolist()
    mixed = 2 * ca * cb / (b / a * ca + a / b * cb)
    assert c6 is None or mixed == pytest.approx(c6)
    d = torch.tensor([2000.0], dtype=torch.float64)
    assert (dispersion(d, z=z) * (d / BOHR_2014) ** 6 / HARTREE_2014).item() == pytest.approx(-mixed, rel=1e-4)
    near = grid(1.0, 8.0, 20)
    torch.testing.assert_close(dispersion(near, z=z), dispersion(near, z=z[::-1]), rtol=1e-13, atol=0)


def test_dispersion_next_orders():
    """C8 = 5/γ C6 and C10 = 245/8 γ⁻² C6: what is left after C6/r⁶ falls off as r⁻⁸ with that coefficient."""
    alpha = 12.0
    rho = 0.007297352566206496 ** (-4 / 21) * alpha ** (1 / 7)
    s = -0.00433008 + 0.24428889 * rho + 0.04125273 * rho**2 - 0.00078893 * rho**3
    inverse_gamma = 2 * s**2
    r = np.array([60.0, 90.0])
    p = 1.2 * 2 * 2.54 * alpha ** (1 / 7)
    series = 1 / (r**6 + p**6) + 5 * inverse_gamma / (r**8 + p**8) + 245 / 8 * inverse_gamma**2 / (r**10 + p**10)
    ours = dispersion(torch.from_numpy(r * BOHR_2014), z=(6, 6)) / HARTREE_2014
    np.testing.assert_allclose(ours, -46.6 * series, rtol=1e-12)
    ratio = (-ours.numpy() / 46.6 * r**6 - 1) * r**2
    assert ratio == pytest.approx(5 * inverse_gamma, rel=0.1)


def test_dispersion_is_damped_and_attractive():
    d = grid(0.01, 30.0, 500)
    assert (dispersion(d) < 0).all()
    assert dispersion(d).isfinite().all()
    assert abs(slope(dispersion, torch.tensor([1e-3], dtype=torch.float64))).item() < 1e-6


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_dispersion_cutoff(width):
    """Untouched up to R - width, zero with zero slope from R on."""
    cutoff = torch.tensor([9.0], dtype=torch.float64)
    inner, outer = grid(1.0, 9.0 - width, 50), grid(9.0, 12.0, 50)
    torch.testing.assert_close(dispersion(inner, cutoff, width=width), dispersion(inner), rtol=0, atol=0)
    assert not dispersion(outer, cutoff, width=width).any()
    middle = torch.tensor([9.0 - width / 2], dtype=torch.float64)
    torch.testing.assert_close(dispersion(middle, cutoff, width=width), dispersion(middle) / 2, rtol=1e-12, atol=0)
    edges = torch.tensor([9.0 - width + 1e-6, 9.0 - 1e-6], dtype=torch.float64)
    expected = torch.stack([slope(dispersion, edges)[0], torch.tensor(0.0, dtype=torch.float64)])
    torch.testing.assert_close(slope(lambda r: dispersion(r, cutoff, width=width), edges), expected, rtol=0, atol=1e-12)


def test_unknown_elements_have_no_free_atom():
    table = free_atom_table()
    assert table[[1, 6, 7, 8, 9, 15, 16, 17]].isfinite().all()
    assert table[[0, 2, 35, 118]].isnan().all()


# repulsion --------------------------------------------------------------------------------------------------


def zbl(d: torch.Tensor, z: tuple[int, int] = (6, 8)) -> torch.Tensor:
    term = ZBLRepulsion().double()
    with torch.no_grad():
        for p in term.parameters():
            p.copy_(p.float())
    return term(d, torch.full_like(d, z[0]), torch.full_like(d, z[1]), polynomial_cutoff(d, 4.5))


def test_zbl_ends_at_one_and_a_half_angstrom():
    assert not zbl(grid(1.5, 4.5, 50)).any()
    inside = zbl(grid(0.1, 1.4, 50))
    assert (inside > 0).all()
    assert (inside.diff() < 0).all()
    assert abs(slope(zbl, torch.tensor([1.5 - 1e-3, 1.5], dtype=torch.float64))).max() < 1e-10


def test_zbl_is_bare_repulsion_of_nuclei_at_contact():
    d = torch.tensor([1e-5], dtype=torch.float64)
    assert (zbl(d) * d / COULOMB).item() == pytest.approx(48.0, rel=1e-3)
    torch.testing.assert_close(zbl(d, (8, 6)), zbl(d), rtol=1e-14, atol=0)


def test_zbl_starts_from_the_published_universal_screening():
    """Ziegler, Biersack & Littmark's own numbers, before any training."""
    d = grid(0.05, 1.2, 20)
    x = d / (0.8854 * 0.529177) * (6**0.23 + 8**0.23)
    terms = ((0.18175, 3.1998), (0.50986, 0.94229), (0.28022, 0.4029), (0.02817, 0.20162))
    screening = sum(c * torch.exp(-a * x) for c, a in terms) / sum(c for c, _ in terms)
    expected = COULOMB * 48 / d * screening * polynomial_cutoff(d, 4.5) * smooth_switch(d / 1.5)
    torch.testing.assert_close(zbl(d), expected, rtol=1e-5, atol=0)
