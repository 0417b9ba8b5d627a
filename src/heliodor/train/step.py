"""One evaluation of a batch with the graph that losses on forces need: plainly, or in a form that compiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from heliodor.potential import Potential, Terms, evaluate_system, total_dipole
from heliodor.train.batches import Batch, Lists
from heliodor.train.losses import Loss, Outputs

StepFunction = Callable[[Batch], tuple[Tensor, dict[str, Tensor]]]

_FIELDS = tuple(f.name for f in fields(Batch))


def evaluate_batch(model: Potential, batch: Batch) -> Outputs:
    """Energies and forces by `evaluate_system`, differentiable in the model's parameters."""
    system = batch.system
    return Outputs.of(evaluate_system(model, system, batch.neighbors(system), create_graph=True))


def evaluate_functional(
    model: Potential, batch: Batch, forward: Callable[..., Terms] | None = None, *layout: Tensor
) -> Outputs:
    """The same by torch.func, which torch.compile can differentiate twice.

    Args:
        forward: in the place of the model's own, of (system, neighbors, *layout).
    """
    call = forward or model

    def energy(positions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        system = batch.system.replace(positions=positions)
        terms = call(system, batch.neighbors(batch.system), *layout)
        node = torch.stack([part.to(positions.dtype) for part in terms.energies.values()]).sum(0)
        found = {
            "energy": torch.zeros_like(batch.energy).index_add(0, batch.batch, node),
            "dipole": total_dipole(terms, system),
            "hirshfeld_ratios": terms.hirshfeld_ratios,
            "charges": terms.charges,
        }
        return node.sum(), {name: value for name, value in found.items() if value is not None}

    gradient, (_, found) = torch.func.grad_and_value(energy, has_aux=True)(batch.positions)
    return Outputs(forces=-gradient, **found)


def plain_step(model: Potential, loss: Loss) -> StepFunction:
    """Loss and sums of absolute errors of a batch."""

    def step(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return loss(evaluate_batch(model, batch), batch)

    return step


def functional_step(model: Potential, loss: Loss, lists: Lists, *, compiled: bool = True) -> StepFunction:
    """As `plain_step`, for batches filled up to one shape, and compiled at the first call.

    Args:
        lists: of which the batches are made.
    """
    forward, lay_out = _fixed(model, lists)

    def flat(names: tuple[str, ...], n_layout: int, *tensors: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        given = dict(zip(names, tensors[n_layout:], strict=True))
        batch = Batch(**{name: given.get(name) for name in _FIELDS})  # type: ignore[arg-type]
        return loss(evaluate_functional(model, batch, forward, *tensors[:n_layout]), batch)

    function = torch.compile(flat, dynamic=False, fullgraph=True) if compiled else flat

    def step(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        given = {name: getattr(batch, name) for name in _FIELDS if getattr(batch, name) is not None}
        layout = lay_out(batch)
        return function(tuple(given), len(layout), *layout, *given.values())

    return step


def _fixed(model: Potential, lists: Lists) -> tuple[Callable[..., Terms] | None, Callable[[Batch], tuple[Tensor, ...]]]:
    """For SpookyNet a forward pass on rows of one width, and what lays a batch out in them."""
    from heliodor.potentials.spookynet import SpookyNet

    if not isinstance(model, SpookyNet):
        return None, lambda batch: ()
    from heliodor.train.fixed_layout import Layout, forward_fixed

    first = np.repeat(lists.starts[:-1, 0], lists.sizes[:, 1])
    degrees = np.bincount(first + lists.i, minlength=len(lists.positions)) + np.bincount(
        first + lists.j, minlength=len(lists.positions)
    )
    width, length = max(1, int(degrees.max())), int(lists.sizes[:, 0].max())
    width += -width % 4

    def forward(system: object, neighbors: object, slot: Tensor, place: Tensor) -> Terms:
        return forward_fixed(model, system, neighbors, Layout(slot, place, width, length))  # type: ignore[arg-type]

    def lay_out(batch: Batch) -> tuple[Tensor, ...]:
        layout = Layout.of(batch, width, length)
        return layout.slot.to(batch.positions.device), layout.place.to(batch.positions.device)

    return forward, lay_out
