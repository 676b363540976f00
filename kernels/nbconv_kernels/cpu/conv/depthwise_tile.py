"""Depthwise 3 x 3 convolution, some outputs of some rows at a time: the usual case of ``depthwise``.

A tile of outputs, two rows of seven where there are registers for it, is summed over all channels, a vector
of them at a time. The pixels it needs overlap, so each is loaded once and meets up to nine weights: 36 loads
of pixels and 18 of weights for 126 multiply-adds. Every pixel is found through a table of addresses, where a
row of zeros stands in for padding and a row that nobody reads takes what a tile computes beyond the edge.

Limit: fused multiply-adds while the input is in the L1 cache, else the bandwidth of where it is; a tile reads
its own pixels once, and the rows above and below it once more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from nbconv_kernels.cpu.conv.target import Target
from nbconv_kernels.cpu.emitter import INT64, Emitter, address_of
from nbconv_kernels.cpu.epilogue import finished
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array
from nbconv_kernels.cpu.movement import address, keep_alive
from nbconv_kernels.cpu.simd import SIMD
from nbconv_kernels.cpu.vector import lanes
from nbconv_kernels.geometry import Conv2dGeometry

# Rows and columns of a tile, for strides 1 and 2: sums, a row of pixels and a weight fill the registers.
_TILES = {1: (2, 7), 2: (1, 7)} if SIMD.name == "avx512" else {1: (1, 4), 2: (1, 4)}
ROWS_1, COLUMNS_1 = _TILES[1]
ROWS_2, COLUMNS_2 = _TILES[2]
_LARGEST_TABLE = 64  # pixels
_SMALL = 1 << 15  # multiply-adds below which a parallel region costs more than it saves


def suits(g: Conv2dGeometry) -> bool:
    """Whether a depthwise convolution is 3 x 3, of stride 1 or 2 without dilation."""
    window = (g.r, g.s, g.stride_w, g.dilation_h, g.dilation_w)
    return window == (3, 3, g.stride_h, 1, 1) and g.stride_h in _TILES


def _sum_tile(height: int, width: int, stride: int) -> Any:
    rows, columns = (height - 1) * stride + 3, (width - 1) * stride + 3

    @intrinsic
    def sum_tile(
        typing_context: Any,
        inputs: Any,
        weight: Any,
        bias: Any,
        outputs: Any,
        first: Any,
        last: Any,
        pitch: Any,
        finish: Any,
    ) -> Any:
        """Channels ``first`` to ``last`` of a tile; ``weight`` has 9 rows of ``pitch`` channels."""

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            inputs, weight, bias, outputs, first, last, pitch, finish = values
            emit = Emitter(builder, signature.args[1].dtype)
            sources = context.make_array(signature.args[0])(context, builder, inputs).data
            targets = context.make_array(signature.args[3])(context, builder, outputs).data
            taps = emit.pointer(address_of(context, builder, signature.args[1], weight, emit.int64(0)))
            tap_rows = [builder.gep(taps, [builder.mul(pitch, emit.int64(tap))]) for tap in range(9)]
            start = emit.pointer(address_of(context, builder, signature.args[2], bias, emit.int64(0)))
            # Where the tile beside this one will be stored: by then those lines have come.
            next_tile = builder.mul(pitch, emit.int64(width))

            def write(at: Any, mask: Any | None) -> None:
                def load(pointer: Any) -> Any:
                    place = builder.gep(pointer, [at])
                    return emit.load(place, 0) if mask is None else emit.masked_load(place, 0, mask)

                def entry(table: Any, index: int) -> Any:
                    return emit.pointer(builder.load(builder.gep(table, [emit.int64(index)])))

                sums = [[load(start)] * width for _ in range(height)]
                for row in range(rows):
                    pixels = [load(entry(sources, row * columns + column)) for column in range(columns)]
                    for y in range(height):
                        r = row - y * stride
                        if not 0 <= r < 3:
                            continue
                        for s in range(3):
                            tap = load(tap_rows[r * 3 + s])
                            for x in range(width):
                                sums[y][x] = emit.multiply_add(pixels[x * stride + s], tap, sums[y][x])
                places = [[entry(targets, y * width + x) for x in range(width)] for y in range(height)]
                sums = finished(emit, finish, sums, lambda y, x: load(places[y][x]))
                for y in range(height):
                    for x in range(width):
                        place = builder.gep(places[y][x], [at])
                        emit.prefetch(builder.gep(place, [next_tile]), 1, write=True)
                        if mask is None:
                            emit.store(sums[y][x], place, 0)
                        else:
                            emit.masked_store(sums[y][x], place, 0, mask)

            entry_block = builder.block
            check_block = builder.append_basic_block("check")
            whole_block = builder.append_basic_block("whole")
            rest_block = builder.append_basic_block("rest")
            part_block = builder.append_basic_block("part")
            done_block = builder.append_basic_block("done")
            builder.branch(check_block)
            builder.position_at_end(check_block)
            at = builder.phi(INT64)
            at.add_incoming(first, entry_block)
            after = builder.add(at, emit.int64(emit.lanes))
            builder.cbranch(builder.icmp_signed("<=", after, last), whole_block, rest_block)
            builder.position_at_end(whole_block)
            write(at, None)
            at.add_incoming(after, builder.block)
            builder.branch(check_block)
            builder.position_at_end(rest_block)
            builder.cbranch(builder.icmp_signed("<", at, last), part_block, done_block)
            builder.position_at_end(part_block)
            write(at, emit.lane_mask(builder.sub(last, at), 0))
            builder.branch(done_block)
            builder.position_at_end(done_block)
            return context.get_dummy_value()

        i = types.intp
        return types.void(inputs, weight, bias, outputs, i, i, i, finish), codegen

    return sum_tile


_sum_tile_1, _sum_tile_2 = _sum_tile(ROWS_1, COLUMNS_1, 1), _sum_tile(ROWS_2, COLUMNS_2, 2)


@kernel
def forward_task(task, n_tasks, x, weight, bias, source, grid, y, finish, parts):
    """A share of the tiles."""
    h, w, c, stride, pad_top, pad_left = source
    n, p_size, q_size, y_channels, channel = grid
    height, width = (ROWS_1, COLUMNS_1) if stride == 1 else (ROWS_2, COLUMNS_2)
    rows, columns = (height - 1) * stride + 3, (width - 1) * stride + 3
    inputs = np.empty(_LARGEST_TABLE, np.int64)
    outputs = np.empty(ROWS_1 * COLUMNS_1, np.int64)
    zeros, spare = np.zeros(c, x.dtype), np.zeros(c, x.dtype)
    zeros_at, spare_at = address(zeros, 0), address(spare, 0)
    base, target = address(x, 0), address(y, channel)
    pixel, out_pixel = c * x.itemsize, y_channels * y.itemsize
    tiles_y, tiles_x = (p_size + height - 1) // height, (q_size + width - 1) // width
    units = n * tiles_y * parts * tiles_x
    step = lanes(x)
    vectors = (c + step - 1) // step
    for unit in range(units * task // n_tasks, units * (task + 1) // n_tasks):
        line = unit // tiles_x
        q = (unit - line * tiles_x) * width
        band = line // parts
        part = line - band * parts
        image = band // tiles_y
        p = (band - image * tiles_y) * height
        at = 0
        for row in range(rows):
            from_y = p * stride - pad_top + row
            here = base + ((image * h + from_y) * w + q * stride - pad_left) * pixel
            for column in range(columns):
                from_x = q * stride - pad_left + column
                inside = (from_y >= 0) & (from_y < h) & (from_x >= 0) & (from_x < w)
                inputs[at] = here + column * pixel if inside else zeros_at
                at += 1
        at = 0
        for row in range(height):
            here = target + ((image * p_size + p + row) * q_size + q) * out_pixel
            for column in range(width):
                inside = (p + row < p_size) & (q + column < q_size)
                outputs[at] = here + column * out_pixel if inside else spare_at
                at += 1
        first, last = vectors * part // parts * step, vectors * (part + 1) // parts * step
        last = min(c, last)
        if stride == 1:
            _sum_tile_1(inputs, weight, bias, outputs, first, last, c, finish)
        else:
            _sum_tile_2(inputs, weight, bias, outputs, first, last, c, finish)
    keep_alive(zeros)
    keep_alive(spare)


@kernel
def _forward(x, weight, bias, source, grid, y, finish, parts, n_tasks):
    parallel_for(forward_task, n_tasks, n_tasks, (n_tasks, x, weight, bias, source, grid, y, finish, parts))


def division(n: int, p: int, q: int, c: int, stride: int, itemsize: int) -> tuple[int, int]:
    """(parts that channels are cut into, threads) for an output (N, P, Q, C)."""
    height, width = _TILES[stride]
    threads = get_num_threads() if n * p * q * c * 9 > _SMALL else 1
    # Few tiles are cut into channels, so that all threads have the same to do.
    is_few = n * -(-p // height) * -(-q // width) < 8 * threads
    return (min(8, -(-c // SIMD.lanes(itemsize))) if is_few else 1), threads


def convolve(
    x: Array, weight: Array, bias: Array, stride: int, pads: tuple[int, int], target: Target
) -> None:
    """Write ``target`` from ``x`` (N, H, W, C), weights (3, 3, C) in a row, and a bias (C,).

    ``pads`` are above and left of the pixels; where windows reach beyond the other edges there are zeros too.
    """
    y, channel, finish = target
    _, h, w, c = x.shape
    n, p, q, channels = y.shape
    parts, threads = division(n, p, q, c, stride, x.itemsize)
    grid = (n, p, q, channels, channel)
    _forward(
        *(x.reshape(-1), weight, bias, (h, w, c, stride, *pads), grid, y.reshape(-1)),
        *(finish, parts, threads),
    )
