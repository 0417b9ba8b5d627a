"""What restraints measure and cost: vectors to nearest images, angles, dihedrals, and springs with a flat bottom."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def nearest(vectors: Float[Tensor, "*R 3"], cell: Float[Tensor, "*R 3 3"]) -> Float[Tensor, "*R 3"]:
    """Vectors to the nearest periodic image, Å; differentiable in vectors and cell.

    Rounded fractional coordinates and the 26 lattice vectors around: right for every cell whose vectors are not much
    longer than a reduced one's.

    Args:
        cell: lattice vectors of each, Å; zeros along directions without periodicity.
    """
    with torch.no_grad():
        images = torch.round(fractional(vectors, cell))
        ring = torch.tensor([-1.0, 0.0, 1.0], dtype=cell.dtype, device=cell.device)
        candidates = images.unsqueeze(-2) - torch.cartesian_prod(ring, ring, ring)
        lengths = (vectors.unsqueeze(-2) - candidates @ cell).square().sum(-1)
        # among equals (directions without periodicity) the first, whatever it is, gives the same vector
        best = lengths.argmin(-1)[..., None, None].expand(*images.shape[:-1], 1, 3)
        images = candidates.gather(-2, best).squeeze(-2)
    return vectors - (images.unsqueeze(-2) @ cell).squeeze(-2)


def fractional(vectors: Float[Tensor, "*R 3"], cell: Float[Tensor, "*R 3 3"]) -> Float[Tensor, "*R 3"]:
    """Coordinates along the lattice vectors, by least squares; 0 along those that are zero."""
    empty = (cell == 0.0).all(-1).to(cell.dtype)
    gram = cell @ cell.mT + torch.diag_embed(empty)
    inverse, _ = torch.linalg.inv_ex(gram)
    return ((vectors.unsqueeze(-2) @ cell.mT) @ inverse).squeeze(-2)


def angle(a: Float[Tensor, "*R 3"], b: Float[Tensor, "*R 3"]) -> Float[Tensor, "*R"]:
    """Between two vectors, radians, 0 to π; the gradient is zero where they are parallel."""
    return torch.atan2(norm(torch.linalg.cross(a, b)), (a * b).sum(-1))


def dihedral(a: Float[Tensor, "*R 3"], b: Float[Tensor, "*R 3"], c: Float[Tensor, "*R 3"]) -> Float[Tensor, "*R"]:
    """Of three bonds in a row, radians, -π to π, IUPAC sign; zero, with zero gradient, where two are parallel.

    Blondel & Karplus, J. Comput. Chem. 17, 1132 (1996): the two-argument arctangent has no singular gradient at 0 or π.
    """
    left, right = torch.linalg.cross(a, b), torch.linalg.cross(b, c)
    x, y = (left * right).sum(-1), norm(b) * (a * right).sum(-1)
    straight = x.square() + y.square() < 1e-24
    return torch.atan2(torch.where(straight, 0.0, y), torch.where(straight, 1.0, x))


def spring(x: Float[Tensor, "*R"], k: Float[Tensor, "*R"], flat: Float[Tensor, "*R"]) -> Float[Tensor, "*R"]:
    """k/2 (|x| - flat)² outside of ±flat, eV."""
    # at x = flat the branch outside, so that a spring without flat bottom has its curvature at zero too
    excess = torch.where(x >= flat, x - flat, torch.where(x < -flat, x + flat, 0.0))
    return 0.5 * k * excess.square()


def isotropic_spring(
    vectors: Float[Tensor, "*R 3"], k: Float[Tensor, "*R"], flat: Float[Tensor, "*R"]
) -> Float[Tensor, "*R"]:
    """k/2 (|vector| - flat)² outside of the radius ``flat``, eV; smooth at zero."""
    squared = vectors.square().sum(-1)
    outside = squared > flat.square()
    excess = torch.where(outside, squared, 1.0).sqrt() - flat
    return 0.5 * k * torch.where(flat == 0.0, squared, torch.where(outside, excess.square(), 0.0))


def norm(vectors: Float[Tensor, "*R 3"]) -> Float[Tensor, "*R"]:
    """Length, Å; the gradient at zero is zero."""
    squared = vectors.square().sum(-1)
    zero = squared == 0.0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squared).sqrt())
