"""The one SIMD micro-kernel behind convolution, dense layers and their gradients, in two addressing forms.

Both compute a tile of ``ROWS`` x (1 or 2 vectors) of a matrix product, ``acc[i, :] += a[i, k] * b[k, :]``,
with the whole tile in vector registers. Numba cannot promise that for a Python loop, so the loop is written
here as LLVM IR on vector values: a phi node per accumulator, one broadcast of ``a`` per row and step, one
fused multiply-add per row, vector and step. ``b`` is read once per step and used ``ROWS`` times; ``a`` is
used once per vector.

``multiply_rows_*``   each row of ``a`` is found through a table of addresses, one per row and *tap* (kernel
                      position); within a tap the ``depth`` elements are contiguous. This is implicit GEMM:
                      the rows are pixels, read where they lie, and a row of zeros stands in for padding.
                      ``out[i] = bias + sum over taps and depth``.
``multiply_and_finish_*`` the same, and a finish (``epilogue``) before the sums are stored. Meanwhile it
                      brings to the L2 cache what the caller needs next: a cache line a step, ``ahead``
                      elements apart from ``ahead_at`` on.
``multiply_reduce_*`` each *step* finds its row of ``b`` through a table of addresses (pixels again), and the
                      elements of ``a`` lie next to each other. This is the weight gradient: a sum over
                      pixels, stored in or added to ``out``. A line every ``ahead_step`` bytes from the
                      address ``ahead`` on comes to the L2 cache meanwhile, one a step.

Limit: fused multiply-adds. A 14 x 2 tile issues 28 of them a step against 16 loads, on CPUs that do two of
each a cycle; the measured rate stands in ``benchmarks/``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbconv_kernels.cpu.emitter import INT64, Emitter, address_of
from nbconv_kernels.cpu.epilogue import finished
from nbconv_kernels.cpu.simd import SIMD

ROWS = SIMD.rows
SHORT_ROWS = SIMD.short_rows
VECTORS = SIMD.vectors
FEW_ROWS, MANY_VECTORS = 3, 4  # of a wide tile, for few rows; 12 accumulators, as AVX2 has registers for
_STEPS = 4  # of the depth in a turn of a loop that is worth its longer compilation
_AHEAD = 64  # rows of a panel that are on their way from memory, where it is too large for the cache


def _targets(
    context: Any, emit: Emitter, table_type: Any, table: Any, at: Any, column: Any, rows: int
) -> Any:
    """Pointers to ``column`` of each output row, whose addresses stand in ``table`` from ``at`` on."""
    entries = emit.builder.gep(context.make_array(table_type)(context, emit.builder, table).data, [at])
    addresses = [emit.builder.load(emit.builder.gep(entries, [emit.int64(row)])) for row in range(rows)]
    return [emit.builder.gep(emit.pointer(address), [column]) for address in addresses]


class _State(NamedTuple):
    """Where a product is in the depth of a tap."""

    k: Any  # steps done
    b: Any  # pointer to the panel's row
    acc: list[list[Any]]  # the sums
    fetch: Any  # pointer to what is fetched next, or None


def _arriving(emit: Emitter, value: Any, block: Any) -> Any:
    """A phi node for a part of the state, with its value on arrival from ``block``."""
    if value is None:
        return None
    if isinstance(value, list):
        return emit.phis(value, block)
    node = emit.builder.phi(value.type)
    node.add_incoming(value, block)
    return node


def _arrive(emit: Emitter, nodes: _State, values: _State, block: Any) -> None:
    """The values that the phi nodes of a state have on arrival from ``block``."""
    for node, value in zip(nodes, values, strict=True):
        if isinstance(node, list):
            emit.arrive(node, value, block)
        elif node is not None:
            node.add_incoming(value, block)


def _multiply_rows(height: int, vectors: int) -> Any:
    write = _writer_of_multiply_rows(height, vectors, _STEPS)

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
        return types.void(rows, i, i, i, i, panel, i, bias, i, out, i, i, i), write

    return multiply_rows


def _multiply_and_finish_rows(height: int, vectors: int, steps: int = 1) -> Any:
    write = _writer_of_multiply_rows(height, vectors, steps)

    @intrinsic
    def multiply_and_finish_rows(
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
        finish: Any,
        ahead_at: Any,
        ahead: Any,
    ) -> Any:
        i = types.intp
        return types.void(rows, i, i, i, i, panel, i, bias, i, out, i, i, i, finish, i, i), write

    return multiply_and_finish_rows


def _writer_of_multiply_rows(height: int, vectors: int, steps: int) -> Any:
    """What writes the code of ``multiply_rows_*``, with a finish where there is one more argument."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        rows, rows_at, tap_stride, taps, depth, panel, panel_at, bias, bias_at = values[:9]
        out, out_at, column, columns, *finish = values[9:]
        ahead = finish[1:]
        emit = Emitter(builder, signature.args[5].dtype)
        one, zero = emit.int64(1), emit.int64(0)
        width = VECTORS * emit.lanes
        table = builder.gep(context.make_array(signature.args[0])(context, builder, rows).data, [rows_at])
        b_start = emit.pointer(address_of(context, builder, signature.args[5], panel, panel_at))
        bias_start = emit.pointer(address_of(context, builder, signature.args[7], bias, bias_at))
        # The sums are stored a few thousand cycles from now; by then their lines have come.
        for target in _targets(context, emit, signature.args[9], out, out_at, column, height):
            emit.prefetch(target, vectors, write=True)
        start = [[emit.load(bias_start, v * emit.lanes) for v in range(vectors)]] * height
        fetch_start = (
            emit.pointer(address_of(context, builder, signature.args[5], panel, ahead[0])) if ahead else None
        )
        entry = builder.block
        tap_block = builder.append_basic_block("tap")
        depth_block = builder.append_basic_block("depth")
        next_block = builder.append_basic_block("next_tap")
        done_block = builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed(">", taps, zero), tap_block, done_block)

        builder.position_at_end(tap_block)
        tap = builder.phi(INT64)
        tap_b = builder.phi(b_start.type)
        tap_acc = emit.phis(start, entry)
        tap_fetch = builder.phi(b_start.type) if ahead else None
        tap.add_incoming(zero, entry)
        tap_b.add_incoming(b_start, entry)
        if ahead:
            tap_fetch.add_incoming(fetch_start, entry)
        row_table = builder.gep(table, [builder.mul(tap, tap_stride)])
        pointers = [
            emit.pointer(builder.load(builder.gep(row_table, [emit.int64(r)]))) for r in range(height)
        ]

        def turns(block: Any, before: Any, state: _State, count: int, behind: Any) -> _State:
            """A loop of ``count`` steps a turn as long as a whole turn is left; its state at the end."""
            builder.position_at_end(block)
            at = _State(*(_arriving(emit, value, before) for value in state))
            k, b, acc, fetch = at
            for _ in range(count):
                if ahead:
                    emit.prefetch(fetch, 1)
                    fetch = builder.gep(fetch, [ahead[1]])
                else:
                    emit.prefetch(b, vectors, offset=_AHEAD * width)
                acc = emit.step([builder.gep(p, [k]) for p in pointers], b, acc)
                b = builder.gep(b, [emit.int64(width)])
                k = builder.add(k, one)
            end = _State(k, b, acc, fetch)
            _arrive(emit, at, end, block)
            more = builder.icmp_signed("<=", k, builder.sub(depth, emit.int64(count)))
            builder.cbranch(more, block, behind)
            return end

        state = _State(zero, tap_b, tap_acc, tap_fetch)
        before = tap_block
        if steps > 1:
            many_block, rest_block = builder.append_basic_block("steps"), builder.append_basic_block("rest")
            builder.cbranch(builder.icmp_signed(">=", depth, emit.int64(steps)), many_block, rest_block)
            many = turns(many_block, tap_block, state, steps, rest_block)
            builder.position_at_end(rest_block)
            rest = _State(*(_arriving(emit, value, tap_block) for value in state))
            _arrive(emit, rest, many, many_block)
            builder.cbranch(builder.icmp_signed("<", rest.k, depth), depth_block, next_block)
            state, before = rest, rest_block
        else:
            builder.branch(depth_block)
        last = turns(depth_block, before, state, 1, next_block)
        builder.position_at_end(next_block)
        if steps > 1:
            after = _State(*(_arriving(emit, value, rest_block) for value in state))
            _arrive(emit, after, last, depth_block)
            last = after
        result = last.acc

        tap_next = builder.add(tap, one)
        tap.add_incoming(tap_next, next_block)
        tap_b.add_incoming(last.b, next_block)
        if ahead:
            tap_fetch.add_incoming(last.fetch, next_block)
        emit.arrive(tap_acc, result, next_block)
        builder.cbranch(builder.icmp_signed("<", tap_next, taps), tap_block, done_block)

        builder.position_at_end(done_block)
        final = emit.phis(start, entry)
        emit.arrive(final, result, next_block)
        targets = _targets(context, emit, signature.args[9], out, out_at, column, height)
        masks = [emit.lane_mask(columns, v * emit.lanes) for v in range(vectors)]
        if finish:
            final = finished(
                *(emit, finish[0], final),
                lambda row, v: emit.masked_load(targets[row], v * emit.lanes, masks[v]),
            )
        whole = builder.icmp_signed(">=", columns, emit.int64(vectors * emit.lanes))
        with builder.if_else(whole) as (full, partial):
            with full:
                for target, row in zip(targets, final, strict=True):
                    for v, value in enumerate(row):
                        emit.store(value, target, v * emit.lanes)
            with partial:
                for target, row in zip(targets, final, strict=True):
                    for v, value in enumerate(row):
                        emit.masked_store(value, target, v * emit.lanes, masks[v])
        return context.get_dummy_value()

    return codegen


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
        a_stride: Any,
        out: Any,
        out_at: Any,
        out_stride: Any,
        add: Any,
        ahead: Any,
        ahead_step: Any,
    ) -> Any:
        i = types.intp
        signature = types.void(steps, i, i, i, a, i, i, out, i, i, types.boolean, i, i)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            steps, steps_at, count, column, a, a_at, a_stride, out, out_at, out_stride, add = values[:11]
            ahead, ahead_step = values[11:]
            emit = Emitter(builder, signature.args[4].dtype)
            one, zero = emit.int64(1), emit.int64(0)
            table = builder.gep(
                context.make_array(signature.args[0])(context, builder, steps).data, [steps_at]
            )
            a_start = emit.pointer(address_of(context, builder, signature.args[4], a, a_at))
            out_start = emit.pointer(address_of(context, builder, signature.args[7], out, out_at))
            out_rows = [
                builder.gep(out_start, [builder.mul(out_stride, emit.int64(r))]) for r in range(height)
            ]
            nothing = [[ir.Constant(emit.vector, None)] * vectors for _ in range(height)]
            entry = builder.block
            loop_block = builder.append_basic_block("step")
            done_block = builder.append_basic_block("done")
            builder.cbranch(builder.icmp_signed(">", count, zero), loop_block, done_block)

            builder.position_at_end(loop_block)
            k = builder.phi(INT64)
            a_row = builder.phi(a_start.type)
            fetch = builder.phi(INT64)
            acc = emit.phis(nothing, entry)
            k.add_incoming(zero, entry)
            a_row.add_incoming(a_start, entry)
            fetch.add_incoming(ahead, entry)
            emit.prefetch(emit.pointer(fetch), 1)
            b = builder.gep(emit.pointer(builder.load(builder.gep(table, [k]))), [column])
            result = emit.step([builder.gep(a_row, [emit.int64(r)]) for r in range(height)], b, acc)
            emit.arrive(acc, result, loop_block)
            k_next = builder.add(k, one)
            k.add_incoming(k_next, loop_block)
            a_row.add_incoming(builder.gep(a_row, [a_stride]), loop_block)
            fetch.add_incoming(builder.add(fetch, ahead_step), loop_block)
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
multiply_and_finish_2, multiply_and_finish_1 = (
    _multiply_and_finish_rows(ROWS, 2),
    _multiply_and_finish_rows(ROWS, 1),
)
multiply_and_finish_short_2, multiply_and_finish_short_1 = (
    _multiply_and_finish_rows(SHORT_ROWS, 2),
    _multiply_and_finish_rows(SHORT_ROWS, 1),
)
multiply_and_finish_long_2 = _multiply_and_finish_rows(ROWS, 2, _STEPS)
multiply_and_finish_long_short_2 = _multiply_and_finish_rows(SHORT_ROWS, 2, _STEPS)
multiply_reduce_2, multiply_reduce_1 = _multiply_reduce(ROWS, 2), _multiply_reduce(ROWS, 1)
multiply_short_reduce_2, multiply_short_reduce_1 = (
    _multiply_reduce(SHORT_ROWS, 2),
    _multiply_reduce(SHORT_ROWS, 1),
)
multiply_few_reduce = _multiply_reduce(FEW_ROWS, MANY_VECTORS)
