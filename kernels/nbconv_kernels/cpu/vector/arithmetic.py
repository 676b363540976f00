"""Arithmetic on vectors, lane by lane."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbconv_kernels.cpu.simd import SIMD
from nbconv_kernels.cpu.vector.kind import INT32, INT64, Vector, splat

_FLAGS = ("contract", "nsz")  # no reassociation: the order is spelt out


@intrinsic
def fill(typing_context: Any, like: Any, value: Any) -> Any:
    """``value`` in each lane, as many as ``like``, a vector or an array, has; integers become int32."""
    count = like.lanes if isinstance(like, Vector) else SIMD.lanes(like.dtype.bitwidth // 8)
    result = Vector(types.int32 if isinstance(value, types.Integer) else like.dtype, count)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        scalar = context.cast(builder, values[1], value, result.dtype)
        return splat(builder, scalar, result.lanes)

    return result(like, value), codegen


@intrinsic
def plus(typing_context: Any, a: Any, b: Any) -> Any:
    """``a + b``, lane by lane."""
    return a(a, b), lambda context, builder, signature, values: builder.fadd(*values, flags=_FLAGS)


@intrinsic
def minus(typing_context: Any, a: Any, b: Any) -> Any:
    """``a - b``, of vectors lane by lane or of numbers. Never reassociated: (a - b) - c stays that."""
    return a(a, b), lambda context, builder, signature, values: builder.fsub(*values, flags=_FLAGS)


@intrinsic
def times(typing_context: Any, a: Any, b: Any) -> Any:
    """``a * b``, lane by lane."""
    return a(a, b), lambda context, builder, signature, values: builder.fmul(*values, flags=_FLAGS)


@intrinsic
def larger(typing_context: Any, a: Any, b: Any) -> Any:
    """The larger of ``a`` and ``b``, lane by lane, and ``b`` if one is not a number."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *values), *values)

    return a(a, b), codegen


@intrinsic
def smaller(typing_context: Any, a: Any, b: Any) -> Any:
    """The smaller of ``a`` and ``b``, lane by lane, and ``b`` if one is not a number."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *values), *values)

    return a(a, b), codegen


def _halved(builder: Any, vector: Any, combine: Any) -> Any:
    """All lanes combined: the upper half with the lower one, and again with what is left, down to one."""
    lanes = vector.type.count
    undefined = ir.Constant(vector.type, ir.Undefined)
    while lanes > 1:
        lanes //= 2
        order = [(i + lanes) % vector.type.count for i in range(vector.type.count)]
        places = ir.Constant(ir.VectorType(INT32, vector.type.count), order)
        vector = combine(vector, builder.shuffle_vector(vector, undefined, places))
    return builder.extract_element(vector, ir.Constant(INT32, 0))


@intrinsic
def largest(typing_context: Any, vector: Any) -> Any:
    """The largest number in a vector; any of its numbers if one is not a number."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def combine(a: Any, b: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", a, b), a, b)

        return _halved(builder, values[0], combine)

    return vector.dtype(vector), codegen


@intrinsic
def total(typing_context: Any, vector: Any) -> Any:
    """The sum of a vector's lanes."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _halved(builder, values[0], lambda a, b: builder.fadd(a, b, flags=_FLAGS))

    return vector.dtype(vector), codegen


@intrinsic
def beats(typing_context: Any, challenger: Any, best: Any) -> Any:
    """True in the lanes where the challenger is the greater or is not a number."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        greater = builder.fcmp_ordered(">", *values)
        return builder.or_(greater, builder.fcmp_unordered("uno", values[0], values[0]))

    return Vector(types.boolean, best.lanes)(challenger, best), codegen


@intrinsic
def choose(typing_context: Any, mask: Any, a: Any, b: Any) -> Any:
    """``a`` in the lanes where ``mask`` is true, ``b`` elsewhere."""
    return a(mask, a, b), lambda context, builder, signature, values: builder.select(*values)


def _of_pairs(which: int, doc: str) -> Any:
    @intrinsic
    def of_pairs(typing_context: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            order = [2 * lane + which for lane in range(a.lanes)]
            return builder.shuffle_vector(*values, ir.Constant(ir.VectorType(INT32, a.lanes), order))

        return a(a, b), codegen

    of_pairs.__doc__ = doc
    return of_pairs


firsts = _of_pairs(
    0, "The first of each pair of neighbours in the lanes of ``a`` and, behind these, of ``b``."
)
seconds = _of_pairs(
    1, "The second of each pair of neighbours in the lanes of ``a`` and, behind these, of ``b``."
)


@intrinsic
def equal(typing_context: Any, a: Any, b: Any) -> Any:
    """True in the lanes where the integers ``a`` and ``b`` are equal."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.icmp_signed("==", *values)

    return Vector(types.boolean, a.lanes)(a, b), codegen


@intrinsic
def count(typing_context: Any, mask: Any) -> Any:
    """In how many lanes a mask is true."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bits = ir.IntType(mask.lanes)
        return builder.zext(builder.ctpop(builder.bitcast(values[0], bits)), INT64)

    return types.intp(mask), codegen
