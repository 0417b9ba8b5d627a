"""Real spherical harmonics and what is built from them without Clebsch-Gordan coefficients."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def spherical_harmonics(unit: Float[Tensor, "E 3"], degrees: tuple[int, ...]) -> Float[Tensor, "E M"]:
    """Orthonormal real harmonics (∫Y² dΩ = 1, no Condon-Shortley phase) of unit vectors, m = -l..l.

    Args:
        unit: unit vectors; the polynomials assume |u| = 1.
        degrees: the l to concatenate, each between 1 and 4.
    """
    x, y, z = unit.unbind(-1)
    blocks = {1: _degree_1, 2: _degree_2, 3: _degree_3, 4: _degree_4}
    return torch.stack([c for degree in degrees for c in blocks[degree](x, y, z)], dim=-1)


def component_harmonics(unit: Float[Tensor, "E 3"], highest: int) -> list[Tensor]:
    """Harmonics of degrees 0..highest with |Y_l|² = 2l+1 about the polar axis y (e3nn's order and signs).

    Returns:
        [E, 2l+1] for each l; l = 1 is sqrt(3) (x, y, z).
    """
    turned = unit[..., [2, 0, 1]]
    rest = spherical_harmonics(turned, tuple(range(1, highest + 1))) * math.sqrt(4 * math.pi)
    sizes = [2 * degree + 1 for degree in range(1, highest + 1)]
    return [torch.ones_like(unit[..., :1]), *torch.split(rest, sizes, dim=-1)]


def _degree_1(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    c = math.sqrt(3 / (4 * math.pi))
    return [c * y, c * z, c * x]


def _degree_2(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    c = 0.5 * math.sqrt(15 / math.pi)
    return [
        c * x * y,
        c * y * z,
        0.25 * math.sqrt(5 / math.pi) * (3 * z * z - 1),
        c * x * z,
        0.5 * c * (x * x - y * y),
    ]


def _degree_3(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    xx, yy, zz = x * x, y * y, z * z
    c3 = 0.25 * math.sqrt(35 / (2 * math.pi))
    c2 = 0.5 * math.sqrt(105 / math.pi)
    c1 = 0.25 * math.sqrt(21 / (2 * math.pi))
    return [
        c3 * y * (3 * xx - yy),
        c2 * x * y * z,
        c1 * y * (5 * zz - 1),
        0.25 * math.sqrt(7 / math.pi) * z * (5 * zz - 3),
        c1 * x * (5 * zz - 1),
        0.5 * c2 * (xx - yy) * z,
        c3 * x * (xx - 3 * yy),
    ]


def _degree_4(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    xx, yy, zz = x * x, y * y, z * z
    c4 = 0.75 * math.sqrt(35 / math.pi)
    c3 = 0.75 * math.sqrt(35 / (2 * math.pi))
    c2 = 0.75 * math.sqrt(5 / math.pi)
    c1 = 0.75 * math.sqrt(5 / (2 * math.pi))
    return [
        c4 * x * y * (xx - yy),
        c3 * y * (3 * xx - yy) * z,
        c2 * x * y * (7 * zz - 1),
        c1 * y * z * (7 * zz - 3),
        3 / 16 * math.sqrt(1 / math.pi) * (35 * zz * zz - 30 * zz + 3),
        c1 * x * z * (7 * zz - 3),
        0.5 * c2 * (xx - yy) * (7 * zz - 1),
        c3 * x * (xx - 3 * yy) * z,
        0.25 * c4 * (xx * (xx - 3 * yy) - yy * (3 * xx - yy)),
    ]


def degree_sizes(degrees: tuple[int, ...]) -> list[int]:
    """2l+1 for each degree."""
    return [2 * degree + 1 for degree in degrees]
