"""Convolution as a matrix product whose left factor is never written down.

Each row of the product is a destination pixel, each column a destination channel; the sum runs over *taps* (kernel
positions) and the source's channels. For a row and a tap, the source pixel is found by arithmetic:

    source y = row's y * step + tap's y        source x likewise

and where it falls outside, a row of zeros is read instead. A table of these addresses for a block of rows is built
once and used for every panel of columns; the micro-kernel then reads the source in place. Three things are this one
product (after Dukhan, "The Indirect Convolution Algorithm", 2019):

* the forward pass: step = stride, tap = position * dilation - padding;
* the input gradient: one product for each phase of the stride, with the taps that reach that phase, step = 1;
* a dense layer and a plain matrix product: one tap.

Limit: fused multiply-adds. Per block of ``_BLOCK`` tiles, the panel streams once from the L2 cache (128 bytes a step
of 14 cycles) and the block's source rows stay in it. Tiles are dealt to tasks by rows, by panels, or both; every
output is computed whole by one task, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nbconv_kernels.cpu.conv.packing import panel_width
from nbconv_kernels.cpu.jit import kernel, num_threads, parallel_for
from nbconv_kernels.cpu.memory import Array
from nbconv_kernels.cpu.microkernel import (
    ROWS,
    VECTORS,
    address,
    keep_alive,
    multiply_rows_1,
    multiply_rows_2,
)

_BLOCK = 16  # tiles whose address tables are built together
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
    out_step_y: int  # the destination pixel of row (y, x) is (y * out_step_y + out_phase_y, ...)
    out_step_x: int
    out_phase_y: int
    out_phase_x: int


@kernel
def _fill_tables(first, count, product, taps, source, zeros, out, spare, inputs, outputs):  # type: ignore[no-untyped-def]
    """Addresses of every row and tap of ``count`` tiles from tile ``first``."""
    (images, rows_y, rows_x, source_h, source_w, source_pixel, source_start, _, step_y, step_x) = product[:10]
    (out_h, out_w, out_pixel, out_start, _, out_step_y, out_step_x, out_phase_y, out_phase_x) = product[10:]
    n_taps = taps.shape[0]
    item = source.itemsize
    source_base = address(source, source_start)
    out_base = address(out, out_start)
    row = first * ROWS
    image = row // (rows_y * rows_x)
    y = (row - image * rows_y * rows_x) // rows_x
    x = row - (image * rows_y + y) * rows_x
    for tile in range(count):
        for lane in range(ROWS):
            at = tile * n_taps * ROWS + lane
            if image >= images:
                for tap in range(n_taps):
                    inputs[at + tap * ROWS] = zeros
                outputs[tile * ROWS + lane] = spare
                continue
            for tap in range(n_taps):
                from_y = y * step_y + taps[tap, 0]
                from_x = x * step_x + taps[tap, 1]
                pixel = ((image * source_h + from_y) * source_w + from_x) * source_pixel
                inside = 0 <= from_y < source_h and 0 <= from_x < source_w
                inputs[at + tap * ROWS] = source_base + pixel * item if inside else zeros
            to_y = y * out_step_y + out_phase_y
            to_x = x * out_step_x + out_phase_x
            outputs[tile * ROWS + lane] = (
                out_base + ((image * out_h + to_y) * out_w + to_x) * out_pixel * item
            )
            x += 1
            if x == rows_x:
                x = 0
                y += 1
                if y == rows_y:
                    y = 0
                    image += 1


@kernel
def _product_task(task, product, taps, source, panels, first_tap, all_taps, bias, out, width, splits):  # type: ignore[no-untyped-def]
    row_splits, panel_splits = splits
    depth, columns = product[7], product[14]
    n_taps = taps.shape[0]
    n_panels = (columns + width - 1) // width
    rows = product[0] * product[1] * product[2]
    tiles = (rows + ROWS - 1) // ROWS
    row_task = task // panel_splits
    panel_task = task - row_task * panel_splits
    last_tile = tiles * (row_task + 1) // row_splits
    first_panel = n_panels * panel_task // panel_splits
    last_panel = n_panels * (panel_task + 1) // panel_splits

    zeros = np.zeros(depth, source.dtype)
    spare = np.empty(n_panels * width, source.dtype)
    inputs = np.empty(_BLOCK * n_taps * ROWS, np.int64)
    outputs = np.empty(_BLOCK * ROWS, np.int64)
    zeros_at, spare_at = address(zeros, 0), address(spare, 0)
    for first in range(tiles * row_task // row_splits, last_tile, _BLOCK):
        count = min(_BLOCK, last_tile - first)
        _fill_tables(first, count, product, taps, source, zeros_at, out, spare_at, inputs, outputs)
        for panel in range(first_panel, last_panel):
            column = panel * width
            left = columns - column
            panel_at = (panel * all_taps + first_tap) * depth * width
            for tile in range(count):
                at = tile * n_taps * ROWS
                if left > width // VECTORS:
                    multiply_rows_2(
                        inputs,
                        at,
                        n_taps,
                        depth,
                        panels,
                        panel_at,
                        bias,
                        column,
                        outputs,
                        tile * ROWS,
                        column,
                        left,
                    )
                else:
                    multiply_rows_1(
                        inputs,
                        at,
                        n_taps,
                        depth,
                        panels,
                        panel_at,
                        bias,
                        column,
                        outputs,
                        tile * ROWS,
                        column,
                        left,
                    )
    keep_alive(zeros)
    keep_alive(spare)


@kernel
def _product(product, taps, source, panels, first_tap, all_taps, bias, out, width, splits, n_threads):  # type: ignore[no-untyped-def]
    parallel_for(
        _product_task,
        splits[0] * splits[1],
        n_threads,
        (product, taps, source, panels, first_tap, all_taps, bias, out, width, splits),
    )


@lru_cache(maxsize=4096)
def _splits(tiles: int, panels: int, threads: int) -> tuple[int, int]:
    """How many ways to deal rows and panels so that the busiest task has the least to do."""
    best = (threads, 1)
    least = -(-tiles // threads) * panels
    for panel_splits in range(2, threads + 1):
        if threads % panel_splits == 0:
            work = -(-tiles * panel_splits // threads) * -(-panels // panel_splits)
            if work < least:
                best, least = (threads // panel_splits, panel_splits), work
    return best


def multiply(
    product: Product,
    taps: Array,
    source: Array,
    panels: Array,
    bias: Array,
    out: Array,
    first_tap: int = 0,
    all_taps: int | None = None,
) -> None:
    """Write ``out`` = implicit rows of ``source`` times ``panels``, plus ``bias``.

    Args:
        product: the geometry.
        taps: int64 (taps, 2), what each tap adds to a row's source y and x.
        source: the source's memory, C-contiguous.
        panels: packed weights, of which this product uses the taps from ``first_tap`` on.
        bias: (panels * width,), zero beyond the columns.
        out: the destination's memory, C-contiguous.
        first_tap: the first tap of ``panels`` to use.
        all_taps: taps that ``panels`` holds; as many as ``taps`` if not given.
    """
    width = panel_width(source.itemsize)
    rows = product.images * product.rows_y * product.rows_x
    if rows == 0:
        return
    threads = num_threads() if rows * product.columns * product.depth * len(taps) > _SMALL else 1
    splits = _splits(-(-rows // ROWS), -(-product.columns // width), threads)
    all_taps = len(taps) if all_taps is None else all_taps
    _product(tuple(product), taps, source, panels, first_tap, all_taps, bias, out, width, splits, threads)
