"""The arithmetic of a training step: which matrix products are rounded to how many bits.

"bf16" rounds the factors of products with trained parameters to bfloat16 (8 bits, relative error 0.4 %), and their
results; geometry, couplings, sums, physical terms, losses and the parameters themselves stay in float32. "tf32" lets a
GPU round the factors of all float32 products to 11 bits. Validation is always in full precision.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class PrecisionWarning(UserWarning):
    """A precision that this device does not have."""


def dtype_of(precision: str) -> torch.dtype:
    """Of parameters and batches."""
    return torch.float64 if precision == "float64" else torch.float32


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 inside."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """TF32 switched on where asked for and possible; said where it is not."""
    if precision == "tf32" and device.type != "cuda":
        warnings.warn(
            f"precision tf32 is for NVIDIA GPUs, not for {device.type}: training goes on in float32",
            PrecisionWarning,
            stacklevel=3,
        )
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


class RoundedProducts(TorchFunctionMode):
    """Products with trained parameters in bfloat16, in forward passes inside this context and their derivatives."""

    PRODUCTS = frozenset(
        {
            *(torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.einsum, nn.functional.linear),
            *(Tensor.matmul, Tensor.mm, Tensor.bmm, Tensor.__matmul__, Tensor.__rmatmul__),
        }
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in self.PRODUCTS or not any(isinstance(x, nn.Parameter) for x in (*args, *kwargs.values())):
            return func(*args, **kwargs)
        short = [_rounded(x) for x in args]
        found = func(*short, **{name: _rounded(x) for name, x in kwargs.items()})
        return found.float() if isinstance(found, Tensor) and found.dtype == torch.bfloat16 else found


def _rounded(x: Any) -> Any:
    return x.bfloat16() if isinstance(x, Tensor) and x.dtype == torch.float32 else x
