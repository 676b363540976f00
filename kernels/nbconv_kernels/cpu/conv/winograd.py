"""3 x 3 convolution with a quarter of the multiplications: Winograd's F(4 x 4, 3 x 3).

For each block of output tiles, ``transform_input`` turns the tiles' pixels into 36 points; for each point one
matrix product, tiles x channels by channels x output channels, goes through the micro-kernel;
``transform_output`` turns 36 points back into 16 pixels and adds the bias. The input gradient is the same
with the kernel turned half round. For the weight gradient both sides are transformed and the products sum
over tiles. Where the weights outweigh the pixels, ``winograd_deep`` does the same in another order.

A block holds as many tiles as keep its points in the L2 cache; products are made for a few panels of columns
at a time for the same reason. Each tile is computed whole by one task.

Limit: fused multiply-adds in the products; the transforms cost about 150 instructions a tile and vector of
channels, which is why layers with few channels gain less. Rounding errors grow, as the transforms add and
subtract large parts of what they then take apart: the relative error is a few times that of the direct way,
and what it would spoil, ``winograd_direct`` computes.

Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np

from nbconv_kernels.cpu.conv import winograd_deep, winograd_deep_weight
from nbconv_kernels.cpu.conv.direct import padded_bias
from nbconv_kernels.cpu.conv.implicit_gemm import tiles
from nbconv_kernels.cpu.conv.packing import pack, panel_width, places_by_tap, places_in_order
from nbconv_kernels.cpu.conv.target import Kept, Target, target_of
from nbconv_kernels.cpu.conv.winograd_direct import (
    Layout,
    clear_points,
    is_wild_input,
    is_wild_part,
    mend,
    mend_gradient,
)
from nbconv_kernels.cpu.conv.winograd_tiles import POINTS, SKEW, grid, pixel_table, store_taps
from nbconv_kernels.cpu.conv.winograd_transforms import (
    transform_input,
    transform_output,
    transform_output_gradient,
    transform_weight,
    transform_weight_gradient,
)
from nbconv_kernels.cpu.epilogue import PLAIN
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, aligned_empty, empty, scratch
from nbconv_kernels.cpu.microkernel import (
    ROWS,
    SHORT_ROWS,
    multiply_reduce_long_2,
    multiply_rows_2,
    multiply_short_reduce_2,
    multiply_short_rows_2,
)
from nbconv_kernels.cpu.movement import address, keep_alive
from nbconv_kernels.cpu.simd import SIMD
from nbconv_kernels.geometry import Conv2dGeometry

_PANELS = 2  # of columns, multiplied before they are transformed back
_TURNED = tuple(range(8, -1, -1))  # the taps of a kernel turned half round


def suits(g: Conv2dGeometry, itemsize: int) -> bool:
    """Whether the transforms are made for this convolution, and its channels fill the vectors."""
    width = panel_width(itemsize)
    return (
        (g.r, g.s, g.stride_h, g.stride_w, g.dilation_h, g.dilation_w, g.groups) == (3, 3, 1, 1, 1, 1, 1)
        and g.c % width == g.k % width == 0
        and max(g.pad_top, g.pad_bottom, g.pad_left, g.pad_right) <= 2
    )


@lru_cache(maxsize=4096)
def pays(g: Conv2dGeometry, weight_gradient: bool = False, kept: bool = False) -> bool:
    """Whether a float32 convolution is likely to take less time this way than directly.

    Where weights are ``kept`` ready for both ways, the points need only be read.

    Cycles of one core, estimated from its multiply-adds (a vector of them a cycle and unit), the transforms
    of a tile (10 cycles a channel) and the making and reading of the points, which many channels and few
    tiles make the larger part. The factors are fitted to measured times.
    """
    if not suits(g, 4):
        return False
    tile_count = g.n * -(-g.p // 4) * -(-g.q // 4)
    multiply_adds = 2 * SIMD.lanes(4)
    direct_cycles = g.c * g.k * 9 * (g.n * g.p * g.q / multiply_adds + (0.2 if kept else 0.5))
    deep = (
        winograd_deep_weight.suits(tile_count, g.c, g.k)
        if weight_gradient
        else winograd_deep.suits(tile_count, g.c)
    )
    a_point = 0.8 if kept else 1.2 if deep else 3 if weight_gradient else 2
    own_cycles = g.c * g.k * POINTS * (1.1 * tile_count / multiply_adds + a_point)
    own_cycles += 10 * tile_count * (g.c + g.k)
    return own_cycles < direct_cycles


@kernel
def _point_table(values, base, point_stride, block, channels, table):
    """Addresses ``table[point * block + tile]`` of each point's row of channels."""
    for point in range(POINTS):
        for tile in range(block):
            table[point * block + tile] = address(values, base + point * point_stride + tile * channels)


@kernel
def convolve_task(
    task, splits, x, points, zero_bias, bias, pads, y, channel, finish, width, block, memory, wild
):
    """A share of the tiles and of the panels, with weights whose points are there; all but ``wild`` tiles.

    Several tasks may find the same tile wild, and all write that to ``wild``, uint8 (tiles,).
    """
    n, h, w, c = x.shape
    _, p, q, _ = y.shape
    k = bias.size
    tiles_y, tiles_x = (p + 3) // 4, (q + 3) // 4
    total = n * tiles_y * tiles_x
    chunk = _PANELS * width
    v_stride, m_stride = block * c + SKEW, block * chunk + SKEW
    own = task * POINTS * (v_stride + m_stride)
    own_m = own + POINTS * v_stride
    sources = np.empty(POINTS * block, np.int64)
    targets = np.empty(POINTS * block, np.int64)
    _point_table(memory, own, v_stride, block, c, sources)
    _point_table(memory, own_m, m_stride, block, chunk, targets)
    zeros = np.zeros(c, x.dtype)
    spare = np.empty(k, x.dtype)
    zeros_at, spare_at = address(zeros, 0), address(spare, 0)
    inputs = np.empty(36, np.int64)
    outputs = np.empty(16, np.int64)
    tile_task = task // splits[1]
    panel_task = task - tile_task * splits[1]
    last_tile = total * (tile_task + 1) // splits[0]
    n_panels = k // width
    last_panel = n_panels * (panel_task + 1) // splits[1]
    for first in range(total * tile_task // splits[0], last_tile, block):
        count = min(block, last_tile - first)
        for tile in range(count):
            pixel_table(first + tile, tiles_y, tiles_x, 6, 4, pads[0], pads[1], x, zeros_at, inputs)
            energies = transform_input(inputs, 0, c, memory, own + tile * c, v_stride)
            wild[first + tile] = is_wild_input(energies, first + tile, tiles_y, tiles_x, h, w, pads)
        for first_panel in range(n_panels * panel_task // splits[1], last_panel, _PANELS):
            panels = min(_PANELS, last_panel - first_panel)
            for point in range(POINTS):
                for panel in range(panels):
                    at = ((first_panel + panel) * POINTS + point) * c * width
                    column = panel * width
                    row = point * block
                    left = count
                    while left > 0:
                        if left > 2 * SHORT_ROWS or SHORT_ROWS < left <= ROWS:
                            multiply_rows_2(
                                sources, row, 0, 1, c, points, at, zero_bias, 0, targets, row, column, width
                            )
                            row += ROWS
                            left -= ROWS
                        else:
                            multiply_short_rows_2(
                                sources, row, 0, 1, c, points, at, zero_bias, 0, targets, row, column, width
                            )
                            row += SHORT_ROWS
                            left -= SHORT_ROWS
            start = first_panel * width
            for tile in range(count):
                if wild[first + tile]:
                    continue
                pixel_table(first + tile, tiles_y, tiles_x, 4, 4, 0, 0, y, spare_at, outputs)
                for pixel in range(16):
                    outputs[pixel] += (channel + start) * y.itemsize if outputs[pixel] != spare_at else 0
                transform_output(
                    memory, own_m + tile * chunk, m_stride, panels * width, bias[start:], outputs, finish
                )
    keep_alive(zeros)
    keep_alive(spare)


@kernel
def _points_task(task, n_tasks, packed, depth, width, points):
    panels = packed.size // (9 * depth * width)
    for row in range(panels * depth * task // n_tasks, panels * depth * (task + 1) // n_tasks):
        panel = row // depth
        d = row - panel * depth
        source = panel * 9 * depth * width + d * width
        target = panel * POINTS * depth * width + d * width
        transform_weight(packed, source, depth * width, width, points, target, depth * width)


@kernel
def _points(packed, depth, width, points, n_tasks):
    parallel_for(_points_task, n_tasks, n_tasks, (n_tasks, packed, depth, width, points))


@kernel
def convolve(
    x,
    points,
    zero_bias,
    bias,
    pads,
    y,
    channel,
    finish,
    width,
    block,
    memory,
    splits,
    weight,
    layout,
    n_threads,
):
    """Convolve with weights whose points are there, on ``n_threads`` threads."""
    tile_grid = (len(y), (y.shape[1] + 3) // 4, (y.shape[2] + 3) // 4)
    wild = np.zeros(tile_grid[0] * tile_grid[1] * tile_grid[2], np.uint8)
    parallel_for(
        convolve_task,
        splits[0] * splits[1],
        n_threads,
        (splits, x, points, zero_bias, bias, pads, y, channel, finish, width, block, memory, wild),
    )
    mend(wild, tile_grid, weight, layout, x, bias, pads, (y, channel, finish), width, n_threads)


@kernel
def _convolve(
    packed,
    depth,
    points,
    x,
    zero_bias,
    bias,
    pads,
    y,
    channel,
    finish,
    width,
    block,
    memory,
    splits,
    weight,
    layout,
):
    n_tasks = splits[0] * splits[1]
    parallel_for(_points_task, n_tasks, n_tasks, (n_tasks, packed, depth, width, points))
    convolve(
        *(x, points, zero_bias, bias, pads, y, channel, finish, width, block, memory, splits, weight, layout),
        n_tasks,
    )


@lru_cache(maxsize=4096)
def division(tile_count: int, channels: int, panels: int, threads: int) -> tuple[tuple[int, int], int, int]:
    """How ``convolve_task`` is dealt: (tasks by tiles and by panels), tiles in a block, elements of memory.

    By panels, each task transforms all tiles it needs, but reads only its share of the weights' points, which
    takes about as long as multiplying 13 tiles by them. Few tiles are therefore dealt by panels.
    """
    width = panel_width(4)
    block = _block(channels, width)
    size = POINTS * (block * (channels + _PANELS * width) + 2 * SKEW)
    ways = [(threads // splits, splits) for splits in range(1, threads + 1) if threads % splits == 0]

    def cycles(way: tuple[int, int]) -> float:
        own = -(-tile_count // way[0])
        whole, short = tiles(own)
        rows = max(13, whole * ROWS + short * SHORT_ROWS)
        return channels * (POINTS * rows * -(-panels // way[1]) + 5 * own)

    return min(ways, key=cycles), block, threads * size


def _run(
    packed: Array,
    points: Array,
    x: Array,
    bias: Array,
    pads: tuple[int, int],
    target: Target,
    weight: Array,
    layout: Layout,
) -> None:
    """Convolve with ``packed`` weights, whose points go to ``points``; none if they are there already."""
    y, channel, finish = target
    c = x.shape[3]
    width = panel_width(x.itemsize)
    splits, block, size = division(math.prod(grid(y)), c, bias.size // width, get_num_threads())
    memory = scratch("winograd block", size, x.dtype)
    zero_bias = np.zeros(width, x.dtype)
    _convolve(
        *(packed, c, points, x, zero_bias, bias, pads, y, channel, finish, width, block, memory, splits),
        *(weight, layout),
    )


def _convolve_anew(
    weight: Array,
    packing: Callable[[int], winograd_deep.Packing],
    layout: Layout,
    x: Array,
    bias: Array,
    pads: tuple[int, int],
    target: Target,
) -> None:
    """Convolve with weights that are to be packed and transformed for this one time."""
    c, k = x.shape[3], bias.size
    if winograd_deep.suits(math.prod(grid(target.y)), c):
        some = packing(panel_width(x.itemsize))
        winograd_deep.convolve(weight, some, layout, x, bias, pads, target)
        return
    strides, _, runs, places, run_place = packing(c)
    packed = pack("weights", weight, 0, strides, k, runs, places, run_place)
    points = scratch("winograd points", POINTS * c * k, x.dtype)
    _run(packed, points, x, bias, pads, target, weight, layout)


@lru_cache(maxsize=256)
def _block(channels: int, columns: int) -> int:
    """Tiles in a block: a multiple of the micro-kernel's rows that keeps the points in about a megabyte."""
    fitting = (1 << 20) // (POINTS * 4 * (channels + columns))
    return max(2, min(8, fitting // ROWS)) * ROWS


def forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    g: Conv2dGeometry,
    target: Target | None = None,
    kept: Kept | None = None,
) -> Array:
    """(N, H, W, C), (K, C, 3, 3), (K,) -> (N, K, P, Q) in channels-last memory."""
    target = target_of(target, g, x.dtype)
    pads, flat = (g.pad_top, g.pad_left), np.ascontiguousarray(weight).reshape(-1)
    if kept is None:
        start = padded_bias(bias, 0, g.k, x.dtype)
        _convolve_anew(flat, partial(_packing, g, x.itemsize), layout_of(g), x, start, pads, target)
    else:
        points, start = prepared(weight, bias, g, kept)
        _run(np.empty(0, x.dtype), points, x, start, pads, target, flat, layout_of(g))
    return target.y.transpose(0, 3, 1, 2)


def layout_of(g: Conv2dGeometry) -> Layout:
    """Where a weight of the forward pass lies."""
    return g.c * 9, 9, 0, 1


def prepared(weight: Array, bias: Array | None, g: Conv2dGeometry, kept: Kept) -> tuple[Array, Array]:
    """The points of the weights, and the bias, from ``kept`` if they are there."""
    if "winograd points" not in kept:
        flat, width = np.ascontiguousarray(weight).reshape(-1), panel_width(weight.itemsize)
        strides, _, *rest = _packing(g, weight.itemsize, g.c)
        points = aligned_empty(POINTS * g.c * g.k, weight.dtype)
        _points(pack("weights", flat, 0, strides, g.k, *rest), g.c, width, points, get_num_threads())
        kept["winograd points"] = points, padded_bias(bias, 0, g.k, weight.dtype)
    ready: tuple[Array, Array] = kept["winograd points"]
    return ready


def _packing(g: Conv2dGeometry, itemsize: int, channels: int) -> winograd_deep.Packing:
    """How ``channels`` input channels of the weights are packed at once."""
    return (g.c * 9, 0), 9, 1, places_by_tap(9, channels, panel_width(itemsize)), 0


def _turned_packing(g: Conv2dGeometry, itemsize: int, channels: int) -> winograd_deep.Packing:
    """How ``channels`` output channels of the turned weights are packed at once."""
    width = panel_width(itemsize)
    return (9, g.c * 9), g.c * 9, channels, places_in_order(_TURNED, channels, width), width


def backward_input(dy: Array, weight: Array, g: Conv2dGeometry) -> Array:
    """(N, P, Q, K), (K, C, 3, 3) -> (N, C, H, W) in channels-last memory."""
    dx = empty((g.n, g.h, g.w, g.c), dy.dtype)
    packing = partial(_turned_packing, g, dy.itemsize)
    start = padded_bias(None, 0, g.c, dy.dtype)
    pads, layout = (2 - g.pad_top, 2 - g.pad_left), (9, g.c * 9, 8, -1)
    flat = np.ascontiguousarray(weight).reshape(-1)
    _convolve_anew(flat, packing, layout, dy, start, pads, Target(dx, 0, PLAIN))
    return dx.transpose(0, 3, 1, 2)


@kernel
def _reduce_task(task, n_tasks, x, dy, covers, pads, width, block, memory, sums, wild):
    n, _, _, c = x.shape
    _, p, q, k = dy.shape
    whole, short = covers
    padded_rows = whole * ROWS + short * SHORT_ROWS
    panels = c // width
    tiles_y, tiles_x = (p + 3) // 4, (q + 3) // 4
    total = n * tiles_y * tiles_x
    first_tile, last_tile = total * task // n_tasks, total * (task + 1) // n_tasks
    v_stride, d_stride = block * c + SKEW, block * k + SKEW
    own = task * (POINTS * (v_stride + d_stride) + SKEW)
    own_d = own + POINTS * v_stride
    own_sums = task * POINTS * panels * padded_rows * width
    steps = np.empty(POINTS * block, np.int64)
    _point_table(memory, own, v_stride, block, c, steps)
    zeros = np.zeros(max(c, k), x.dtype)
    zeros_at = address(zeros, 0)
    inputs = np.empty(36, np.int64)
    gradients = np.empty(16, np.int64)
    nothing_ahead = address(memory, own)
    if first_tile == last_tile:
        for i in range(own_sums, own_sums + POINTS * panels * padded_rows * width):
            sums[i] = 0
    for first in range(first_tile, last_tile, block):
        count = min(block, last_tile - first)
        add = first > first_tile
        for tile in range(count):
            pixel_table(first + tile, tiles_y, tiles_x, 6, 4, pads[0], pads[1], x, zeros_at, inputs)
            seen = transform_input(inputs, 0, c, memory, own + tile * c, v_stride)
            pixel_table(first + tile, tiles_y, tiles_x, 4, 4, 0, 0, dy, zeros_at, gradients)
            given = transform_output_gradient(gradients, 0, k, memory, own_d + tile * k, d_stride)
            if is_wild_part(seen) or is_wild_part(given):
                wild[first + tile] = 1
                clear_points(memory, own + tile * c, v_stride, c)
                clear_points(memory, own_d + tile * k, d_stride, k)
        for point in range(POINTS):
            at = point * block
            for panel in range(panels):
                to = own_sums + (point * panels + panel) * padded_rows * width
                for row in range(0, whole * ROWS, ROWS):
                    rows_at = own_d + point * d_stride + row
                    multiply_reduce_long_2(
                        steps,
                        at,
                        count,
                        panel * width,
                        memory,
                        rows_at,
                        k,
                        sums,
                        to + row * width,
                        width,
                        add,
                        nothing_ahead,
                        0,
                    )
                for row in range(whole * ROWS, padded_rows, SHORT_ROWS):
                    rows_at = own_d + point * d_stride + row
                    multiply_short_reduce_2(
                        steps,
                        at,
                        count,
                        panel * width,
                        memory,
                        rows_at,
                        k,
                        sums,
                        to + row * width,
                        width,
                        add,
                        nothing_ahead,
                        0,
                    )
    keep_alive(zeros)


@kernel
def _gather_task(task, n_tasks, rows, padded_rows, panels, width, splits, sums, gradient):
    """Add the tasks' sums, take them back to 9 taps, and put them in the order (out, in, 3, 3)."""
    point_stride = panels * padded_rows * width
    total = np.empty(POINTS * width, sums.dtype)
    taps = np.empty(9 * width, sums.dtype)
    for row in range(rows * task // n_tasks, rows * (task + 1) // n_tasks):
        for panel in range(panels):
            at = (panel * padded_rows + row) * width
            for point in range(POINTS):
                for lane in range(width):
                    total[point * width + lane] = sums[at + point * point_stride + lane]
                for split in range(1, splits):
                    for lane in range(width):
                        total[point * width + lane] += sums[
                            at + (split * POINTS + point) * point_stride + lane
                        ]
            transform_weight_gradient(total, 0, width, width, taps, 0, width)
            to = (row * panels + panel) * width * 9
            store_taps(taps, width, gradient, to)


@kernel
def _reduce(x, dy, covers, pads, width, block, memory, sums, gradient, n_tasks, n_threads):
    tile_grid = (len(dy), (dy.shape[1] + 3) // 4, (dy.shape[2] + 3) // 4)
    wild = np.zeros(tile_grid[0] * tile_grid[1] * tile_grid[2], np.uint8)
    parallel_for(
        _reduce_task, n_tasks, n_threads, (n_tasks, x, dy, covers, pads, width, block, memory, sums, wild)
    )
    rows = dy.shape[3]
    padded_rows = covers[0] * ROWS + covers[1] * SHORT_ROWS
    panels = x.shape[3] // width
    parallel_for(
        _gather_task, n_tasks, n_threads, (n_tasks, rows, padded_rows, panels, width, n_tasks, sums, gradient)
    )
    mend_gradient(wild, tile_grid, x, dy, pads, gradient, n_threads)


def backward_weight(dy: Array, x: Array, g: Conv2dGeometry) -> Array:
    """(N, P, Q, K), (N, H, W, C) -> (K, C, 3, 3)."""
    gradient = np.empty(g.weight_shape, x.dtype)
    pads = g.pad_top, g.pad_left
    if winograd_deep_weight.suits(math.prod(grid(dy)), g.c, g.k):
        winograd_deep_weight.reduce(dy, x, pads, gradient.reshape(-1))
        return gradient
    # The split decides the bits, so it goes by the threads set and not by those free at the moment.
    tasks = get_num_threads()
    width, covers = panel_width(x.itemsize), tiles(g.k)
    block = _block(g.c, g.k)
    size = POINTS * (block * (g.c + g.k) + 2 * SKEW) + SKEW
    memory = scratch("winograd block", tasks * size, x.dtype)
    padded_rows = covers[0] * ROWS + covers[1] * SHORT_ROWS
    sums = scratch("winograd sums", tasks * POINTS * g.c * padded_rows, x.dtype)
    flat = gradient.reshape(-1)
    _reduce(x, dy, covers, pads, width, block, memory, sums, flat, tasks, get_num_threads())
    return gradient
