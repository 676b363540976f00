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

from collections.abc import Callable
from typing import Any

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
_UNROLLED = 4  # steps in a turn of those loops that are worth the longer compilation: "long" ones
_AHEAD = 64  # rows of a panel that are on their way from memory, where it is too large for the cache


_State = tuple[Any, ...]


def _targets(
    context: Any, emit: Emitter, table_type: Any, table: Any, at: Any, column: Any, rows: int
) -> Any:
    """Pointers to ``column`` of each output row, whose addresses stand in ``table`` from ``at`` on."""
    entries = emit.builder.gep(context.make_array(table_type)(context, emit.builder, table).data, [at])
    addresses = [emit.builder.load(emit.builder.gep(entries, [emit.int64(row)])) for row in range(rows)]
    return [emit.builder.gep(emit.pointer(address), [column]) for address in addresses]


def _repeat(
    emit: Emitter, count: Any, state: _State, step: Callable[[_State], _State], unrolled: int
) -> _State:
    """Emit ``step`` in a loop of ``count`` turns, the first part of them ``unrolled`` steps at a time.

    A state begins with the number of steps done; its parts are values, rows of vectors or None.
    """
    builder = emit.builder
    for steps in (unrolled, 1) if unrolled > 1 else (1,):
        before = builder.block
        turn, behind = builder.append_basic_block("turn"), builder.append_basic_block("behind")

        def another(done: Any, steps: int = steps) -> Any:
            return builder.icmp_signed("<=", builder.add(done, emit.int64(steps)), count)

        builder.cbranch(another(state[0]), turn, behind)
        builder.position_at_end(turn)
        nodes = _arriving(emit, state, before)
        after = nodes
        for _ in range(steps):
            after = step(after)
        _arrive(emit, nodes, after, turn)
        builder.cbranch(another(after[0]), turn, behind)
        builder.position_at_end(behind)
        end = _arriving(emit, state, before)
        _arrive(emit, end, after, turn)
        state = end
    return state


def _arriving(emit: Emitter, state: _State, block: Any) -> _State:
    """A phi node for each part of a state, with its value on arrival from ``block``."""
    nodes = []
    for value in state:
        if value is None or isinstance(value, list):
            nodes.append(value and emit.phis(value, block))
            continue
        nodes.append(emit.builder.phi(value.type))
        nodes[-1].add_incoming(value, block)
    return tuple(nodes)


def _arrive(emit: Emitter, nodes: _State, state: _State, block: Any) -> None:
    """The values that the phi nodes of a state have on arrival from ``block``."""
    for node, value in zip(nodes, state, strict=True):
        if isinstance(node, list):
            emit.arrive(node, value, block)
        elif node is not None:
            node.add_incoming(value, block)


def _multiply_rows(height: int, vectors: int) -> Any:
    write = _writer_of_multiply_rows(height, vectors, _UNROLLED)

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


def _multiply_and_finish_rows(height: int, vectors: int, unrolled: int = 1) -> Any:
    write = _writer_of_multiply_rows(height, vectors, unrolled)

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


def _writer_of_multiply_rows(height: int, vectors: int, unrolled: int) -> Any:
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

        def step(state: _State) -> _State:
            k, b, fetch, acc = state
            if ahead:
                emit.prefetch(fetch, 1)
                fetch = builder.gep(fetch, [ahead[1]])
            else:
                emit.prefetch(b, vectors, offset=_AHEAD * width)
            acc = emit.step([builder.gep(p, [k]) for p in pointers], b, acc)
            return builder.add(k, one), builder.gep(b, [emit.int64(width)]), fetch, acc

        _, last_b, last_fetch, result = _repeat(
            emit, depth, (zero, tap_b, tap_fetch, tap_acc), step, unrolled
        )
        next_block = builder.block
        tap_next = builder.add(tap, one)
        tap.add_incoming(tap_next, next_block)
        tap_b.add_incoming(last_b, next_block)
        if ahead:
            tap_fetch.add_incoming(last_fetch, next_block)
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


def _multiply_reduce(height: int, vectors: int, unrolled: int = 1) -> Any:
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

            def step(state: _State) -> _State:
                k, a_row, fetch, acc = state
                emit.prefetch(emit.pointer(fetch), 1)
                b = builder.gep(emit.pointer(builder.load(builder.gep(table, [k]))), [column])
                acc = emit.step([builder.gep(a_row, [emit.int64(r)]) for r in range(height)], b, acc)
                return (
                    *(builder.add(k, one), builder.gep(a_row, [a_stride]), builder.add(fetch, ahead_step)),
                    acc,
                )

            *_, final = _repeat(emit, count, (zero, a_start, ahead, nothing), step, unrolled)
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
multiply_and_finish_long_2 = _multiply_and_finish_rows(ROWS, 2, _UNROLLED)
multiply_and_finish_long_short_2 = _multiply_and_finish_rows(SHORT_ROWS, 2, _UNROLLED)
multiply_reduce_long_2 = _multiply_reduce(ROWS, 2, _UNROLLED)
multiply_reduce_2, multiply_reduce_1 = _multiply_reduce(ROWS, 2), _multiply_reduce(ROWS, 1)
multiply_short_reduce_2, multiply_short_reduce_1 = (
    _multiply_reduce(SHORT_ROWS, 2),
    _multiply_reduce(SHORT_ROWS, 1),
)
multiply_few_reduce = _multiply_reduce(FEW_ROWS, MANY_VECTORS)
