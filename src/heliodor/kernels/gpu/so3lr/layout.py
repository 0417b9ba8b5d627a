"""How SO3krates' features and Euclidean variables lie in the tiles of the kernels: widths of powers of two."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.potentials.angular import degree_sizes, spherical_harmonics
from heliodor.potentials.so3krates import SO3kratesConfig

SMALLEST = 16
"""Least side of a tile in a product of tiles."""
NARROWEST = 32
"""Least number of columns of a product with 16 rows: Triton divides the warps along the rows of a square tile, each of
them then does the work of all, and its registers overflow."""


def power_of_two(n: int, least: int = 1) -> int:
    """The smallest power of two that is not below n or ``least``."""
    return max(least, 1 << max(n - 1, 0).bit_length())


@dataclass(frozen=True)
class Layout:
    """Tiles of the kernels; what a model's shape leaves empty in them is zero in every array and weight.

    Features x lie head by head: feature f in column (f // d) width + f % d, d the model's head width. So a head is a
    contiguous piece of a tile, and all that acts on x is reordered once instead of in every kernel.

    Attributes:
        heads, head_width: of x, and of the first branch's queries, keys and values.
        degrees, degree_width: of the second branch's queries and keys.
        components: of ev, degree by degree, without gaps.
        hidden: of the spherical filters.
        offsets: where degrees 0..4 start in ev; -1 where the model has none.
        lower: where degrees 0..4 start among those one below the model's; -1 where there is none.
        lower_components: how many these are, padded.
    """

    heads: int
    head_width: int
    degrees: int
    degree_width: int
    components: int
    hidden: int
    offsets: tuple[int, ...]
    lower: tuple[int, ...]
    lower_components: int

    @property
    def features(self) -> int:
        """Columns of x, of the first branch's filters, of its queries, keys and values."""
        return self.heads * self.head_width

    @property
    def second(self) -> int:
        """Columns of the second branch's filters, queries and keys."""
        return self.degrees * self.degree_width

    @property
    def projected(self) -> int:
        """Columns of what the edges read of an atom: q, k, v of the first branch, q, k of the second."""
        return 3 * self.features + 2 * self.second


def layout_of(config: SO3kratesConfig) -> Layout:
    """The tiles for a model's shape."""
    f, degrees = config.n_features, config.degrees
    below = tuple(sorted({degree - 1 for degree in degrees}))
    lower_sizes = degree_sizes(below)
    sizes = degree_sizes(degrees)
    return Layout(
        heads=power_of_two(config.n_heads),
        head_width=power_of_two(f // config.n_heads, SMALLEST),
        degrees=power_of_two(len(degrees)),
        degree_width=power_of_two(f // len(degrees), SMALLEST),
        components=power_of_two(sum(sizes), NARROWEST),
        hidden=power_of_two(f // 4, NARROWEST),
        offsets=_starts(degrees, sizes),
        lower=_starts(below, lower_sizes),
        lower_components=power_of_two(sum(lower_sizes), NARROWEST),
    )


def _starts(degrees: tuple[int, ...], sizes: list[int]) -> tuple[int, ...]:
    starts, at = [-1] * 5, 0
    for degree, size in zip(degrees, sizes, strict=True):
        starts[degree] = at
        at += size
    return tuple(starts)


def component_slots(config: SO3kratesConfig, layout: Layout) -> Int[Tensor, "M"]:
    """Where the components of ev, Σ(2l+1) of them, are among the kernels'."""
    return torch.cat([layout.offsets[degree] + torch.arange(2 * degree + 1) for degree in config.degrees])


def slots(n_features: int, blocks: int, width: int) -> Int[Tensor, "F"]:
    """Columns of features cut into blocks that are ``width`` columns apart."""
    size = n_features // blocks
    f = torch.arange(n_features)
    return (f // size) * width + f % size


def spread(
    matrix: Float[Tensor, "I O"],
    rows: Int[Tensor, "I"] | None,
    columns: Int[Tensor, "O"] | None,
    shape: tuple[int, int],
) -> Float[Tensor, "P Q"]:
    """A matrix with its rows and columns moved to the given places of a larger one of zeros."""
    rows = torch.arange(matrix.shape[0]) if rows is None else rows
    columns = torch.arange(matrix.shape[1]) if columns is None else columns
    wide = matrix.new_zeros(shape)
    wide[rows.unsqueeze(1), columns.unsqueeze(0)] = matrix
    return wide


def harmonic_gradients(config: SO3kratesConfig, layout: Layout) -> Float[Tensor, "3 M K"]:
    """∂(r^l Y_lm)/∂r_k at |r| = 1 as combinations of the harmonics of degree l-1; float64.

    The gradient of a solid harmonic is again one, a degree lower. The coefficients are found from directional
    derivatives at random points: linear equations with an exact solution.
    """
    generator = torch.Generator().manual_seed(0)
    below = tuple(sorted({degree - 1 for degree in config.degrees}))
    points = torch.randn(200, 3, dtype=torch.float64, generator=generator)
    with torch.enable_grad():
        points = (points / points.norm(dim=1, keepdim=True)).requires_grad_()
        length = points.norm(dim=1, keepdim=True)
        unit = points / length
        surface = spherical_harmonics(unit, config.degrees)
        powers = torch.repeat_interleave(torch.tensor(config.degrees), torch.tensor(degree_sizes(config.degrees)))
        solid = surface * length**powers
        slopes = torch.stack(
            [torch.autograd.grad(c.sum(), points, retain_graph=True)[0] for c in solid.unbind(1)], dim=2
        )
    values = [torch.full((len(points), 1), 0.5 / torch.pi**0.5, dtype=torch.float64)] if 0 in below else []
    rest = tuple(degree for degree in below if degree)
    values += [spherical_harmonics(unit.detach(), rest)] if rest else []
    found = torch.linalg.lstsq(torch.cat(values, dim=1).expand(3, -1, -1), slopes.transpose(0, 1)).solution
    shape = (layout.components, layout.lower_components)
    return torch.stack([spread(part.T, component_slots(config, layout), None, shape) for part in found])
