"""Triton's compiler as the kernels use it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import triton

from heliodor.kernels.gpu.ahead import interpreted


def jit(function: Callable[..., Any]) -> Any:
    """``triton.jit`` of the bare function: Triton reads its source, and run-time type checks would stand before it."""
    return triton.jit(inspect.unwrap(function))


def _let_numbers_count() -> None:
    """Let the interpreter run ``range(n)`` with n from memory: its numbers are arrays of one, not so for NumPy 2.4."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched


if interpreted():
    _let_numbers_count()
