"""Threads that wait for one another without a lock of Python's: a step of many short stages starts them once."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from heliodor.kernels.cpu.compiled import compiled
from heliodor.kernels.cpu.vector import intrinsic

SPINS = 2000
"""Looks at the gate before a thread offers its core to others: about a microsecond."""


def gate() -> np.ndarray:
    """Where threads wait: how many have come, how often all had, and whether one of them has failed."""
    return np.zeros(3, np.int64)


def _place(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


@intrinsic
def _raise(typingctx, array, index):  # type: ignore[no-untyped-def]
    """Add one to a number of the gate; what it was."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = _place(context, builder, array, *arguments)
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(array, types.intp), code


@intrinsic
def _look(typingctx, array, index):  # type: ignore[no-untyped-def]
    """A number of the gate, as other threads left it."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.load_atomic(_place(context, builder, array, *arguments), "seq_cst", 8)

    return types.int64(array, types.intp), code


@intrinsic
def _clear(typingctx, array, index):  # type: ignore[no-untyped-def]
    """Set a number of the gate to zero."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = _place(context, builder, array, *arguments)
        builder.store_atomic(ir.Constant(ir.IntType(64), 0), place, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp), code


@intrinsic
def _let_others(typingctx):  # type: ignore[no-untyped-def]
    """Offer this core to whoever else wants it."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if sys.platform != "win32":
            kind = ir.FunctionType(ir.IntType(32), [])
            function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
                builder.module, kind, "sched_yield"
            )
            builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), code


@compiled
def wait(gate, threads):  # type: ignore[no-untyped-def]
    """Go on when all threads have come here: True. False when one has failed and will never come."""
    if threads == 1:
        return True
    turn = _look(gate, 1)
    if _raise(gate, 0) == threads - 1:
        _clear(gate, 0)
        _raise(gate, 1)
        return True
    spins = 0
    while _look(gate, 1) == turn:
        if _look(gate, 2) > 0:
            return False
        spins += 1
        if spins > SPINS:
            _let_others()
    return True


@compiled
def fail(gate):  # type: ignore[no-untyped-def]
    """Let all who wait know that this thread will not come."""
    _raise(gate, 2)
