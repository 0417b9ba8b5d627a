"""Eight numbers at once in Numba: a type that LLVM keeps in registers, whatever the width of the machine's own.

Numba leaves it to LLVM to find what can be done side by side, which it does for plain loops over arrays. Where sums of
many products must stay in registers (matrix products, heads of an attention), it is said here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic as _intrinsic
from numba.extending import models, register_model

WIDTH = 8
_FAST = ("reassoc", "contract", "nsz")


class Vector(types.Type):
    """Numba's type of eight float32 or float64."""

    def __init__(self, scalar: Any) -> None:
        self.scalar = scalar
        super().__init__(name=f"Vector({scalar})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _llvm(kind.scalar))  # type: ignore[no-untyped-call]


def _llvm(scalar: Any) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if scalar == types.float32 else ir.DoubleType(), WIDTH)


def intrinsic(function: Callable[..., Any]) -> Any:
    """Numba's, of the bare function: run-time type checks must not stand before it."""
    return _intrinsic(inspect.unwrap(function))


def _place(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), _llvm(array_type.dtype).as_pointer())


@intrinsic
def load(typingctx, array, offset):  # type: ignore[no-untyped-def]
    """Eight numbers of a contiguous array from a flat offset on."""
    if not isinstance(array, types.Array) or array.layout != "C":
        return None

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = _place(context, builder, array, *arguments)
        return builder.load(place, align=array.dtype.bitwidth // 8)

    return Vector(array.dtype)(array, types.intp), code


@intrinsic
def store(typingctx, array, offset, value):  # type: ignore[no-untyped-def]
    """Write eight numbers to a contiguous array from a flat offset on."""
    if not isinstance(array, types.Array) or array.layout != "C":
        return None

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = _place(context, builder, array, *arguments[:2])
        builder.store(arguments[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), code


@intrinsic
def splat(typingctx, value):  # type: ignore[no-untyped-def]
    """One number eight times."""
    scalar = value if value in (types.float32, types.float64) else None
    if scalar is None:
        return None

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        empty = ir.Constant(_llvm(scalar), ir.Undefined)
        one = builder.insert_element(empty, arguments[0], ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        return builder.shuffle_vector(one, empty, mask)

    return Vector(scalar)(scalar), code


@intrinsic
def spread(typingctx, array, offset):  # type: ignore[no-untyped-def]
    """One number of a contiguous array eight times; no test whether the flat offset is negative."""
    if not isinstance(array, types.Array) or array.layout != "C":
        return None

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(array)(context, builder, arguments[0]).data
        value = builder.load(builder.gep(data, [arguments[1]]))
        empty = ir.Constant(_llvm(array.dtype), ir.Undefined)
        one = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        return builder.shuffle_vector(one, empty, mask)

    return Vector(array.dtype)(array, types.intp), code


def _binary(name: str) -> Any:
    def operation(typingctx, a, b):  # type: ignore[no-untyped-def]
        if not isinstance(a, Vector) or a != b:
            return None

        def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            return getattr(builder, name)(*arguments, flags=_FAST)

        return a(a, a), code

    return intrinsic(operation)


add = _binary("fadd")
mul = _binary("fmul")


@intrinsic
def fma(typingctx, a, b, c):  # type: ignore[no-untyped-def]
    """a b + c, in one instruction where there is one."""
    if not isinstance(a, Vector) or not a == b == c:
        return None

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        one, two, three = arguments
        return builder.fadd(builder.fmul(one, two, flags=_FAST), three, flags=_FAST)

    return a(a, a, a), code


@intrinsic
def total(typingctx, a):  # type: ignore[no-untyped-def]
    """The sum of the eight."""
    if not isinstance(a, Vector):
        return None

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        (value,) = arguments
        for half in (4, 2, 1):
            picks = [*range(half, 2 * half), *range(2 * half, WIDTH), *range(half)]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), (picks + list(range(WIDTH)))[:WIDTH])
            value = builder.fadd(value, builder.shuffle_vector(value, value, mask), flags=_FAST)
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return a.scalar(a), code


@intrinsic
def from_bits(typingctx, bits):  # type: ignore[no-untyped-def]
    """The float32 whose bits an int32 has."""
    if bits != types.int32:
        return None

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), code


@intrinsic
def to_bits(typingctx, value):  # type: ignore[no-untyped-def]
    """The bits of a float32 as an int32."""
    if value != types.float32:
        return None

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), code


__all__ = ["WIDTH", "Vector", "add", "fma", "from_bits", "load", "mul", "splat", "spread", "store", "to_bits", "total"]
