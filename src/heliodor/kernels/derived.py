"""Energies with their derivatives from kernels that work them out by hand, and such a kernel as one node of a graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from heliodor.errors import ModelError
from heliodor.neighbors import Neighbors
from heliodor.potential import Terms
from heliodor.system import System


@dataclass(frozen=True)
class Derived:
    """What a kernel hands out.

    Attributes:
        terms: as of the model's `forward`, without a graph.
        gradient: ∂E/∂R, eV/Å, E the sum of all energies; None where not asked for.
        strain: ∂E/∂ε of R -> R(1+ε), cell -> cell(1+ε), eV: Σ r_a ∂E/∂r_b over edges, not symmetrised; None where
            not asked for.
    """

    terms: Terms
    gradient: Float[Tensor, "N 3"] | None = None
    strain: Float[Tensor, "B 3 3"] | None = None


@runtime_checkable
class DerivingKernel(Protocol):
    """A kernel that gives its own derivatives: `evaluate_system` takes them as they are, without a graph.

    One that cannot take all lists has a method ``fits(neighbors) -> bool``; others run the plain model.
    """

    def derive(self, system: System, neighbors: Neighbors, *, gradient: bool, strain: bool) -> Derived:
        """Energies, and their derivatives where asked for."""
        ...


def as_terms(kernel: DerivingKernel, system: System, neighbors: Neighbors) -> Terms:
    """A kernel's terms in torch's graph, where positions or cell need a gradient.

    Only energies have one, once, and every energy of a structure must be weighted alike: what sums of energies need.
    Charges, ratios and errors of forces are constants of the graph.
    """
    if not (torch.is_grad_enabled() and (system.positions.requires_grad or system.cell.requires_grad)):
        return kernel.derive(system, neighbors, gradient=False, strain=False).terms
    derived = kernel.derive(
        _detached(system), neighbors, gradient=system.positions.requires_grad, strain=system.cell.requires_grad
    )
    names = list(derived.terms.energies)
    node = torch.stack([derived.terms.energies[name] for name in names])
    joined: Tensor = _Join.apply(  # type: ignore[no-untyped-call]
        system.positions, system.cell, node, derived, system.batch
    )
    return replace(derived.terms, energies=dict(zip(names, joined.unbind(0), strict=True)))


def _detached(system: System) -> System:
    if not (system.positions.requires_grad or system.cell.requires_grad):
        return system
    return system.replace(positions=system.positions.detach(), cell=system.cell.detach())


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, cell: Tensor, node: Tensor, derived: Derived, batch: Tensor) -> Tensor:
        ctx.save_for_backward(positions, cell)
        ctx.derived, ctx.batch = derived, batch
        return node.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, pull: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        positions, cell = ctx.saved_tensors
        derived, batch = ctx.derived, ctx.batch
        # of each structure that of some atom; any other there must have the same
        weight = torch.zeros(len(cell), dtype=pull.dtype, device=pull.device).scatter(0, batch, pull[0])
        if bool((pull != weight[batch]).any()):
            raise ModelError(
                "a kernel gives derivatives of sums of energies only, not of single terms or atoms: load the model "
                'with kernels="reference"'
            )
        weight = weight.to(positions.dtype)
        gradient = cell_gradient = None
        if derived.gradient is not None:
            gradient = weight[batch].unsqueeze(-1) * derived.gradient
        if derived.strain is not None:
            assert derived.gradient is not None
            moved = positions.unsqueeze(-1) * derived.gradient.unsqueeze(-2)
            moved = torch.zeros_like(cell).index_add(0, batch, moved)
            # positions and cell are strained apart from one another here: what the positions do not account for
            cell_gradient = torch.linalg.pinv(cell).mT @ (derived.strain - moved) * weight.view(-1, 1, 1)
        return gradient, cell_gradient, None, None, None
