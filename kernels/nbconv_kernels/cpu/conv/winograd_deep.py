"""Winograd's convolution where channels are many and tiles few: the last stages of a network.

There the transformed weights are what costs: 36 points for 9 taps, read once for a handful of tiles. So the
roles change against ``winograd``. The tiles' points are written down for the whole batch, and each task takes
panels of output channels: it packs a panel's weights, transforms them and multiplies all tiles by them before
it turns to the next, so that transformed weights live and die in its core's L2 cache. Of many input channels
it takes a part at a time, and adds up.

Limit: fused multiply-adds, and the L3 cache, from which every panel reads the tiles' points; the next rows
are brought while the current ones are multiplied.
"""

from __future__ import annotations

import math

import numpy as np

from nbconv_kernels.cpu.conv.implicit_gemm import tiles
from nbconv_kernels.cpu.conv.packing import pack_range, panel_width
from nbconv_kernels.cpu.conv.target import Target
from nbconv_kernels.cpu.conv.winograd_direct import Layout, is_wild_input, mend
from nbconv_kernels.cpu.conv.winograd_tiles import POINTS, SKEW, grid, pixel_table
from nbconv_kernels.cpu.conv.winograd_transforms import (
    transform_input,
    transform_output,
    transform_weight,
)
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, scratch
from nbconv_kernels.cpu.microkernel import (
    ROWS,
    SHORT_ROWS,
    VECTORS,
    multiply_and_finish_long_2,
    multiply_and_finish_long_short_2,
)
from nbconv_kernels.cpu.movement import address, keep_alive

# The strides, from a channel to the next, and the runs, places and a run's place of one panel of channels
# that ``pack`` takes.
Packing = tuple[tuple[int, int], int, int, Array, int]

_NEAR = 7 << 18  # bytes that stay in an L2 cache
_LARGEST = 1 << 22  # elements of the tiles' points


def suits(tile_count: int, channels: int) -> bool:
    """Whether the points of all tiles stay near the cores, and are fewer than the transformed weights."""
    return POINTS * tile_count * channels <= _LARGEST and tile_count < channels


@kernel
def _points_task(task, n_tasks, x, pads, tile_grid, points, strides, wild):
    """V of all tiles: ``points[point * strides[0] + tile * strides[1] + channel]``; and which are wild."""
    point_stride, stride = strides
    _, h, w, c = x.shape
    zeros = np.zeros(c, x.dtype)
    zeros_at = address(zeros, 0)
    inputs = np.empty(36, np.int64)
    total = tile_grid[0] * tile_grid[1] * tile_grid[2]
    for tile in range(total * task // n_tasks, total * (task + 1) // n_tasks):
        pixel_table(tile, tile_grid[1], tile_grid[2], 6, 4, pads[0], pads[1], x, zeros_at, inputs)
        energies = transform_input(inputs, 0, c, points, tile * stride, point_stride)
        wild[tile] = is_wild_input(energies, tile, tile_grid[1], tile_grid[2], h, w, pads)
    keep_alive(zeros)


@kernel
def _panels_task(
    task, n_tasks, weight, packing, tile_grid, covers, points, strides, zero_bias, bias, target, memory, wild
):
    column_strides, channel_stride, runs, places, run_place, depth, part = packing
    point_stride, stride = strides
    y, channel, finish = target
    k, width = bias.size, zero_bias.size
    total = tile_grid[0] * tile_grid[1] * tile_grid[2]
    whole, short = covers
    padded = whole * ROWS + short * SHORT_ROWS
    n_panels = k // width
    m_stride = padded * width + SKEW
    packed_size, transformed_size = 9 * width * width, POINTS * (part * width + SKEW)
    size = packed_size + transformed_size + POINTS * m_stride
    own = memory[task * size : (task + 1) * size]
    packed, transformed = own[:packed_size], own[packed_size : packed_size + transformed_size]
    products = own[packed_size + transformed_size :]
    sources = np.empty(padded, np.int64)
    targets = np.empty(POINTS * padded, np.int64)
    for point in range(POINTS):
        for tile in range(padded):
            targets[point * padded + tile] = address(products, point * m_stride + tile * width)
    spare = np.empty(width, y.dtype)
    spare_at = address(spare, 0)
    outputs = np.empty(16, np.int64)
    item = points.itemsize
    for panel in range(n_panels * task // n_tasks, n_panels * (task + 1) // n_tasks):
        column = panel * width
        for first in range(0, depth, part):
            count = min(part, depth - first)
            for d in range(0, count, width):
                start = column * column_strides[0] + (first + d) * channel_stride
                pack_range(
                    0,
                    VECTORS * runs,
                    weight,
                    start,
                    column_strides,
                    width,
                    runs,
                    places,
                    run_place,
                    width,
                    packed,
                )
                for row in range(width):
                    transform_weight(
                        packed,
                        row * width,
                        width * width,
                        width,
                        transformed,
                        (d + row) * width,
                        count * width + SKEW,
                    )
            # The first part's products are stored, the others' added to them.
            adding = (np.int64(2 if first > 0 else 0), -np.inf, np.inf)
            for point in range(POINTS):
                base = address(points, point * point_stride + first)
                for tile in range(padded):  # rows past the last tile are computed from it and dropped
                    sources[tile] = base + min(tile, total - 1) * stride * item
                at = point * (count * width + SKEW)
                row = 0
                for group in range(whole + short):
                    height = ROWS if group < whole else SHORT_ROWS
                    # The rows of the next group, or those of the next point, come to the L2 cache meanwhile.
                    following = row + height
                    ahead = base + following * stride * item
                    if following >= total:
                        ahead = base + point_stride * item
                    ahead = (ahead - address(transformed, 0)) // item
                    if group < whole:
                        multiply_and_finish_long_2(
                            sources,
                            row,
                            0,
                            1,
                            count,
                            transformed,
                            at,
                            zero_bias,
                            0,
                            targets,
                            point * padded + row,
                            0,
                            width,
                            adding,
                            ahead,
                            16,
                        )
                    else:
                        multiply_and_finish_long_short_2(
                            sources,
                            row,
                            0,
                            1,
                            count,
                            transformed,
                            at,
                            zero_bias,
                            0,
                            targets,
                            point * padded + row,
                            0,
                            width,
                            adding,
                            ahead,
                            16,
                        )
                    row = following
        for tile in range(total):
            if wild[tile]:
                continue
            pixel_table(tile, tile_grid[1], tile_grid[2], 4, 4, 0, 0, y, spare_at, outputs)
            for pixel in range(16):
                outputs[pixel] += (channel + column) * y.itemsize if outputs[pixel] != spare_at else 0
            transform_output(products, tile * width, m_stride, width, bias[column:], outputs, finish)
    keep_alive(spare)


@kernel
def _convolve(
    weight,
    packing,
    layout,
    x,
    pads,
    tile_grid,
    covers,
    points,
    strides,
    zero_bias,
    bias,
    target,
    memory,
    n_tasks,
):
    wild = np.zeros(tile_grid[0] * tile_grid[1] * tile_grid[2], np.uint8)
    parallel_for(_points_task, n_tasks, n_tasks, (n_tasks, x, pads, tile_grid, points, strides, wild))
    parallel_for(
        _panels_task,
        n_tasks,
        n_tasks,
        (n_tasks, weight, packing, tile_grid, covers, points, strides, zero_bias, bias, target, memory, wild),
    )
    mend(wild, tile_grid, weight, layout, x, bias, pads, target, zero_bias.size, n_tasks)


def convolve(
    weight: Array,
    packing: Packing,
    layout: Layout,
    x: Array,
    bias: Array,
    pads: tuple[int, int],
    target: Target,
) -> None:
    """Write the target (N, P, Q, at least K) from ``x`` (N, H, W, C), both in memory order.

    Args:
        weight: 1-D.
        packing: the strides, runs, places and place of a run that ``pack`` takes for it.
        layout: where a weight lies.
        x: the pixels to convolve.
        bias: (K,).
        pads: above and left of the pixels.
        target: receives the result.
    """
    c, threads, width = x.shape[3], get_num_threads(), panel_width(x.itemsize)
    tile_grid = grid(target.y)
    total = math.prod(tile_grid)
    covers = tiles(total)
    padded = covers[0] * ROWS + covers[1] * SHORT_ROWS
    stride = c + SKEW
    strides = total * stride + SKEW, stride
    points = scratch("winograd points", POINTS * strides[0], x.dtype)
    part = _part(c, padded, width, x.itemsize)
    size = 9 * width * width + POINTS * (part * width + padded * width + 2 * SKEW)
    memory = scratch("winograd block", threads * size, x.dtype)
    zero_bias = np.zeros(width, x.dtype)
    dealt = (*packing, c, part)
    _convolve(
        *(
            weight,
            dealt,
            layout,
            x,
            pads,
            tile_grid,
            covers,
            points,
            strides,
            zero_bias,
            bias,
            tuple(target),
            memory,
            threads,
        )
    )


def _part(channels: int, rows: int, width: int, itemsize: int) -> int:
    """Input channels, in whole panels, whose transformed weights fit the L2 cache beside the products."""
    fitting = max(2 * width, _NEAR // (POINTS * width * itemsize) - rows) // width
    panels = channels // width
    parts = -(-panels // fitting)
    return -(-panels // parts) * width
