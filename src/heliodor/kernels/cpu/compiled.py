"""Numba as the kernels use it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from numba import njit

# without "nnan" and "ninf": what is not a number must stay so, to be found
_FAST = {"reassoc", "contract", "nsz", "arcp", "afn"}


def compiled(function: Callable[..., Any]) -> Any:
    """Compile when first called, and keep the result on the disk where some place can be written."""
    bare = inspect.unwrap(function)  # from run-time type checks, which Numba cannot compile
    options: dict[str, Any] = {"nogil": True, "fastmath": _FAST, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(bare)
    except RuntimeError:
        return njit(**options)(bare)
