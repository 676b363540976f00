"""Vectors from memory, and back."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbconv_kernels.cpu.simd import SIMD
from nbconv_kernels.cpu.vector.kind import ELEMENT, INT32, INT64, Vector, llvm_type, splat

# AVX-512 masks an access at no cost. Elsewhere a mask is slow, or many branches: full vectors go without.
_MASKS_ARE_FREE = SIMD.name == "avx512"


def _existing(builder: Any, count: Any, lanes: int) -> Any:
    """True in the first ``count`` lanes. 32-bit numbers suffice: a count beyond the lanes is cut to them."""
    most = ir.Constant(INT64, lanes)
    count = builder.select(builder.icmp_signed("<", count, most), count, most)
    numbers = ir.Constant(ir.VectorType(INT32, lanes), list(range(lanes)))
    return builder.icmp_signed("<", numbers, splat(builder, builder.trunc(count, INT32), lanes))


def _whole(builder: Any, count: Any, lanes: int) -> Any:
    """Whether ``count`` elements fill the vector."""
    return builder.icmp_signed(">=", count, ir.Constant(INT64, lanes))


def _place(context: Any, builder: Any, array_type: Any, array: Any, at: Any, vector: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


def _memory_intrinsic(builder: Any, what: str, vector: Any, result: Any, parameters: list[Any]) -> Any:
    kind = {"float": "f32", "double": "f64", "i32": "i32"}[str(vector.element)]
    name = f"llvm.masked.{what}.v{vector.count}{kind}.p0"
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, parameters), name)


@intrinsic
def lanes(typing_context: Any, array: Any) -> Any:
    """Elements of ``array``'s dtype in a vector, a constant."""
    count = SIMD.lanes(array.dtype.bitwidth // 8)
    return types.intp(array), lambda context, builder, signature, values: ir.Constant(INT64, count)


def _loaded(
    context: Any, builder: Any, array_type: Any, values: list[Any], lanes: int, default: Any = None
) -> Any:
    """``lanes`` elements of an array from a place on, of which so many exist: ``values`` are these three.

    The others are ``default``, zero if there is none.
    """
    vector = ir.VectorType(ELEMENT[array_type.dtype], lanes)
    align = array_type.dtype.bitwidth // 8
    pointer = _place(context, builder, array_type, values[0], values[1], vector)
    others = ir.Constant(vector, None) if default is None else splat(builder, default, lanes)

    def masked() -> Any:
        mask = _existing(builder, values[2], lanes)
        parameters = [vector.as_pointer(), INT32, mask.type, vector]
        function = _memory_intrinsic(builder, "load", vector, vector, parameters)
        return builder.call(function, [pointer, ir.Constant(INT32, align), mask, others])

    if _MASKS_ARE_FREE:
        return masked()
    with builder.if_else(_whole(builder, values[2], lanes)) as (whole, part):
        with whole:
            all_lanes = builder.load(pointer, align=align)
            from_whole = builder.block
        with part:
            some_lanes = masked()
            from_part = builder.block
    value = builder.phi(vector)
    value.add_incoming(all_lanes, from_whole)
    value.add_incoming(some_lanes, from_part)
    return value


@intrinsic
def load(typing_context: Any, array: Any, at: Any, count: Any) -> Any:
    """The vector at element ``at`` of a contiguous 1-D array, of which ``count`` elements exist."""
    result = Vector(array.dtype, SIMD.lanes(array.dtype.bitwidth // 8))

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _loaded(context, builder, signature.args[0], values, result.lanes)

    return result(array, types.intp, types.intp), codegen


@intrinsic
def load_or(typing_context: Any, array: Any, at: Any, count: Any, other: Any) -> Any:
    """As ``load``, but the lanes that do not exist are ``other``."""
    result = Vector(array.dtype, SIMD.lanes(array.dtype.bitwidth // 8))

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _loaded(context, builder, signature.args[0], values[:3], result.lanes, values[3])

    return result(array, types.intp, types.intp, array.dtype), codegen


@intrinsic
def load_double(typing_context: Any, array: Any, at: Any, count: Any) -> Any:
    """As ``load``, but as many elements as a vector of float64 has, converted to that."""
    result = Vector(types.float64, SIMD.lanes(8))

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        value = _loaded(context, builder, signature.args[0], values, result.lanes)
        return value if array.dtype == types.float64 else builder.fpext(value, llvm_type(result))

    return result(array, types.intp, types.intp), codegen


@intrinsic
def load_places(typing_context: Any, places: Any, at: Any, count: Any, default: Any, like: Any) -> Any:
    """As ``load`` from int32, in as many lanes as ``like`` has; those that do not exist are ``default``."""
    result = Vector(types.int32, SIMD.lanes(like.dtype.bitwidth // 8))

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        other = builder.trunc(values[3], INT32)
        return _loaded(context, builder, signature.args[0], values[:3], result.lanes, other)

    return result(places, types.intp, types.intp, types.intp, like), codegen


def _stored(context: Any, builder: Any, array_type: Any, values: list[Any]) -> None:
    """Write to an array from a place on a vector's first lanes, so many: ``values`` are these four."""
    kind = values[2].type
    align = array_type.dtype.bitwidth // 8
    pointer = _place(context, builder, array_type, values[0], values[1], kind)

    def masked() -> None:
        mask = _existing(builder, values[3], kind.count)
        parameters = [kind, kind.as_pointer(), INT32, mask.type]
        function = _memory_intrinsic(builder, "store", kind, ir.VoidType(), parameters)
        builder.call(function, [values[2], pointer, ir.Constant(INT32, align), mask])

    if _MASKS_ARE_FREE:
        masked()
        return
    with builder.if_else(_whole(builder, values[3], kind.count)) as (whole, part):
        with whole:
            builder.store(values[2], pointer, align=align)
        with part:
            masked()


@intrinsic
def store(typing_context: Any, array: Any, at: Any, vector: Any, count: Any) -> Any:
    """Write the first ``count`` lanes to element ``at`` and following of a contiguous 1-D array."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _stored(context, builder, signature.args[0], values)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.intp), codegen


@intrinsic
def transpose_square(
    typing_context: Any,
    source: Any,
    source_at: Any,
    source_stride: Any,
    out: Any,
    out_at: Any,
    out_stride: Any,
    rows: Any,
    columns: Any,
) -> Any:
    """Write the transpose of a matrix of at most as many rows and columns as a vector has lanes.

    Places are those of the first elements, strides those of rows. Each of log2(lanes) rounds interleaves
    pairs of rows, so that 16 x 16 elements take 64 shuffles.
    """
    i = types.intp

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        source, source_at, source_stride, out, out_at, out_stride, rows, columns = values
        lanes = SIMD.lanes(signature.args[0].dtype.bitwidth // 8)
        number = [ir.Constant(INT64, lane) for lane in range(lanes)]
        zero = number[0]

        def place(start: Any, stride: Any, row: int) -> Any:
            return builder.add(start, builder.mul(stride, number[row]))

        def present(row: int, count: Any, width: Any) -> Any:
            return builder.select(builder.icmp_signed("<", number[row], count), width, zero)

        vectors = []
        for row in range(lanes):
            at = (source, place(source_at, source_stride, row), present(row, rows, columns))
            vectors.append(_loaded(context, builder, signature.args[0], at, lanes))
        low = [lane // 2 + lanes * (lane % 2) for lane in range(lanes)]
        half = lanes // 2
        for _ in range(lanes.bit_length() - 1):
            vectors = [
                builder.shuffle_vector(
                    vectors[r], vectors[r + half], ir.Constant(ir.VectorType(INT32, lanes), order)
                )
                for r in range(half)
                for order in (low, [place + half for place in low])
            ]
        for row in range(lanes):
            at = (out, place(out_at, out_stride, row), vectors[row], present(row, columns, rows))
            _stored(context, builder, signature.args[3], at)
        return context.get_dummy_value()

    return types.void(source, i, i, out, i, i, i, i), codegen
