"""SHAKE and RATTLE: clusters of held bonds of any shape, all solved at once by Newton's method.

Ryckaert, Ciccotti & Berendsen, J. Comput. Phys. 23, 327 (1977); Andersen, J. Comput. Phys. 52, 24 (1983);
solved by matrices as in M-SHAKE, Kräutler, van Gunsteren & Hünenberger, J. Comput. Chem. 22, 501 (2001).

Corrections are mass-weighted and along bonds: they change neither momentum nor angular momentum of a group.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.constraints.clusters import Clusters

TOLERANCE = 1e-10
"""Relative error of squared lengths above which constraints count as not solved."""

GOAL = 1e-13
"""Relative error of squared lengths at which iterations end."""

ITERATIONS = 30
"""At most; Newton's method squares the error each time, a usual step takes four."""


def shake(
    clusters: Clusters, reference: Float[Tensor, "N 3"], positions: Float[Tensor, "N 3"], every: int | None = None
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "C"]]:
    """The position stage for clusters of any shape: corrected positions (Å) and what error was left.

    Newton's method for the multipliers in the space of bond vectors. The error is the largest relative one of the
    squared lengths; NaN or large where there was no convergence.

    Args:
        every: iterations between looks at the error; on a GPU, where each look waits for the device, 6.
    """
    if every is None:
        every = 1 if positions.device.type == "cpu" else 6
    along, free = bonds_of(clusters, reference), bonds_of(clusters, positions)
    wanted = clusters.lengths.square()
    padding = torch.diag_embed(clusters.padding)
    multipliers = torch.zeros_like(wanted)
    bonds = free
    for iteration in range(ITERATIONS + 1):
        excess = bonds.square().sum(-1) - wanted
        error = (excess.abs() / (wanted + clusters.padding)).amax(-1)
        if iteration == ITERATIONS or (iteration and iteration % every == 0 and bool((error <= GOAL).all())):
            break
        matrix = 2.0 * (bonds @ along.mT) * clusters.coupling + padding
        multipliers = multipliers - solve_small(matrix, excess)
        bonds = free + (clusters.coupling * multipliers.unsqueeze(-2)) @ along
    return _apply(clusters, positions, multipliers, along), error


def project(
    clusters: Clusters, positions: Float[Tensor, "N 3"], velocities: Float[Tensor, "N 3"]
) -> Float[Tensor, "N 3"]:
    """The velocity stage: velocities (Å/fs) that leave the bonds of these positions (Å) at their lengths."""
    bonds = bonds_of(clusters, positions)
    rates = (bonds * bonds_of(clusters, velocities)).sum(-1)
    matrix = (bonds @ bonds.mT) * clusters.coupling + torch.diag_embed(clusters.padding)
    return _apply(clusters, velocities, -solve_small(matrix, rates), bonds)


def bonds_of(clusters: Clusters, values: Float[Tensor, "N 3"]) -> Float[Tensor, "C K 3"]:
    """Differences of the values at the two ends of each constraint."""
    return values[clusters.first] - values[clusters.second]


def solve_small(matrix: Float[Tensor, "C K K"], right: Float[Tensor, "C K"]) -> Float[Tensor, "C K"]:
    """Solutions of many small systems of equations, without asking the device whether they were singular."""
    solution, _ = torch.linalg.solve_ex(matrix, right)
    return solution


def _apply(
    clusters: Clusters, values: Float[Tensor, "N 3"], multipliers: Float[Tensor, "C K"], along: Float[Tensor, "C K 3"]
) -> Float[Tensor, "N 3"]:
    moves = (clusters.mobility * multipliers.unsqueeze(-2)) @ along
    # atoms stand once, padding adds zeros: the order of additions changes nothing
    return values.index_add(0, clusters.atoms.flatten(), moves.flatten(0, 1))
