"""The one SIMD micro-kernel behind convolution, dense layers and their gradients, in two addressing forms.

Both compute a tile of ``ROWS`` x (1 or 2 vectors) of a matrix product, ``acc[i, :] += a[i, k] * b[k, :]``,
with the whole tile in vector registers. Numba cannot promise that for a Python loop, so the loop is written
here as LLVM IR on vector values: a phi node per accumulator, one broadcast of ``a`` per row and step, one
fused multiply-add per row, vector and step. ``b`` is read once per step and used ``ROWS`` times; ``a`` is
used once per vector.

``multiply_rows_*``   each row of ``a`` is found through a table of addresses, one per row and *tap* (kernel
                      position); within a tap the ``depth`` elements are contiguous. This is implicit GEMM: the rows
                      are pixels, read where they lie, and a row of zeros stands in for padding.
                      ``out[i] = bias + sum over taps and depth``.
``multiply_reduce_*`` each *step* finds its row of ``b`` through a table of addresses (pixels again), and the ``ROWS``
                      elements of ``a`` lie next to each other. This is the weight gradient: a sum over
                      pixels, added to ``out``.
``transpose_square``  puts weights into the order the first two read them in.

Limit: fused multiply-adds. A 14 x 2 tile issues 28 of them a step against 16 loads, on CPUs that do two of
each a cycle; the measured rate stands in ``benchmarks/``.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbconv_kernels.cpu.simd import SIMD

ROWS = SIMD.rows
SHORT_ROWS = SIMD.short_rows
VECTORS = SIMD.vectors

_INT1 = ir.IntType(1)
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)
_FLAGS = ("contract", "reassoc", "nsz")


class _Emitter:
    """Writes vector IR for one element type."""

    def __init__(self, builder: Any, element: Any) -> None:
        double = element == types.float64
        self.builder = builder
        self.size = 8 if double else 4
        self.lanes = SIMD.lanes(self.size)
        self.element = ir.DoubleType() if double else ir.FloatType()
        self.vector = ir.VectorType(self.element, self.lanes)
        self.suffix = f"v{self.lanes}f{8 * self.size}"

    def int64(self, value: int) -> Any:
        return ir.Constant(_INT64, value)

    def pointer(self, address: Any) -> Any:
        return self.builder.inttoptr(address, self.element.as_pointer())

    def load(self, pointer: Any, offset: int) -> Any:
        """The vector ``offset`` elements behind ``pointer``."""
        at = self.builder.gep(pointer, [self.int64(offset)])
        return self.builder.load(self.builder.bitcast(at, self.vector.as_pointer()), align=self.size)

    def store(self, value: Any, pointer: Any, offset: int) -> None:
        at = self.builder.gep(pointer, [self.int64(offset)])
        self.builder.store(value, self.builder.bitcast(at, self.vector.as_pointer()), align=self.size)

    def masked_store(self, value: Any, pointer: Any, offset: int, mask: Any) -> None:
        target = self.vector.as_pointer()
        mask_type = ir.VectorType(_INT1, self.lanes)
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(ir.VoidType(), [self.vector, target, _INT32, mask_type]),
            f"llvm.masked.store.{self.suffix}.p0",
        )
        at = self.builder.bitcast(self.builder.gep(pointer, [self.int64(offset)]), target)
        self.builder.call(function, [value, at, ir.Constant(_INT32, self.size), mask])

    def lane_mask(self, count: Any, first: int) -> Any:
        """True in the lanes whose column, from ``first`` on, is below ``count``."""
        counts = self.splat(count, ir.VectorType(_INT64, self.lanes))
        columns = ir.Constant(ir.VectorType(_INT64, self.lanes), list(range(first, first + self.lanes)))
        return self.builder.icmp_signed("<", columns, counts)

    def splat(self, scalar: Any, vector: Any | None = None) -> Any:
        vector = vector or self.vector
        undefined = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
        zeros = ir.Constant(ir.VectorType(_INT32, vector.count), [0] * vector.count)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """``a * b + c``: one rounding where the CPU has the instruction, else whatever it has."""
        if not SIMD.fused:
            product = self.builder.fmul(a, b, flags=_FLAGS)
            return self.builder.fadd(product, c, flags=_FLAGS)
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(self.vector, [self.vector, self.vector, self.vector]),
            f"llvm.fma.{self.suffix}",
        )
        return self.builder.call(function, [a, b, c])

    def step(self, a: list[Any], b: Any, accumulators: list[list[Any]]) -> list[list[Any]]:
        """One step of the product: element pointers of each row, pointer to a row of ``b``."""
        vectors = [self.load(b, v * self.lanes) for v in range(len(accumulators[0]))]
        result = []
        for pointer, row in zip(a, accumulators, strict=True):
            scalar = self.splat(self.builder.load(pointer))
            result.append([self.multiply_add(scalar, vectors[v], row[v]) for v in range(len(row))])
        return result

    def phis(self, values: list[list[Any]], block: Any) -> list[list[Any]]:
        """A phi node for each accumulator, with the values it has on arrival from ``block``."""
        nodes = []
        for row in values:
            nodes.append([self.builder.phi(self.vector) for _ in row])
            for node, value in zip(nodes[-1], row, strict=True):
                node.add_incoming(value, block)
        return nodes

    @staticmethod
    def arrive(nodes: list[list[Any]], values: list[list[Any]], block: Any) -> None:
        """The values the phi ``nodes`` have on arrival from ``block``."""
        for node_row, value_row in zip(nodes, values, strict=True):
            for node, value in zip(node_row, value_row, strict=True):
                node.add_incoming(value, block)


def _address_of(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """The address of element ``index`` of a 1-D contiguous array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.ptrtoint(builder.gep(data, [index]), _INT64)


@intrinsic
def address(typing_context: Any, array: Any, index: Any) -> Any:
    """The address of element ``index`` of a C-contiguous array, counted through its memory."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _address_of(context, builder, signature.args[0], *values)

    return types.intp(array, types.intp), codegen


@intrinsic
def keep_alive(typing_context: Any, array: Any) -> Any:
    """Hold on to ``array`` until here: Numba frees it after its last use, not its address's."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return context.get_dummy_value()

    return types.void(array), codegen


@intrinsic
def prefetch(typing_context: Any, where: Any) -> Any:
    """Start to bring the cache line at an address into the L2 cache; any address is allowed."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], ir.IntType(8).as_pointer())
        arguments = [pointer, *(ir.Constant(_INT32, value) for value in (0, 2, 1))]  # read, L2, data
        function_type = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        builder.call(function, arguments)
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def copy_vectors(typing_context: Any, source: Any, source_at: Any, out: Any, out_at: Any, count: Any) -> Any:
    """Copy ``count`` elements, 1 to ``ROWS``, in whole vectors: up to a vector more is read and written."""
    i = types.intp

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        source, source_at, out, out_at, count = values
        emit = _Emitter(builder, signature.args[0].dtype)
        origin = emit.pointer(_address_of(context, builder, signature.args[0], source, source_at))
        target = emit.pointer(_address_of(context, builder, signature.args[2], out, out_at))
        done = builder.append_basic_block("copied")
        for first in range(0, ROWS, emit.lanes):
            emit.store(emit.load(origin, first), target, first)
            more = builder.append_basic_block("more")
            builder.cbranch(builder.icmp_signed(">", count, emit.int64(first + emit.lanes)), more, done)
            builder.position_at_end(more)
        builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(source, i, out, i, i), codegen


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
    """Transpose a square of one vector by one vector: column i goes to ``out[out_at + places[places_at + i]]``.

    Only the first ``count`` columns are written. Each round interleaves pairs of vectors, as in a fast
    Fourier transform, so 16 x 16 elements take 64 shuffles.
    """
    i = types.intp
    signature = types.void(source, i, i, out, i, places, i, i)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        source, source_at, row_stride, out, out_at, places, places_at, count = values
        emit = _Emitter(builder, signature.args[0].dtype)
        lanes = emit.lanes
        start = emit.pointer(_address_of(context, builder, signature.args[0], source, source_at))
        rows = [
            emit.load(builder.gep(start, [builder.mul(row_stride, emit.int64(r))]), 0) for r in range(lanes)
        ]
        # Interleaving row r with row r + lanes / 2, log2(lanes) times over, leaves the columns in order.
        low = [lane // 2 + lanes * (lane % 2) for lane in range(lanes)]
        high = [index + lanes // 2 for index in low]
        half = lanes // 2
        mask_type = ir.VectorType(_INT32, lanes)
        for _ in range(lanes.bit_length() - 1):
            mixed = []
            for r in range(half):
                for mask in (low, high):
                    mixed.append(
                        builder.shuffle_vector(rows[r], rows[r + half], ir.Constant(mask_type, mask))
                    )
            rows = mixed
        base = emit.pointer(_address_of(context, builder, signature.args[3], out, out_at))
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


def _multiply_rows(height: int, vectors: int) -> Any:
    @intrinsic
    def multiply_rows(
        typing_context: Any,
        rows: Any,
        rows_at: Any,
        tap_stride: Any,
        taps: Any,
        depth: Any,
        panel: Any,
        panel_at: Any,
        bias: Any,
        bias_at: Any,
        out: Any,
        out_at: Any,
        column: Any,
        columns: Any,
    ) -> Any:
        i = types.intp
        signature = types.void(rows, i, i, i, i, panel, i, bias, i, out, i, i, i)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            (
                rows,
                rows_at,
                tap_stride,
                taps,
                depth,
                panel,
                panel_at,
                bias,
                bias_at,
                out,
                out_at,
                column,
                columns,
            ) = values
            emit = _Emitter(builder, signature.args[5].dtype)
            one, zero = emit.int64(1), emit.int64(0)
            width = VECTORS * emit.lanes
            table = builder.gep(context.make_array(signature.args[0])(context, builder, rows).data, [rows_at])
            b_start = emit.pointer(_address_of(context, builder, signature.args[5], panel, panel_at))
            bias_start = emit.pointer(_address_of(context, builder, signature.args[7], bias, bias_at))
            start = [[emit.load(bias_start, v * emit.lanes) for v in range(vectors)]] * height
            entry = builder.block
            tap_block = builder.append_basic_block("tap")
            depth_block = builder.append_basic_block("depth")
            next_block = builder.append_basic_block("next_tap")
            done_block = builder.append_basic_block("done")
            builder.cbranch(builder.icmp_signed(">", taps, zero), tap_block, done_block)

            builder.position_at_end(tap_block)
            tap = builder.phi(_INT64)
            tap_b = builder.phi(b_start.type)
            tap_acc = emit.phis(start, entry)
            tap.add_incoming(zero, entry)
            tap_b.add_incoming(b_start, entry)
            row_table = builder.gep(table, [builder.mul(tap, tap_stride)])
            pointers = [
                emit.pointer(builder.load(builder.gep(row_table, [emit.int64(r)]))) for r in range(height)
            ]
            builder.branch(depth_block)

            builder.position_at_end(depth_block)
            k = builder.phi(_INT64)
            b = builder.phi(b_start.type)
            acc = emit.phis(tap_acc, tap_block)
            k.add_incoming(zero, tap_block)
            b.add_incoming(tap_b, tap_block)
            result = emit.step([builder.gep(p, [k]) for p in pointers], b, acc)
            emit.arrive(acc, result, depth_block)
            k_next = builder.add(k, one)
            b_next = builder.gep(b, [emit.int64(width)])
            k.add_incoming(k_next, depth_block)
            b.add_incoming(b_next, depth_block)
            builder.cbranch(builder.icmp_signed("<", k_next, depth), depth_block, next_block)

            builder.position_at_end(next_block)
            tap_next = builder.add(tap, one)
            tap.add_incoming(tap_next, next_block)
            tap_b.add_incoming(b_next, next_block)
            emit.arrive(tap_acc, result, next_block)
            builder.cbranch(builder.icmp_signed("<", tap_next, taps), tap_block, done_block)

            builder.position_at_end(done_block)
            final = emit.phis(start, entry)
            emit.arrive(final, result, next_block)
            out_table = builder.gep(
                context.make_array(signature.args[9])(context, builder, out).data, [out_at]
            )
            targets = []
            for r in range(height):
                target = emit.pointer(builder.load(builder.gep(out_table, [emit.int64(r)])))
                targets.append(builder.gep(target, [column]))
            whole = builder.icmp_signed(">=", columns, emit.int64(vectors * emit.lanes))
            with builder.if_else(whole) as (full, partial):
                with full:
                    for target, row in zip(targets, final, strict=True):
                        for v, value in enumerate(row):
                            emit.store(value, target, v * emit.lanes)
                with partial:
                    masks = [emit.lane_mask(columns, v * emit.lanes) for v in range(vectors)]
                    for target, row in zip(targets, final, strict=True):
                        for v, value in enumerate(row):
                            emit.masked_store(value, target, v * emit.lanes, masks[v])
            return context.get_dummy_value()

        return signature, codegen

    return multiply_rows


def _multiply_reduce(height: int, vectors: int) -> Any:
    @intrinsic
    def multiply_reduce(
        typing_context: Any,
        steps: Any,
        steps_at: Any,
        count: Any,
        column: Any,
        a: Any,
        a_at: Any,
        out: Any,
        out_at: Any,
        out_stride: Any,
        add: Any,
    ) -> Any:
        i = types.intp
        signature = types.void(steps, i, i, i, a, i, out, i, i, types.boolean)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            steps, steps_at, count, column, a, a_at, out, out_at, out_stride, add = values
            emit = _Emitter(builder, signature.args[4].dtype)
            one, zero = emit.int64(1), emit.int64(0)
            table = builder.gep(
                context.make_array(signature.args[0])(context, builder, steps).data, [steps_at]
            )
            a_start = emit.pointer(_address_of(context, builder, signature.args[4], a, a_at))
            out_start = emit.pointer(_address_of(context, builder, signature.args[6], out, out_at))
            out_rows = [
                builder.gep(out_start, [builder.mul(out_stride, emit.int64(r))]) for r in range(height)
            ]
            nothing = [[ir.Constant(emit.vector, None)] * vectors for _ in range(height)]
            entry = builder.block
            loop_block = builder.append_basic_block("step")
            done_block = builder.append_basic_block("done")
            builder.cbranch(builder.icmp_signed(">", count, zero), loop_block, done_block)

            builder.position_at_end(loop_block)
            k = builder.phi(_INT64)
            a_row = builder.phi(a_start.type)
            acc = emit.phis(nothing, entry)
            k.add_incoming(zero, entry)
            a_row.add_incoming(a_start, entry)
            b = builder.gep(emit.pointer(builder.load(builder.gep(table, [k]))), [column])
            result = emit.step([builder.gep(a_row, [emit.int64(r)]) for r in range(height)], b, acc)
            emit.arrive(acc, result, loop_block)
            k_next = builder.add(k, one)
            k.add_incoming(k_next, loop_block)
            a_row.add_incoming(builder.gep(a_row, [emit.int64(height)]), loop_block)
            builder.cbranch(builder.icmp_signed("<", k_next, count), loop_block, done_block)

            builder.position_at_end(done_block)
            final = emit.phis(nothing, entry)
            emit.arrive(final, result, loop_block)
            with builder.if_else(add) as (onto, over):
                for branch, adds in ((onto, True), (over, False)):
                    with branch:
                        for target, row in zip(out_rows, final, strict=True):
                            for v, value in enumerate(row):
                                at = v * emit.lanes
                                total = builder.fadd(emit.load(target, at), value) if adds else value
                                emit.store(total, target, at)
            return context.get_dummy_value()

        return signature, codegen

    return multiply_reduce


# Whole and short tiles, one or two vectors wide: the smaller ones for what is left at the edges.
multiply_rows_2, multiply_rows_1 = _multiply_rows(ROWS, 2), _multiply_rows(ROWS, 1)
multiply_short_rows_2, multiply_short_rows_1 = _multiply_rows(SHORT_ROWS, 2), _multiply_rows(SHORT_ROWS, 1)
multiply_reduce_2, multiply_reduce_1 = _multiply_reduce(ROWS, 2), _multiply_reduce(ROWS, 1)
multiply_short_reduce_2, multiply_short_reduce_1 = (
    _multiply_reduce(SHORT_ROWS, 2),
    _multiply_reduce(SHORT_ROWS, 1),
)
