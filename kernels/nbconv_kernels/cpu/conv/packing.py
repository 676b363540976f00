"""Weights in the order the micro-kernel reads them.

A *panel* holds the weights of two vectors' worth of columns (output channels, in the forward pass): for each
tap and each of ``depth`` channels, one contiguous row. ``packed[panel, tap, depth, lane]``, zero where
columns end.

In memory the weights of one column form *runs* of consecutive elements (its channels and taps, in the forward
pass), so packing is a transposition, done in registers a square of one vector by one vector at a time. Limit:
shuffles, about four elements a cycle; a convolution reads what one pass wrote once for every block of pixels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, scratch
from nbconv_kernels.cpu.microkernel import VECTORS
from nbconv_kernels.cpu.movement import address, copy_vectors, prefetch, transpose_square
from nbconv_kernels.cpu.simd import SIMD

_AHEAD = 32  # rows
_SMALL = 1 << 13  # elements below which a parallel region costs more than it saves


def panel_width(itemsize: int) -> int:
    """Columns in a panel."""
    return SIMD.vectors * SIMD.lanes(itemsize)


@kernel
def pack_range(first, last, source, start, strides, columns, runs, places, run_place, width, packed):
    """Pack the units from ``first`` to ``last`` in the calling thread; each panel has ``VECTORS * runs``."""
    column_stride, run_stride = strides
    length = places.size
    lanes = width // VECTORS
    squares = (length + lanes - 1) // lanes
    panel_size = runs * length * width
    for unit in range(first, last):
        panel = unit // (runs * VECTORS)
        run = (unit - panel * runs * VECTORS) // VECTORS
        vector = unit - (panel * runs + run) * VECTORS
        column = panel * width + vector * lanes
        filled = max(0, min(lanes, columns - column))
        origin = start + column * column_stride + run * run_stride
        base = panel * panel_size + run * run_place + vector * lanes
        if column_stride == 1 and length == 1:
            if filled == lanes:
                # The next rows are a page or more away, which the CPU's own prefetching does not see coming.
                prefetch(address(source, origin + _AHEAD * run_stride))
                copy_vectors(source, origin, packed, base, lanes)
                continue
            for lane in range(filled):
                packed[base + lane] = source[origin + lane]
            for lane in range(filled, lanes):
                packed[base + lane] = 0
            continue
        for square in range(squares):
            at = square * lanes
            count = min(lanes, length - at)
            # The registers hold a whole square; where less is left, it must not reach past the source's end.
            if filled == lanes and origin + (lanes - 1) * column_stride + at + lanes <= source.size:
                transpose_square(source, origin + at, column_stride, packed, base, places, at, count)
                continue
            for i in range(at, at + count):
                for lane in range(filled):
                    packed[base + places[i] + lane] = source[origin + lane * column_stride + i]
                for lane in range(filled, lanes):
                    packed[base + places[i] + lane] = 0


@kernel
def _pack_task(task, n_tasks, source, start, strides, columns, runs, places, run_place, width, packed):
    units = (columns + width - 1) // width * VECTORS * runs
    first, last = units * task // n_tasks, units * (task + 1) // n_tasks
    pack_range(first, last, source, start, strides, columns, runs, places, run_place, width, packed)


@kernel
def _pack(source, start, strides, columns, runs, places, run_place, width, packed, n_threads):
    parallel_for(
        _pack_task,
        n_threads,
        n_threads,
        (n_threads, source, start, strides, columns, runs, places, run_place, width, packed),
    )


def pack(
    purpose: str,
    source: Array,
    start: int,
    strides: tuple[int, int],
    columns: int,
    runs: int,
    places: Array,
    run_place: int,
) -> Array:
    """Panels of weights: element i of a run goes to row ``places[i] + run * run_place`` of its panel.

    Args:
        purpose: names the scratch memory the panels go to.
        source: the weights, 1-D in memory order.
        start: element where they begin (those of a group).
        strides: elements from one column, and from one run, to the next.
        columns: number of columns, the rows of the product's right factor transposed.
        runs: number of runs of consecutive elements a column has.
        places: int64 (length of a run,), in elements of a panel.
        run_place: what each run adds to the places.

    Returns:
        (panels * runs * length * width,) in scratch memory, cache-line aligned.
    """
    width = panel_width(source.itemsize)
    packed = scratch(purpose, -(-columns // width) * runs * places.size * width, source.dtype)
    threads = get_num_threads() if packed.size > _SMALL else 1
    _pack(source, start, strides, columns, runs, places, run_place, width, packed, threads)
    return packed


@lru_cache(maxsize=1024)
def places_by_tap(taps: int, depth: int, width: int) -> Array:
    """Where a column's weights go that lie as (depth, taps): one run, to rows (taps, depth)."""
    return (np.arange(taps)[None, :] * depth + np.arange(depth)[:, None]).reshape(-1) * np.int64(width)


@lru_cache(maxsize=1024)
def places_in_order(order: tuple[int, ...], depth: int, width: int) -> Array:
    """Where a run of taps goes when tap ``order[i]`` is the panel's i-th: to rows ``i * depth``."""
    places = np.empty(len(order), np.int64)
    places[list(order)] = np.arange(len(order)) * depth * width
    return places
