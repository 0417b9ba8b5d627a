"""What a training run would take, measured by a few real steps on copies."""

from __future__ import annotations

import math
import statistics
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from heliodor.api import choose_device
from heliodor.potential import Potential
from heliodor.train.batches import find_lists
from heliodor.train.dataset import Dataset
from heliodor.train.finish import ready
from heliodor.train.lazy_lists import SHARE, bytes_of_lists, free_memory
from heliodor.train.losses import make_loss
from heliodor.train.precision import dtype_of
from heliodor.train.references import References, references_for
from heliodor.train.run import Run, advance, new_run
from heliodor.train.sampling import Sampler, kind_shares
from heliodor.train.settings import TrainSettings
from heliodor.train.stepper import Stepper

SAMPLE = 400
"""Structures, at most, from which batches are made."""

STEPS = 3


@dataclass(frozen=True)
class Estimate:
    """Of one process, without compilation and without validation.

    Attributes:
        bytes_peak: the most memory that tensors and lists take, beyond the program and the data set.
        seconds_per_epoch: of steps and the making of batches.
        structures_per_second: of the same.
        batches_per_epoch: about; exact where all structures were looked at.
        steps: of the optimiser in the whole run, about; 0 where the settings do not say how long it is.
    """

    bytes_peak: int
    seconds_per_epoch: float
    structures_per_second: float
    batches_per_epoch: int
    steps: int


def estimate(model: Potential, training: Dataset, settings: TrainSettings) -> Estimate:
    """Time and memory of a run, by a few steps on copies: neither the model nor the random numbers change.

    Raises:
        InputError: settings or data that no run could be made of.
    """
    settings.check()
    threads, random = torch.get_num_threads(), torch.get_rng_state()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        return _measure(model, training, settings)
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(random)


def _measure(model: Potential, training: Dataset, settings: TrainSettings) -> Estimate:
    device = choose_device(settings.device)
    few = np.sort(np.random.default_rng([settings.seed, 13]).permutation(len(training))[:SAMPLE])
    sample = training if len(few) == len(training) else training.take(few)
    references = References.from_card(model.card) or references_for(sample)
    learner = ready(model, references).to(dtype=dtype_of(settings.precision)).to(device).train()
    lists = find_lists(sample, learner, references, learner.dtype)
    loss = make_loss(settings, lists, learner.outputs).to(device=device, dtype=learner.dtype)
    present = set(sample.kind.tolist())
    shares = {kind: share for kind, share in settings.kind_shares.items() if kind in present}
    sampler = Sampler(lists, settings.batch_size, kind_shares(sample.kind, shares), settings.seed)
    batches = sampler.epoch(0)
    run = new_run(learner, loss, settings)
    step = Stepper(learner, loss, lists, sampler.shape, settings.precision)

    def once(rows: np.ndarray) -> tuple[float, int]:
        begun = time.perf_counter()
        advance(run, step, [step.batch(rows)], lists, settings)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begun, len(rows)

    # the first step prepares things once; the largest batch takes the most memory
    largest = max(batches, key=lambda rows: int(lists.sizes[rows].sum()))
    peak = _peak(lambda: once(largest), device)
    times = [once(batches[k % len(batches)]) for k in range(STEPS)]
    speed = 1.0 / statistics.median(seconds / number for seconds, number in times)
    per_epoch = max(1, round(len(batches) * len(training) / len(sample)))
    per_step = len(training) / speed / per_epoch * settings.accumulate
    kept = min(bytes_of_lists(training, learner), SHARE * free_memory())
    return Estimate(
        bytes_peak=int(peak + _bytes_of(run) + kept),
        seconds_per_epoch=len(training) / speed,
        structures_per_second=speed,
        batches_per_epoch=per_epoch,
        steps=_steps(settings, per_epoch, per_step),
    )


def _steps(settings: TrainSettings, per_epoch: int, seconds_per_step: float) -> int:
    by_epochs = settings.epochs * math.ceil(per_epoch / settings.accumulate) if settings.epochs else math.inf
    found = min(by_epochs, settings.seconds / seconds_per_step)
    return math.ceil(found) if math.isfinite(found) else 0


def _bytes_of(run: Run) -> int:
    """Parameters, gradients, averages and what the optimiser remembers; the copies that are validated too."""
    states = [x for state in run.optimizer.state.values() for x in state.values() if isinstance(x, Tensor)]
    parameters = [*run.model.parameters(), *run.loss.parameters()]
    tensors = [*states, *parameters, *parameters, *parameters, *run.average.values(), *run.best.values()]
    return sum(x.nbytes for x in tensors)


def _peak(step: Callable[[], object], device: torch.device) -> int:
    """Bytes that tensors take at most while a step is made, beyond those before."""
    if device.type == "cuda":
        step()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return int(torch.cuda.max_memory_allocated(device) - before)
    with Tally() as tally:
        step()
    return tally.most


class Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors made inside this context, as they come and go."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._seen = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for x in tree_leaves(found):
            if isinstance(x, Tensor):
                storage = x.untyped_storage()
                if storage not in self._seen:
                    self._seen[storage] = True
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self._gone, storage.nbytes()).atexit = False
        return found

    def _gone(self, size: int) -> None:
        self.now -= size
