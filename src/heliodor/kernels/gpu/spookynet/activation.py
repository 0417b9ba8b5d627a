"""SpookyNet's activations with learned steepness and scale, forth and back, of features [P, N, F]."""

# mypy: disable-error-code="import-untyped, no-untyped-def"
from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from heliodor.kernels.gpu.jit import jit
from heliodor.potentials.spookynet_blocks import Activation

BLOCK = 1024
WARPS = 4


@jit
def _logistic(v):
    u = tl.exp(-tl.abs(v))
    return tl.where(v >= 0.0, 1.0, u) / (1.0 + u)


@jit
def activate(
    x, alpha, beta, bias, out, carry, plane, stride, F: tl.constexpr, SSP: tl.constexpr, CARRY: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """out = φ(x), and carry = x + bias if CARRY; maps of x lie ``stride`` elements apart (0: all read the same)."""
    p = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    on = place < plane
    at = p * plane + place
    column = p * F + place % F
    v = tl.load(x + p * stride + place, mask=on, other=0.0)
    a = tl.load(alpha + column, mask=on, other=0.0)
    b = tl.load(beta + column, mask=on, other=0.0)
    if SSP:
        flat = b == 0.0
        s = b * v
        soft = tl.maximum(s, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(s))) - 0.6931471805599453
        y = a * tl.where(flat, 0.5 * v, soft / tl.where(flat, 1.0, b))
    else:
        y = a * v * _logistic(b * v)
    tl.store(out + at, y, mask=on)
    if CARRY:
        tl.store(carry + at, v + tl.load(bias + column, mask=on, other=0.0), mask=on)


@jit
def activate_back(
    x, alpha, beta, pull, onward, out, plane, stride, F: tl.constexpr, SSP: tl.constexpr, ADD: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """out = pull φ'(x), plus ``onward`` if ADD."""
    p = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    on = place < plane
    at = p * plane + place
    column = p * F + place % F
    v = tl.load(x + p * stride + place, mask=on, other=0.0)
    a = tl.load(alpha + column, mask=on, other=0.0)
    b = tl.load(beta + column, mask=on, other=0.0)
    s = _logistic(b * v)
    slope = a * s if SSP else a * s * (1.0 + b * v * (1.0 - s))
    y = tl.load(pull + at, mask=on, other=0.0) * slope
    if ADD:
        y += tl.load(onward + at, mask=on, other=0.0)
    tl.store(out + at, y, mask=on)


@dataclass(frozen=True, eq=False)
class Activations:
    """φ of P maps side by side."""

    alpha: Float[Tensor, "P F"]
    beta: Float[Tensor, "P F"]
    ssp: bool

    @staticmethod
    def of(module: Activation, dtype: torch.dtype) -> Activations:
        alpha, beta = (part.detach().to(dtype).squeeze(1).contiguous() for part in (module.alpha, module.beta))
        return Activations(alpha, beta, module.kind == "ssp")

    def forth(
        self, x: Float[Tensor, "P N F"], bias: Float[Tensor, "P F"] | None = None
    ) -> tuple[Float[Tensor, "P N F"], Float[Tensor, "P N F"]]:
        """φ(x), and x + bias, which is x itself without a bias; x may be one map for all, expanded."""
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        carry = x if bias is None else torch.empty_like(out)
        with_bias = self.alpha if bias is None else bias
        activate[self._grid(out)](
            x, self.alpha, self.beta, with_bias, out, carry, *self._shape(x), SSP=self.ssp, CARRY=bias is not None,
            BLOCK=BLOCK, num_warps=WARPS,
        )  # fmt: skip
        return out, carry

    def back(
        self, x: Float[Tensor, "P N F"], pull: Float[Tensor, "P N F"], onward: Float[Tensor, "P N F"] | None = None
    ) -> Float[Tensor, "P N F"]:
        """pull φ'(x) + onward."""
        out = torch.empty_like(pull)
        activate_back[self._grid(out)](
            x, self.alpha, self.beta, pull, pull if onward is None else onward, out, *self._shape(x), SSP=self.ssp,
            ADD=onward is not None, BLOCK=BLOCK, num_warps=WARPS,
        )  # fmt: skip
        return out

    def _grid(self, out: Tensor) -> tuple[int, int]:
        return (triton.cdiv(out[0].numel(), BLOCK), len(out))

    @staticmethod
    def _shape(x: Tensor) -> tuple[int, int, int]:
        p, n, f = x.shape
        stride = x.stride(0) if p > 1 else n * f
        assert (x.stride(2) == 1 or f == 1) and (x.stride(1) == f or n == 1)
        return n * f, stride, f
