"""One evaluation of a batch with the graph that losses on forces need: plainly, or in a form that compiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms, evaluate_system, total_dipole
from heliodor.system import System
from heliodor.train.batches import Batch, Lists
from heliodor.train.losses import Loss, Outputs, network_term, stress_of

StepFunction = Callable[[Batch, Tensor | None], tuple[Tensor, dict[str, Tensor]]]
"""Loss and sums of absolute errors of a batch; a part of one is divided by the label counts given (`Loss.forward`)."""

_FIELDS = tuple(f.name for f in fields(Batch))


def evaluate_batch(model: Potential, batch: Batch, stress: bool | None = None) -> Outputs:
    """Energies and forces by `evaluate_system`, differentiable in the model's parameters.

    Args:
        stress: whether to ask for it too; by default where a structure of the batch has a label of it.
    """
    system = batch.system
    asked = bool(torch.isfinite(batch.stress).any()) if stress is None else stress
    neighbors = batch.neighbors(system)
    if not asked:
        return Outputs.of(evaluate_system(model, system, neighbors, create_graph=True))
    strained = with_shifts(neighbors, system)
    return Outputs.of(evaluate_system(model, system, strained, virial=True, create_graph=True), system)


def with_shifts(neighbors: Neighbors, system: System) -> Neighbors:
    """Lists of a batch, which know translations in Å alone, with those in lattice vectors: for cells that change."""
    long = None if neighbors.long_range is None else with_shifts(neighbors.long_range, system)
    if neighbors.offset is None:
        return replace(neighbors, long_range=long)
    inverse = torch.linalg.pinv(system.cell)[system.batch[neighbors.i]]
    shift = torch.bmm(neighbors.offset.unsqueeze(1), inverse).squeeze(1).round().to(torch.int32)
    return replace(neighbors, shift=shift, long_range=long)


def evaluate_functional(
    model: Potential,
    batch: Batch,
    forward: Callable[..., Terms] | None = None,
    *layout: Tensor,
    stress: bool = False,
) -> Outputs:
    """The same by torch.func, which torch.compile can differentiate twice.

    Args:
        forward: in the place of the model's own, of (system, neighbors, *layout).
    """
    call = forward or model

    def energy(positions: Tensor, strain: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        moved = replace(batch, positions=positions)
        if strain is not None:
            moved = _deform(moved, strain)
        system = moved.system
        terms = call(system, moved.neighbors(system), *layout)
        node = torch.stack([part.to(positions.dtype) for part in terms.energies.values()]).sum(0)
        found = {
            "energy": torch.zeros_like(batch.energy).index_add(0, batch.batch, node),
            "dipole": total_dipole(terms, system),
            "hirshfeld_ratios": terms.hirshfeld_ratios,
            "charges": terms.charges,
            "node_energies": terms.energies[network_term(terms.energies)],
        }
        return node.sum(), {name: value for name, value in found.items() if value is not None}

    if not stress:
        gradient, (_, found) = torch.func.grad_and_value(energy, has_aux=True)(batch.positions)
        return Outputs(forces=-gradient, **found)
    both = torch.func.grad_and_value(energy, argnums=(0, 1), has_aux=True)
    (gradient, slope), (_, found) = both(batch.positions, torch.zeros_like(batch.cell))
    virial = -0.5 * (slope + slope.mT)
    return Outputs(forces=-gradient, stress=stress_of(virial, batch.system), **found)


def _deform(batch: Batch, strain: Tensor) -> Batch:
    """Positions, cells and lattice translations under R -> R (1 + ε)."""

    def deformed(rows: Tensor, owner: Tensor) -> Tensor:
        return rows + torch.bmm(rows.unsqueeze(1), strain.index_select(0, owner)).squeeze(1)

    changed = {"positions": deformed(batch.positions, batch.batch), "cell": batch.cell + batch.cell @ strain}
    if batch.offset is not None:
        changed["offset"] = deformed(batch.offset, batch.batch.index_select(0, batch.i))
    if batch.pair_offset is not None and batch.pair_i is not None:
        changed["pair_offset"] = deformed(batch.pair_offset, batch.batch.index_select(0, batch.pair_i))
    return replace(batch, **changed)


def plain_step(model: Potential, loss: Loss) -> StepFunction:
    """Loss and sums of absolute errors of a batch."""

    def step(batch: Batch, counts: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        return loss(evaluate_batch(model, batch, None if loss.wants_stress else False), batch, counts)

    return step


def functional_step(model: Potential, loss: Loss, lists: Lists, *, compiled: bool = True) -> StepFunction:
    """As `plain_step`, for batches filled up to one shape, and compiled at the first call.

    Args:
        lists: of which the batches are made.
    """
    forward, lay_out = _fixed(model, lists)

    def flat(
        names: tuple[str, ...], n_layout: int, counts: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        given = dict(zip(names, tensors[n_layout:], strict=True))
        batch = Batch(**{name: given.get(name) for name in _FIELDS})  # type: ignore[arg-type]
        outputs = evaluate_functional(model, batch, forward, *tensors[:n_layout], stress=loss.wants_stress)
        return loss(outputs, batch, counts)

    function = torch.compile(flat, dynamic=False, fullgraph=True) if compiled else flat

    def step(batch: Batch, counts: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        given = {name: getattr(batch, name) for name in _FIELDS if getattr(batch, name) is not None}
        layout = lay_out(batch)
        divisors = loss.label_counts(batch) if counts is None else counts
        return function(tuple(given), len(layout), divisors, *layout, *given.values())

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
