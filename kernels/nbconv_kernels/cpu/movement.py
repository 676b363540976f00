"""Bringing operands into the order, and the cache, that the micro-kernel needs."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbconv_kernels.cpu.emitter import INT32, Emitter, address_of
from nbconv_kernels.cpu.simd import SIMD

AHEAD = 256
"""Elements by which a sweep should fetch ahead of its stores: so long a line's old content takes to come."""


@intrinsic
def address(typing_context: Any, array: Any, index: Any) -> Any:
    """The address of element ``index`` of a C-contiguous array, counted through its memory."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return address_of(context, builder, signature.args[0], *values)

    return types.intp(array, types.intp), codegen


@intrinsic
def keep_alive(typing_context: Any, array: Any) -> Any:
    """Hold on to ``array`` until here: Numba frees it after its last use, not its address's."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return context.get_dummy_value()

    return types.void(array), codegen


def _fetch(to_write: int) -> Any:
    """What writes the code of a prefetch into the L2 cache."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], ir.IntType(8).as_pointer())
        arguments = [pointer, *(ir.Constant(INT32, value) for value in (to_write, 2, 1))]  # L2, data
        function_type = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        builder.call(function, arguments)
        return context.get_dummy_value()

    return codegen


@intrinsic
def prefetch(typing_context: Any, where: Any) -> Any:
    """Start to bring the cache line at an address into the L2 cache; any address is allowed."""
    return types.void(types.intp), _fetch(0)


@intrinsic
def prefetch_to_write(typing_context: Any, where: Any) -> Any:
    """As ``prefetch``, for a line that will be written: the CPU foresees loads much better than stores."""
    return types.void(types.intp), _fetch(1)


@intrinsic
def copy_vectors(typing_context: Any, source: Any, source_at: Any, out: Any, out_at: Any, count: Any) -> Any:
    """Copy ``count`` elements, at most a tile's rows, in whole vectors: some more are read and written."""
    i = types.intp

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        source, source_at, out, out_at, count = values
        emit = Emitter(builder, signature.args[0].dtype)
        origin = emit.pointer(address_of(context, builder, signature.args[0], source, source_at))
        target = emit.pointer(address_of(context, builder, signature.args[2], out, out_at))
        done = builder.append_basic_block("copied")
        for first in range(0, SIMD.rows, emit.lanes):
            emit.store(emit.load(origin, first), target, first)
            more = builder.append_basic_block("more")
            builder.cbranch(builder.icmp_signed(">", count, emit.int64(first + emit.lanes)), more, done)
            builder.position_at_end(more)
        builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(source, i, out, i, i), codegen


@intrinsic
def gather_panel(typing_context: Any, rows: Any, at: Any, column: Any, out: Any, out_at: Any) -> Any:
    """Copy a panel's vectors from ``column`` on of the row whose address is ``rows[at]``."""
    i = types.intp

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        rows, at, column, out, out_at = values
        emit = Emitter(builder, signature.args[3].dtype)
        table = context.make_array(signature.args[0])(context, builder, rows).data
        origin = builder.gep(emit.pointer(builder.load(builder.gep(table, [at]))), [column])
        target = emit.pointer(address_of(context, builder, signature.args[3], out, out_at))
        for vector in range(SIMD.vectors):
            emit.store(emit.load(origin, vector * emit.lanes), target, vector * emit.lanes)
        return context.get_dummy_value()

    return types.void(rows, i, i, out, i), codegen


@intrinsic
def transpose_square(
    typing_context: Any,
    source: Any,
    source_at: Any,
    row_stride: Any,
    out: Any,
    out_at: Any,
    places: Any,
    places_at: Any,
    count: Any,
) -> Any:
    """Transpose a square of vectors: column i goes to ``out[out_at + places[places_at + i]]``.

    Only the first ``count`` columns are written. Each round interleaves pairs of vectors, as in a fast
    Fourier transform, so 16 x 16 elements take 64 shuffles.
    """
    i = types.intp
    signature = types.void(source, i, i, out, i, places, i, i)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        source, source_at, row_stride, out, out_at, places, places_at, count = values
        emit = Emitter(builder, signature.args[0].dtype)
        lanes = emit.lanes
        start = emit.pointer(address_of(context, builder, signature.args[0], source, source_at))
        rows = [
            emit.load(builder.gep(start, [builder.mul(row_stride, emit.int64(r))]), 0) for r in range(lanes)
        ]
        # Interleaving row r with row r + lanes / 2, log2(lanes) times over, leaves the columns in order.
        low = [lane // 2 + lanes * (lane % 2) for lane in range(lanes)]
        high = [index + lanes // 2 for index in low]
        half = lanes // 2
        mask_type = ir.VectorType(INT32, lanes)
        for _ in range(lanes.bit_length() - 1):
            rows = [
                builder.shuffle_vector(rows[r], rows[r + half], ir.Constant(mask_type, mask))
                for r in range(half)
                for mask in (low, high)
            ]
        base = emit.pointer(address_of(context, builder, signature.args[3], out, out_at))
        table = builder.gep(context.make_array(signature.args[5])(context, builder, places).data, [places_at])
        done = builder.append_basic_block("transposed")
        for c, column in enumerate(rows):
            write = builder.append_basic_block(f"column_{c}")
            builder.cbranch(builder.icmp_signed("<", emit.int64(c), count), write, done)
            builder.position_at_end(write)
            emit.store(column, builder.gep(base, [builder.load(builder.gep(table, [emit.int64(c)]))]), 0)
        builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, codegen
