"""SpookyNet's residual maps, forth and back by hand: matrix products by torch, what is between them in one kernel each.

Only what the way back needs is kept: what each activation read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.kernels.gpu.spookynet.activation import Activations
from heliodor.potentials.spookynet_blocks import Dense, Residual, ResidualMLP, Stack

Kept = list[Tensor]
"""What the way back reads, in the order of the way forth."""


@dataclass(frozen=True, eq=False)
class Linear:
    """P linear maps side by side.

    Attributes:
        weight: as torch's, [out, in] for each.
        bias: None where there is none.
    """

    weight: Float[Tensor, "P F F"]
    bias: Float[Tensor, "P F"] | None

    @staticmethod
    def of(module: Dense, dtype: torch.dtype) -> Linear:
        bias = None if module.bias is None else module.bias.detach().to(dtype).squeeze(1).contiguous()
        return Linear(module.weight.detach().to(dtype).contiguous(), bias)

    def forth(self, x: Float[Tensor, "P N F"]) -> Float[Tensor, "P N F"]:
        if self.bias is None:
            return torch.bmm(x, self.weight.mT)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)

    def back(self, pull: Float[Tensor, "P N F"]) -> Float[Tensor, "P N F"]:
        return torch.bmm(pull, self.weight)


@dataclass(frozen=True, eq=False)
class ResidualMaps:
    """x + L2(φ2(L1(φ1(x)))) of those of the P features that are as deep as this.

    Attributes:
        deep: which; None for all.
    """

    first: Activations
    linear_1: Linear
    second: Activations
    linear_2: Linear
    deep: Int[Tensor, "D"] | None

    @staticmethod
    def of(module: Residual, deep: list[int] | None, dtype: torch.dtype) -> ResidualMaps:
        index = None if deep is None else torch.tensor(deep, device=module.linear_1.weight.device)
        return ResidualMaps(
            Activations.of(module.activation_1, dtype),
            Linear.of(module.linear_1, dtype),
            Activations.of(module.activation_2, dtype),
            Linear.of(module.linear_2, dtype),
            index,
        )

    def forth(self, x: Float[Tensor, "P N F"], kept: Kept) -> Float[Tensor, "P N F"]:
        here = x if self.deep is None else x.index_select(0, self.deep)
        a, carry = self.first.forth(here, self.linear_2.bias)
        u = self.linear_1.forth(a)
        a, _ = self.second.forth(u)
        kept += [here, u]
        if self.linear_2.bias is None:
            y = torch.baddbmm(carry, a, self.linear_2.weight.mT)
        else:
            y = carry.baddbmm_(a, self.linear_2.weight.mT)
        return y if self.deep is None else x.index_copy(0, self.deep, y)

    def back(self, pull: Float[Tensor, "P N F"], kept: Kept) -> Float[Tensor, "P N F"]:
        u, x = kept.pop(), kept.pop()
        here = pull if self.deep is None else pull.index_select(0, self.deep)
        through = self.second.back(u, self.linear_2.back(here))
        through = self.first.back(x, self.linear_1.back(through), here)
        return through if self.deep is None else pull.index_copy(0, self.deep, through)


@dataclass(frozen=True, eq=False)
class Maps:
    """P stacks of residual maps side by side."""

    parallel: int
    levels: tuple[ResidualMaps, ...]

    @staticmethod
    def of(module: Stack, dtype: torch.dtype) -> Maps:
        levels = []
        for level, block in enumerate(module.blocks):
            assert isinstance(block, Residual)
            deep = [p for p, depth in enumerate(module.depths) if depth > level]
            levels.append(ResidualMaps.of(block, None if len(deep) == len(module.depths) else deep, dtype))
        return Maps(len(module.depths), tuple(levels))

    def forth(self, x: Float[Tensor, "P N F"], kept: Kept) -> Float[Tensor, "P N F"]:
        for level in self.levels:
            x = level.forth(x, kept)
        return x

    def back(self, pull: Float[Tensor, "P N F"], kept: Kept) -> Float[Tensor, "P N F"]:
        for level in reversed(self.levels):
            pull = level.back(pull, kept)
        return pull


@dataclass(frozen=True, eq=False)
class MLP:
    """P stacks that read the same features, each with an activation and a linear map behind it."""

    stack: Maps
    activation: Activations
    linear: Linear

    @staticmethod
    def of(module: ResidualMLP, dtype: torch.dtype) -> MLP:
        activation = Activations.of(module.activation, dtype)
        return MLP(Maps.of(module.stack, dtype), activation, Linear.of(module.linear, dtype))

    def forth(self, x: Float[Tensor, "N F"], kept: Kept) -> Float[Tensor, "P N F"]:
        y = self.stack.forth(x.expand(self.stack.parallel, *x.shape), kept)
        kept.append(y)
        return self.linear.forth(self.activation.forth(y)[0])

    def back(self, pull: Float[Tensor, "P N F"], kept: Kept) -> Float[Tensor, "N F"]:
        y = kept.pop()
        pull = self.stack.back(self.activation.back(y, self.linear.back(pull)), kept)
        return pull[0] if len(pull) == 1 else pull.sum(0)
