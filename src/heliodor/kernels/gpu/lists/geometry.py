"""Cells and staleness on the device, by arithmetic alone: the library's routines for matrices may wait for it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heliodor.kernels.gpu.matrix import NeighborMatrix


def inverse_of(matrix: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3 3"]:
    """By cofactors."""
    faces = _faces(matrix)
    return faces / (matrix[..., 0, :] * faces[..., 0]).sum(-1)[..., None, None]


def volume_of(cell: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B"]:
    """Å³."""
    return (cell[:, 0] * torch.linalg.cross(cell[:, 1], cell[:, 2])).sum(-1)


def used_skin(positions: Float[Tensor, "N 3"], then: Float[Tensor, "N 3"], matrix: NeighborMatrix) -> Float[Tensor, ""]:
    """The part of a list's skin that has been used up since positions ``then``, in an unchanged cell.

    Above 1 some pair may have come within the cutoff unlisted. Not a number where positions are not.
    """
    return used_by((positions - then).square().sum(-1).amax(), matrix)


def used_by(squared: Float[Tensor, ""], matrix: NeighborMatrix) -> Float[Tensor, ""]:
    """As `used_skin`, from the largest of the squared ways that atoms have gone, Å²."""
    return torch.zeros_like(squared) if math.isinf(matrix.cutoff) else 2.0 * squared.sqrt() / max(matrix.skin, 1e-12)


def used_skin_strained(
    positions: Float[Tensor, "N 3"],
    cell: Float[Tensor, "1 3 3"],
    then: Float[Tensor, "N 3"],
    cell_then: Float[Tensor, "1 3 3"],
    matrix: NeighborMatrix,
) -> Float[Tensor, ""]:
    """As `used_skin`, of a fully periodic structure whose cell changes: the rule of `Neighbors.stale`.

    With the 2-norm of the deformation estimated from above by its 1- and infinity-norms: exact where the cell's axes
    keep their directions.
    """
    gradient = (inverse_of(cell_then[0]).unsqueeze(-1) * cell[0]).sum(1)
    carried = (then.unsqueeze(-1) * gradient).sum(1)
    moved = (positions - carried).square().sum(-1).amax().sqrt()
    change = (_identity(cell) - inverse_of(gradient)).abs()
    shrink = (change.sum(0).amax() * change.sum(1).amax()).sqrt()
    return (2.0 * moved * (1.0 + shrink) + matrix.cutoff * shrink) / max(matrix.skin, 1e-12)


def stale(used: Float[Tensor, ""]) -> Bool[Tensor, ""]:
    """Whether a list is no longer good: more than its skin has been used, or what is not a number."""
    return ~(used <= 1.0)


def _identity(like: Tensor) -> Tensor:
    place = torch.arange(3, device=like.device)
    return (place.unsqueeze(0) == place.unsqueeze(1)).to(like.dtype)


def _faces(matrix: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3 3"]:
    a, b, c = matrix.unbind(-2)
    return torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], -1)
