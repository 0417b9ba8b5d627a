"""A hint before the training: the student's last features are made to tell what the teacher's do.

Romero et al., "FitNets: hints for thin deep nets" (ICLR 2015): matching hidden features first, through a linear map
that is thrown away afterwards, gives many numbers per atom to learn from, and no second derivative is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from heliodor.errors import InputError
from heliodor.neighbors import Neighbors, find_neighbors
from heliodor.potential import Potential
from heliodor.potentials.so3lr import SO3LR
from heliodor.system import System
from heliodor.train.batches import Lists, find_lists
from heliodor.train.dataset import Dataset
from heliodor.train.sampling import Sampler, kind_shares

SAMPLE = 1000
"""Structures from which the principal components are taken."""

LEARNING_RATE = 2e-3


@dataclass(frozen=True, eq=False)
class Components:
    """Leading principal components of a teacher's last features.

    Attributes:
        mean: of the features.
        axes: columns that whiten: (x - mean) @ axes has unit variances.
        share: of the features' variance that they hold.
    """

    mean: Float[Tensor, "F"]
    axes: Float[Tensor, "F K"]
    share: float

    def of(self, features: Float[Tensor, "N F"]) -> Float[Tensor, "N K"]:
        """The components of features."""
        return (features - self.mean) @ self.axes


@dataclass(frozen=True)
class Hint:
    """What matching features came to.

    Attributes:
        share: of the variance of the teacher's features in the components matched.
        explained: share of the components' variance that the student's features tell, at the end.
    """

    share: float
    explained: float
    steps: int


class _Edges(Potential):
    """The lists of a network alone."""

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff

    def neighbors(self, system: System, skin: float = 0.0) -> Neighbors:
        return find_neighbors(system, self.cutoff, skin=skin)


def match_features(
    student: Potential,
    teacher: Potential,
    data: Dataset,
    components: int,
    epochs: float,
    *,
    batch_size: int = 16,
    seed: int = 0,
    say: Callable[[int, int], None] | None = None,
) -> Hint:
    """Change a student so that its last features tell the teacher's; in float32, in place.

    Args:
        components: how many principal components of the teacher's features.
        epochs: passes over the data.
        say: called with the steps done and their number.

    Raises:
        InputError: models that are not of SO3LR's form, or more components than features.
    """
    if not isinstance(student, SO3LR) or not isinstance(teacher, SO3LR):
        raise InputError("features are matched between models of SO3LR's form: set features to 0 for others")
    width = teacher.config.network.n_features
    if not 0 < components <= width:
        raise InputError(f"features: the teacher has {width}, of which 1 to {width} components can be matched")
    dtype = student.dtype
    student.float()
    own, theirs = (find_lists(data, _Edges(model.cutoff), None) for model in (student, teacher))
    target = principal_components(teacher, theirs, components)
    random = torch.random.get_rng_state()
    torch.manual_seed(seed)
    readout = nn.Linear(student.config.network.n_features, components)
    torch.random.set_rng_state(random)
    trained = [*student.network.parameters(), *readout.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=1e-4)
    sampler = Sampler(own, batch_size, kind_shares(data.kind, {}), seed)
    per_epoch = len(sampler.epoch(0))
    steps = max(1, math.ceil(epochs * per_epoch))
    left = 1.0
    for step in range(steps):
        batches = sampler.epoch(step // per_epoch)
        chosen = batches[step % len(batches)]
        with torch.no_grad():
            wanted = target.of(last_features(teacher, theirs, chosen))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50) * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        loss = nn.functional.mse_loss(readout(last_features(student, own, chosen)), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        # whitened components have unit variance: what is left of them is the loss
        left = float(loss.detach()) if step == 0 else 0.95 * left + 0.05 * float(loss.detach())
        if say is not None:
            say(step + 1, steps)
    student.to(dtype)
    return Hint(target.share, 1.0 - left, steps)


def last_features(model: SO3LR, lists: Lists, chosen: np.ndarray) -> Float[Tensor, "N F"]:
    """What a model's heads see, of some structures."""
    batch = lists.batch(chosen)
    system = batch.system
    return model.network.features(system, batch.neighbors(system))[-1][0].squeeze(-1)


def principal_components(teacher: SO3LR, lists: Lists, components: int) -> Components:
    """Of the last features over a sample of the structures."""
    order = np.random.default_rng(0).permutation(len(lists))[:SAMPLE]
    with torch.no_grad():
        parts = [last_features(teacher, lists, order[k : k + 32]) for k in range(0, len(order), 32)]
    x = torch.cat(parts).double()
    mean = x.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((x - mean).T, correction=0))
    kept = values[-components:].clamp(min=1e-12)
    axes = vectors[:, -components:] / kept.sqrt()
    return Components(mean.float(), axes.float(), float(kept.sum() / values.sum()))
