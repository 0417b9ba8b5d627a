"""Triton's compiler as the kernels use it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import triton


def jit(function: Callable[..., Any]) -> Any:
    """``triton.jit`` of the bare function: Triton reads its source, and run-time type checks would stand before it."""
    return triton.jit(inspect.unwrap(function))
