"""Kernels of straight-line code, written out from a model's couplings.

Sums over sparse couplings run over registers, and registers have no index at run time: every product stands in the
source by itself.
"""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Sequence
from typing import Any

import triton.language as tl

from heliodor.kernels.gpu.jit import jit


def kernel(name: str, lines: Sequence[str], **known: Any) -> Any:
    """The Triton kernel that lines of source define.

    Args:
        name: of the function that the lines define.
        known: other Triton functions that it calls.
    """
    source = "\n".join(lines) + "\n"
    file = f"<heliodor {name} {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    # Triton reads a function's source again, as tracebacks do
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    scope: dict[str, Any] = {"__name__": f"{__name__}.{name}", "tl": tl, **known}
    exec(compile(source, file, "exec"), scope)
    return jit(scope[name])


def total(parts: Sequence[str]) -> str:
    """A sum as source."""
    return " + ".join(parts)
