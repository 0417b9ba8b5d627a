"""What changes while a model is trained, and one step of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heliodor.errors import HeliodorError, InputError
from heliodor.potential import Potential
from heliodor.train.batches import Batch, Lists
from heliodor.train.errors import data_name
from heliodor.train.losses import Loss
from heliodor.train.parallel import Processes
from heliodor.train.schedule import Rate
from heliodor.train.settings import TrainSettings
from heliodor.train.step import StepFunction, evaluate_batch

TOO_MANY_BAD = 50
"""Batches that are not finite, one after the other, at which a run gives up."""

LOSS_RATE = 10.0
"""Learning rate of the robust loss's shapes and scales over that of the model."""


class DivergedError(HeliodorError):
    """Batch after batch gives no finite loss."""


@dataclass
class Run:
    """What changes while a run goes on.

    Attributes:
        spent: s, before this process took the run over.
        reserve: s, what the last errors and pictures will take.
        norm: running average of the gradient's norm.
    """

    model: Potential
    loss: Loss
    optimizer: torch.optim.Optimizer
    rate: Rate
    average: dict[str, Tensor]
    best: dict[str, Tensor]
    best_score: float = math.inf
    unimproved: int = 0
    step: int = 0
    epoch: int = 0
    position: int = 0
    spent: float = 0.0
    reserve: float = 0.0
    norm: float = 0.0
    bad: int = 0
    sums: dict[str, list[float]] = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)

    PLAIN = (
        *("best_score", "unimproved", "step", "epoch", "position", "reserve", "norm", "bad"),
        *("sums", "rows", "skipped"),
    )

    def state(self, key: str, spent: float) -> dict[str, Any]:
        """For `write_state`."""
        return {
            "key": key,
            "spent": spent,
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "best": self.best,
            "pace": vars(self.rate.pace),
            "plateau": vars(self.rate.plateau),
            "random": torch.get_rng_state(),
            **{name: getattr(self, name) for name in self.PLAIN},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` gave."""
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        for mine, theirs in ((self.average, state["average"]), (self.best, state["best"])):
            for name in mine:
                mine[name].copy_(theirs[name])
        vars(self.rate.pace).update(state["pace"])
        vars(self.rate.plateau).update(state["plateau"])
        torch.set_rng_state(state["random"])
        self.spent = state["spent"]
        for name in self.PLAIN:
            setattr(self, name, state[name])


def new_run(model: Potential, loss: Loss, settings: TrainSettings) -> Run:
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise InputError("the model has no parameters to be trained: all are frozen")
    heavy = [p for name, p in trained.items() if _decays(name, p)]
    light = [p for name, p in trained.items() if not _decays(name, p)]
    groups: list[dict[str, Any]] = [
        {"params": heavy, "weight_decay": settings.weight_decay, "factor": 1.0},
        {"params": light, "weight_decay": 0.0, "factor": 1.0},
        {"params": list(loss.parameters()), "weight_decay": 0.0, "factor": LOSS_RATE},
    ]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        amsgrad=settings.optimizer == "amsgrad",
        fused=True,
    )
    average, best = ({name: p.detach().clone() for name, p in trained.items()} for _ in range(2))
    return Run(model, loss, optimizer, Rate(settings), average, best)


def _decays(name: str, parameter: Tensor) -> bool:
    """Matrices do; biases, scales and energies of elements do not, in whatever shape they are kept."""
    return min(parameter.shape[-2:], default=1) > 1 and parameter.ndim > 1 and not name.endswith("bias")


def advance(
    run: Run,
    step: StepFunction,
    parts: list[Batch],
    lists: Lists,
    settings: TrainSettings,
    together: Processes | None = None,
) -> None:
    """One step of the optimiser, unless the batch gives no finite gradient.

    Args:
        parts: of the batch, one after the other in memory; those of the other processes come from there.
    """
    together = together or Processes()
    rate = run.rate.at(run.step)
    for group in run.optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    run.loss.set_progress(run.rate.pace.progress(run.step))
    run.optimizer.zero_grad(set_to_none=True)
    value, sums = _gradients(run, step, parts, together)
    parameters = [p for p in run.model.parameters() if p.requires_grad]
    norm_tensor = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    shapes = [p.grad.double().square().sum() for p in run.loss.parameters() if p.grad is not None]
    told = [norm_tensor.detach().double(), value.double(), *shapes]
    norm, number, *rest = (float(x) for x in torch.stack(told).cpu())
    run.step += 1
    if not all(map(math.isfinite, (norm, number, *rest))):
        _skip(run, parts, lists, together)
        return
    run.bad = 0
    run.norm = norm if run.norm == 0.0 else 0.98 * run.norm + 0.02 * min(norm, 10.0 * run.norm)
    if settings.clip > 0 and norm > settings.clip * run.norm:
        torch.nn.utils.clip_grads_with_norm_(parameters, settings.clip * run.norm, norm_tensor)
    run.optimizer.step()
    # a short memory in the beginning: the first parameters say nothing
    keep = min(settings.ema, (1.0 + run.step) / (10.0 + run.step))
    trained = dict(run.model.named_parameters())
    with torch.no_grad():
        names = list(run.average)
        torch._foreach_lerp_([run.average[n] for n in names], [trained[n].detach() for n in names], 1.0 - keep)
    run.sums["loss"] = [a + b for a, b in zip(run.sums.get("loss", [0.0, 0.0]), (number, 1.0), strict=True)]
    for name, both in sums.items():
        run.sums[name] = [a + b for a, b in zip(run.sums.get(name, [0.0, 0.0]), both.tolist(), strict=True)]


def _gradients(
    run: Run, step: StepFunction, parts: list[Batch], together: Processes
) -> tuple[Tensor, dict[str, Tensor]]:
    """Gradients of a batch in `grad`, its loss, and the sums of absolute errors."""
    learned = [p for p in run.model.parameters() if p.requires_grad]
    everything = [*learned, *run.loss.parameters()]
    counts = None
    if len(parts) != 1 or together.count > 1:
        # what is divided by must be known before the first part is differentiated
        own = [run.loss.label_counts(part) for part in parts]
        none = torch.zeros(len(run.loss.names), dtype=learned[0].dtype, device=learned[0].device)
        counts = together.add_up(sum(own, none))
    values: list[Tensor] = []
    sums: dict[str, Tensor] = {}
    for part in parts:
        value, found = step(part, counts)
        value.backward()  # type: ignore[no-untyped-call]
        values.append(value.detach())
        sums = {name: sums[name] + both if name in sums else both for name, both in found.items()}
    for p in everything:
        # what a batch, or one process's part of it, does not touch (charge embeddings of neutral molecules, the loss of
        # stresses where none is known) is treated as in a compiled step
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    nothing = torch.zeros((), dtype=learned[0].dtype, device=learned[0].device)
    total = sum(values[1:], values[0]) if values else nothing
    if together.count > 1:
        names = run.loss.names
        rest = [total, *(sums.get(name, nothing.expand(2)) for name in names)]
        grads = [p.grad for p in everything if p.grad is not None]
        flat = together.add_up(torch.cat([x.reshape(-1).to(nothing.dtype) for x in (*grads, *rest)]))
        pieces = torch.split(flat, [x.numel() for x in (*grads, *rest)])
        for grad, piece in zip(grads, pieces, strict=False):
            grad.copy_(piece.view_as(grad))
        total = pieces[len(grads)].squeeze(0)
        sums = dict(zip(names, pieces[len(grads) + 1 :], strict=True))
    return total, sums


def _skip(run: Run, parts: list[Batch], lists: Lists, together: Processes) -> None:
    """Note a bad batch and which of its structures made it bad."""
    own = []
    for index in [k for part in parts for k in part.index[part.index >= 0].tolist()]:
        alone = lists.batch(np.array([index])).to(run.model.device)
        outputs = evaluate_batch(run.model, alone)
        value, _ = run.loss(outputs, alone)
        if not bool(torch.isfinite(value)) or not bool(torch.isfinite(outputs.forces).all()):
            own.append((index, data_name(lists.dataset, index)))
    names = [name for _, name in sorted(pair for found in together.gather(own) for pair in found)]
    run.skipped.append({"step": run.step, "structures": names})
    run.optimizer.zero_grad(set_to_none=True)
    run.bad += 1
    if run.bad >= TOO_MANY_BAD:
        blame = f", the last one because of {', '.join(names)}" if names else ""
        raise DivergedError(
            f"{run.bad} batches in a row gave no finite loss{blame}: check these structures, or lower learning_rate"
        )
