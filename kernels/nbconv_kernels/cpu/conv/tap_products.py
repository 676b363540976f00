"""Sums over an image of products of pixels: for some taps and filters at once, in registers.

    sums[filter, tap, lane] += sum over rows and vectors of x[pixel under the tap] * y[filter, pixel]

Five taps of three filters are fifteen sums, which share eight loads. Spelt out as LLVM IR: in Python it is a
hundred statements, and Numba takes long to infer their types.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from nbconv_kernels.cpu.emitter import INT64, Emitter, address_of
from nbconv_kernels.cpu.simd import SIMD

FILTERS, TAPS = 3, 5


@intrinsic
def add_products(
    typing_context: Any,
    x: Any,
    steps: Any,
    first: Any,
    y: Any,
    y_at: Any,
    filter_stride: Any,
    rows: Any,
    across: Any,
    pitch_x: Any,
    pitch_y: Any,
    sums: Any,
    at: Any,
    sums_stride: Any,
) -> Any:
    """Add one image's products of ``TAPS`` taps and ``FILTERS`` filters, of ``rows`` > 0 rows.

    The taps begin at ``steps[first]`` and following of ``x``, the filters from ``y_at`` on, ``filter_stride``
    apart. Rows are ``pitch_x`` and ``pitch_y`` apart; of ``x`` only ``across`` > 0 elements of each are read,
    while ``y`` is read in whole vectors. The sums of a filter begin ``sums_stride`` behind the last one's.
    """
    i = types.intp

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        x, steps, first, y, y_at, filter_stride, rows, across, pitch_x, pitch_y, sums, at, stride = values
        emit = Emitter(builder, signature.args[0].dtype)
        zero, lanes = emit.int64(0), emit.int64(emit.lanes)
        base = emit.pointer(address_of(context, builder, signature.args[0], x, zero))
        table = builder.gep(context.make_array(signature.args[1])(context, builder, steps).data, [first])
        taps = [
            builder.gep(base, [builder.load(builder.gep(table, [emit.int64(tap)]))]) for tap in range(TAPS)
        ]
        base = emit.pointer(address_of(context, builder, signature.args[3], y, y_at))
        filters = [builder.gep(base, [builder.mul(filter_stride, emit.int64(f))]) for f in range(FILTERS)]
        base = emit.pointer(address_of(context, builder, signature.args[10], sums, at))
        targets = [builder.gep(base, [builder.mul(stride, emit.int64(f))]) for f in range(FILTERS)]
        start = [[emit.load(target, tap * emit.lanes) for tap in range(TAPS)] for target in targets]
        entry = builder.block
        row_block = builder.append_basic_block("row")
        column_block = builder.append_basic_block("column")
        next_block = builder.append_basic_block("next_row")
        done_block = builder.append_basic_block("done")
        builder.branch(row_block)

        builder.position_at_end(row_block)
        row = builder.phi(INT64)
        row_sums = emit.phis(start, entry)
        row.add_incoming(zero, entry)
        row_x, row_y = builder.mul(row, pitch_x), builder.mul(row, pitch_y)
        builder.branch(column_block)

        builder.position_at_end(column_block)
        column = builder.phi(INT64)
        before = emit.phis(row_sums, row_block)
        column.add_incoming(zero, row_block)
        place_x, place_y = builder.add(row_x, column), builder.add(row_y, column)
        rest = builder.sub(across, column)
        pixels = _first(emit, [builder.gep(tap, [place_x]) for tap in taps], rest)
        ys = [emit.load(builder.gep(pointer, [place_y]), 0) for pointer in filters]
        after = [
            [emit.multiply_add(pixel, value, total) for pixel, total in zip(pixels, totals, strict=True)]
            for value, totals in zip(ys, before, strict=True)
        ]
        following = builder.add(column, lanes)
        column.add_incoming(following, builder.block)
        emit.arrive(before, after, builder.block)
        last = builder.block
        builder.cbranch(builder.icmp_signed("<", following, across), column_block, next_block)

        builder.position_at_end(next_block)
        result = emit.phis(after, last)
        next_row = builder.add(row, emit.int64(1))
        row.add_incoming(next_row, next_block)
        emit.arrive(row_sums, result, next_block)
        builder.cbranch(builder.icmp_signed("<", next_row, rows), row_block, done_block)

        builder.position_at_end(done_block)
        for target, totals in zip(targets, result, strict=True):
            for tap, total in enumerate(totals):
                emit.store(total, target, tap * emit.lanes)
        return context.get_dummy_value()

    return types.void(x, steps, i, y, i, i, i, i, i, i, sums, i, i), codegen


def _first(emit: Emitter, pointers: list[Any], count: Any) -> list[Any]:
    """The vectors at some places, of which ``count`` elements are read; the others are zero.

    What lies behind them may be no number, and a filter's zeros there would not make it one.
    """
    builder = emit.builder
    if SIMD.name == "avx512":  # which masks at no cost
        mask = emit.lane_mask(count, 0)
        return [emit.masked_load(pointer, 0, mask) for pointer in pointers]
    with builder.if_else(builder.icmp_signed(">=", count, emit.int64(emit.lanes))) as (whole, part):
        with whole:
            all_lanes = [emit.load(pointer, 0) for pointer in pointers]
            from_whole = builder.block
        with part:
            mask = emit.lane_mask(count, 0)
            some_lanes = [emit.masked_load(pointer, 0, mask) for pointer in pointers]
            from_part = builder.block
    (values,) = emit.phis([all_lanes], from_whole)
    emit.arrive([values], [some_lanes], from_part)
    return values
