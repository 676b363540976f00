"""Convolution as a matrix product whose left factor is never written down.

Each row of the product is a destination pixel, each column a destination channel; the sum runs over *taps*
(kernel positions) and the source's channels. For a row and a tap, the source pixel is found by arithmetic:

    source y = row's y * step + tap's y        source x likewise

and where it falls outside, a row of zeros is read instead. A table of these addresses for a block of rows is
built once and used for every panel of columns; the micro-kernel then reads the source in place. Three things
are this one product (after Dukhan, "The Indirect Convolution Algorithm", 2019):

* the forward pass: step = stride, tap = position * dilation - padding;
* the input gradient: one product for each phase of the stride, with the taps that reach that phase, step = 1;
* a dense layer and a plain matrix product: one tap.

Limit: fused multiply-adds. Per block of ``_BLOCK`` tiles, the panel streams once from the L2 cache (128 bytes
a step of 14 cycles) and the block's source rows stay in it. Tiles are dealt to tasks by rows, by panels, or
both; every output is computed whole by one task, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nbconv_kernels.cpu.conv.packing import panel_width
from nbconv_kernels.cpu.epilogue import PLAIN, Finish
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array
from nbconv_kernels.cpu.microkernel import (
    ROWS,
    SHORT_ROWS,
    VECTORS,
    multiply_and_finish_1,
    multiply_and_finish_2,
    multiply_and_finish_short_1,
    multiply_and_finish_short_2,
)
from nbconv_kernels.cpu.movement import address, keep_alive, prefetch

_BLOCK = 16  # tiles whose addresses are tabulated together
_BLOCK_ELEMENTS = 1 << 18  # of the source in a block, at most: half a megabyte of float32 fits an L2 cache
_BLOCK_ROWS = _BLOCK * ROWS
_SMALL = 1 << 15  # multiply-adds below which a parallel region costs more than it saves


class Product(NamedTuple):
    """The geometry of one product; all in elements and pixels."""

    images: int
    rows_y: int  # rows of the product: a grid of pixels per image
    rows_x: int
    source_h: int
    source_w: int
    source_pixel: int  # elements from one source pixel to the next
    source_start: int  # first source channel (of a group)
    depth: int  # contiguous source elements a tap sums over
    step_y: int
    step_x: int
    out_h: int
    out_w: int
    out_pixel: int
    out_start: int
    columns: int
    out_step_y: int = 1  # the destination pixel of row (y, x) is (y * out_step_y + out_phase_y, ...)
    out_step_x: int = 1
    out_phase_y: int = 0
    out_phase_x: int = 0


@lru_cache(maxsize=4096)
def tiles(rows: int) -> tuple[int, int]:
    """How many whole and short tiles cover ``rows`` at the least cost; whole ones come first."""
    covers = [(max(0, -(-(rows - short * SHORT_ROWS) // ROWS)), short) for short in range(ROWS)]
    # A short tile does a little less in its time, as it reads as much of the panel for fewer rows.
    return min(covers, key=lambda cover: cover[0] * ROWS + cover[1] * (SHORT_ROWS + 1))


@kernel
def _fill_tables(first, count, product, taps, source, zeros, out, spare, inputs, outputs):
    """Addresses for ``count`` rows: ``inputs[tap * _BLOCK_ROWS + row]`` and ``outputs[row]``."""
    (images, rows_y, rows_x, source_h, source_w, source_pixel, source_start, _, step_y, step_x) = product[:10]
    (out_h, out_w, out_pixel, out_start, _, out_step_y, out_step_x, out_phase_y, out_phase_x) = product[10:]
    item = source.itemsize
    source_base = address(source, source_start)
    out_base = address(out, out_start)
    from_y = np.empty(_BLOCK_ROWS, np.int64)
    from_x = np.empty(_BLOCK_ROWS, np.int64)
    start = np.empty(_BLOCK_ROWS, np.int64)
    image = first // (rows_y * rows_x)
    y = (first - image * rows_y * rows_x) // rows_x
    x = first - (image * rows_y + y) * rows_x
    for row in range(count):
        if image >= images:  # a tile reaches past the last row: its sums are computed from zeros and dropped
            from_y[row] = -(1 << 40)
            from_x[row] = 0
            start[row] = 0
            outputs[row] = spare
            continue
        from_y[row] = y * step_y
        from_x[row] = x * step_x
        start[row] = (
            source_base + (((image * source_h + y * step_y) * source_w) + x * step_x) * source_pixel * item
        )
        to_y = y * out_step_y + out_phase_y
        to_x = x * out_step_x + out_phase_x
        outputs[row] = out_base + ((image * out_h + to_y) * out_w + to_x) * out_pixel * item
        x += 1
        if x == rows_x:
            x = 0
            y += 1
            if y == rows_y:
                y = 0
                image += 1
    shift = 0
    for tap in range(taps.shape[0]):
        tap_y, tap_x = taps[tap, 0], taps[tap, 1]
        shift = (tap_y * source_w + tap_x) * source_pixel * item
        at = tap * _BLOCK_ROWS
        for row in range(count):
            to_y = from_y[row] + tap_y
            to_x = from_x[row] + tap_x
            inside = (to_y >= 0) & (to_y < source_h) & (to_x >= 0) & (to_x < source_w)
            inputs[at + row] = start[row] + shift if inside else zeros
    # Where the next block starts to read, as far as this block has not read it.
    return start[count - 1] + shift, start[count - 1] - start[0]


@kernel
def multiply_range(
    product,
    tile_range,
    panel_range,
    whole_tiles,
    taps,
    source,
    panels,
    first_tap,
    all_taps,
    bias,
    out,
    width,
    finish,
):
    """The tiles and panels in the given ranges, in the calling thread."""
    depth, columns = product[7], product[14]
    n_taps = taps.shape[0]
    zeros = np.zeros(depth, source.dtype)
    spare = np.empty(panel_range[1] * width, source.dtype)
    inputs = np.empty(n_taps * _BLOCK_ROWS, np.int64)
    outputs = np.empty(_BLOCK_ROWS, np.int64)
    zeros_at, spare_at = address(zeros, 0), address(spare, 0)
    block = max(2, min(_BLOCK, _BLOCK_ELEMENTS // (ROWS * product[5])))
    for first in range(tile_range[0], tile_range[1], block):
        last = min(tile_range[1], first + block)
        whole = min(last, max(first, whole_tiles)) - first
        count = whole * ROWS + (last - first - whole) * SHORT_ROWS
        first_row = min(first, whole_tiles) * ROWS + max(0, first - whole_tiles) * SHORT_ROWS
        ahead, length = _fill_tables(
            first_row, count, product, taps, source, zeros_at, out, spare_at, inputs, outputs
        )
        # The next block's source comes to the L2 cache a few lines a tile, while this one's is multiplied.
        share = length // ((last - first) * (panel_range[1] - panel_range[0])) if last < tile_range[1] else 0
        step = max(1, width // (last - first))  # elements of the next panel that a step brings
        for panel in range(panel_range[0], panel_range[1]):
            column = panel * width
            left = columns - column
            wide = left > width // VECTORS
            at = (panel * all_taps + first_tap) * depth * width
            # The next panel comes to the L2 cache meanwhile, a share of it for every tile.
            following = panel + 1 if panel + 1 < panel_range[1] else panel_range[0]
            fetch = (following * all_taps + first_tap) * depth * width
            row = 0
            while row < count:
                for line in range(ahead, ahead + share, 64):
                    prefetch(line)
                ahead += share
                if row < whole * ROWS:
                    if wide:
                        multiply_and_finish_2(
                            inputs,
                            row,
                            _BLOCK_ROWS,
                            n_taps,
                            depth,
                            panels,
                            at,
                            bias,
                            column,
                            outputs,
                            row,
                            column,
                            left,
                            finish,
                            fetch,
                            step,
                        )
                    else:
                        multiply_and_finish_1(
                            inputs,
                            row,
                            _BLOCK_ROWS,
                            n_taps,
                            depth,
                            panels,
                            at,
                            bias,
                            column,
                            outputs,
                            row,
                            column,
                            left,
                            finish,
                            fetch,
                            step,
                        )
                    row += ROWS
                else:
                    if wide:
                        multiply_and_finish_short_2(
                            inputs,
                            row,
                            _BLOCK_ROWS,
                            n_taps,
                            depth,
                            panels,
                            at,
                            bias,
                            column,
                            outputs,
                            row,
                            column,
                            left,
                            finish,
                            fetch,
                            step,
                        )
                    else:
                        multiply_and_finish_short_1(
                            inputs,
                            row,
                            _BLOCK_ROWS,
                            n_taps,
                            depth,
                            panels,
                            at,
                            bias,
                            column,
                            outputs,
                            row,
                            column,
                            left,
                            finish,
                            fetch,
                            step,
                        )
                    row += SHORT_ROWS
                fetch += n_taps * depth * step
    keep_alive(zeros)
    keep_alive(spare)


@kernel
def product_task(
    task, product, covers, taps, source, panels, first_tap, all_taps, bias, out, width, finish, splits
):
    """One of ``splits[0] * splits[1]`` tasks of a product."""
    row_splits, panel_splits = splits
    whole, short = covers
    n_tiles = whole + short
    n_panels = (product[14] + width - 1) // width
    row_task = task // panel_splits
    panel_task = task - row_task * panel_splits
    multiply_range(
        product,
        (n_tiles * row_task // row_splits, n_tiles * (row_task + 1) // row_splits),
        (n_panels * panel_task // panel_splits, n_panels * (panel_task + 1) // panel_splits),
        whole,
        taps,
        source,
        panels,
        first_tap,
        all_taps,
        bias,
        out,
        width,
        finish,
    )


@kernel
def _product(
    product, covers, taps, source, panels, first_tap, all_taps, bias, out, width, finish, splits, n_threads
):
    parallel_for(
        product_task,
        splits[0] * splits[1],
        n_threads,
        (product, covers, taps, source, panels, first_tap, all_taps, bias, out, width, finish, splits),
    )


@lru_cache(maxsize=4096)
def _splits(n_tiles: int, panels: int, threads: int, tile: float, panel: float) -> tuple[int, int]:
    """How many ways to deal rows and panels so that the busiest task has the least to do, and then to read.

    ``tile`` and ``panel`` say how much there is to read of each.
    """
    ways = [(threads // splits, splits) for splits in range(1, threads + 1) if threads % splits == 0]

    def load(way: tuple[int, int]) -> tuple[int, float]:
        own_tiles, own_panels = -(-n_tiles // way[0]), -(-panels // way[1])
        return own_tiles * own_panels, own_tiles * tile + own_panels * panel

    return min(ways, key=load)


def division(product: Product, taps: int, width: int) -> tuple[tuple[int, int], tuple[int, int], int]:
    """(whole and short tiles, tasks by rows and by panels, threads) of a product with so many taps."""
    rows = product.images * product.rows_y * product.rows_x
    threads = get_num_threads() if rows * product.columns * product.depth * taps > _SMALL else 1
    covers = tiles(rows)
    panels = -(-product.columns // width)
    tile = ROWS * product.step_y * product.step_x  # pixels of the source
    return covers, _splits(sum(covers), panels, threads, tile, width * taps), threads


def multiply(
    product: Product,
    taps: Array,
    source: Array,
    panels: Array,
    bias: Array,
    out: Array,
    first_tap: int = 0,
    all_taps: int | None = None,
    finish: Finish = PLAIN,
) -> None:
    """Write ``out`` = implicit rows of ``source`` times ``panels``, plus ``bias``, after ``finish``.

    Args:
        product: the geometry.
        taps: int64 (taps, 2), what each tap adds to a row's source y and x.
        source: the source's memory, C-contiguous.
        panels: packed weights, of which this product uses the taps from ``first_tap`` on.
        bias: (panels * width,), zero beyond the columns.
        out: the destination's memory, C-contiguous.
        first_tap: the first tap of ``panels`` to use.
        all_taps: taps that ``panels`` holds; as many as ``taps`` if not given.
        finish: what is done to the sums before they are stored.
    """
    width = panel_width(source.itemsize)
    rows = product.images * product.rows_y * product.rows_x
    if rows == 0:
        return
    covers, splits, threads = division(product, len(taps), width)
    all_taps = len(taps) if all_taps is None else all_taps
    _product(
        *(tuple(product), covers, taps, source.reshape(-1), panels, first_tap, all_taps, bias),
        *(out.reshape(-1), width, finish, splits, threads),
    )
