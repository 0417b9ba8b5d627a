"""Thin modules in front of weights: low-rank changes, and slower ones. Merged, they are plain weights again.

LoRA: Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang & Chen, arXiv:2106.09685 (2021), eq. 3: W = W0 + s B A with B zero to
begin with, so that nothing changes at the start. A stack of P maps [P, m, n] gets P products, side by side.

The modules hang on torch's parametrizations: the parameters of the changes are among `model.named_parameters()`, the
weights themselves are called ``....parametrizations.NAME.original``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from heliodor.errors import InputError
from heliodor.potential import Potential


class LowRank(nn.Module):
    """W + s · left @ right, left [..., m, r] zero and right [..., r, n] normal with variance 1/n to begin with."""

    def __init__(self, weight: Float[Tensor, "*P m n"], rank: int, scale: float) -> None:
        super().__init__()
        *stack, m, n = weight.shape
        self.scale = scale
        self.left = nn.Parameter(weight.new_zeros(*stack, m, rank))
        self.right = nn.Parameter(torch.randn(*stack, rank, n, dtype=weight.dtype, device=weight.device) / n**0.5)

    def forward(self, weight: Float[Tensor, "*P m n"]) -> Float[Tensor, "*P m n"]:
        return weight + self.scale * (self.left @ self.right)


class Slowed(nn.Module):
    """W + rate · change: an optimiser whose steps do not depend on the gradient's size (Adam) moves W by rate times its
    learning rate, and weight decay pulls towards the weights one began with instead of zero."""

    def __init__(self, weight: Float[Tensor, "*S"], rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.change = nn.Parameter(torch.zeros_like(weight))

    def forward(self, weight: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
        return weight + self.rate * self.change


def add_low_rank(model: Potential, names: Iterable[str], rank: int, scale: float = 1.0, seed: int = 1) -> int:
    """Put low-rank changes before weights of a model, in place; the weights themselves are frozen.

    Args:
        names: of parameters [..., m, n] on parts of the model (`heliodor.train.finetuning.chosen.linear_maps`).
        scale: s, the factor of the product (α/r in the paper).
        seed: of the factors that are not zero.

    Returns:
        How many numbers the changes have: Σ P r (m + n).

    Raises:
        InputError: a rank that is none, or a weight on the model itself.
    """
    if rank < 1:
        raise InputError(f"the rank of the adapters must be at least 1, not {rank}")
    total = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name in names:
            part, last = _place(model, name)
            weight = getattr(part, last)
            weight.requires_grad_(False)
            change = LowRank(weight.detach(), rank, scale)
            parametrize.register_parametrization(part, last, change)
            total += change.left.numel() + change.right.numel()
    return total


def slow_down(model: Potential, rates: Mapping[str, float]) -> None:
    """Let weights of a model change at a part of the learning rate, in place.

    Args:
        rates: by the name of the parameter.

    Raises:
        InputError: a weight on the model itself.
    """
    for name, rate in rates.items():
        part, last = _place(model, name)
        weight = getattr(part, last)
        weight.requires_grad_(False)
        parametrize.register_parametrization(part, last, Slowed(weight.detach(), rate))


def merged_state(model: Potential) -> dict[str, Tensor]:
    """The state dictionary that the same architecture has without the thin modules: changes added to the weights."""
    with torch.no_grad():
        whole = {name: value for name, value in model.state_dict().items() if ".parametrizations." not in f".{name}"}
        for prefix, part in model.named_modules():
            if parametrize.is_parametrized(part):
                for last in part.parametrizations:
                    whole[f"{prefix}.{last}"] = getattr(part, last).detach().clone()
    return whole


def merge(model: Potential, plain: Potential) -> Potential:
    """A plain model with the weights of an adapted one, changes added; neither is touched.

    Args:
        plain: the model before it was adapted: architecture, dtype; the card is taken from `model`.
    """
    result = copy.deepcopy(plain)
    # not torch's remove_parametrizations: it changes a class that copies of the model share
    result.load_state_dict(merged_state(model))
    result.card = dict(model.card)
    return result


def merge_file(path: str | Path, adapted: Potential, plain: Potential) -> Potential | None:
    """As `merge`, from a checkpoint that was written with the thin modules still there; None if it has none."""
    stored = load_file(path)
    if not any(".parametrizations." in name for name in stored):
        return None
    filled = copy.deepcopy(adapted)
    filled.load_state_dict({k: v.double() if v.is_floating_point() else v for k, v in stored.items()})
    return merge(filled, plain)


def round_weights(model: Potential, plain: Potential) -> None:
    """Weights that differ from a plain model's to the nearest float32 numbers, in place, for small checkpoints."""
    before = dict(plain.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not torch.equal(parameter, before[name]):
                parameter.copy_(parameter.float())


def _place(model: Potential, name: str) -> tuple[nn.Module, str]:
    where, _, last = name.rpartition(".")
    if not where:
        # torch would change the class of the model, by which checkpoints know it
        raise InputError(f"{name} is a weight on {model.name} itself, which cannot be adapted: train it as a whole")
    return model.get_submodule(where), last
