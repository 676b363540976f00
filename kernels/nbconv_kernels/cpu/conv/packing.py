"""Weights in the order the micro-kernel reads them.

A *panel* holds the weights of two vectors' worth of columns (output channels, in the forward pass): for each tap
and each of ``depth`` channels, one contiguous row. ``packed[panel, tap, depth, lane]``, zero where the columns end.
Packing costs one pass over the weights; a convolution reads each panel once per block of pixels.
"""

from __future__ import annotations

from typing import Any

from nbconv_kernels.cpu.jit import kernel, num_threads, parallel_for
from nbconv_kernels.cpu.memory import Array, aligned_empty
from nbconv_kernels.cpu.simd import SIMD

_BLOCK = 16  # depth rows packed at a time: 16 rows of a panel and of nine taps stay in the L1 cache


def panel_width(itemsize: int) -> int:
    """Columns in a panel."""
    return SIMD.vectors * SIMD.lanes(itemsize)


@kernel
def _pack_task(task, n_tasks, source, start, strides, columns, depth, order, width, packed):  # type: ignore[no-untyped-def]
    column_stride, depth_stride = strides
    taps = order.size
    panels = (columns + width - 1) // width
    # Where a column's weights lie together, a block of depth rows is read column by column; where a depth row's
    # do, one row at a time.
    block = _BLOCK if column_stride > depth_stride else 1
    blocks = (depth + block - 1) // block
    for unit in range(panels * blocks * task // n_tasks, panels * blocks * (task + 1) // n_tasks):
        panel = unit // blocks
        first = (unit - panel * blocks) * block
        last = min(depth, first + block)
        base = panel * taps * depth * width
        filled = min(width, columns - panel * width)
        for lane in range(filled):
            column = start + (panel * width + lane) * column_stride
            for d in range(first, last):
                at = column + d * depth_stride
                for tap in range(taps):
                    packed[base + (tap * depth + d) * width + lane] = source[at + order[tap]]
        for tap in range(taps):
            for d in range(first, last):
                for lane in range(filled, width):
                    packed[base + (tap * depth + d) * width + lane] = 0


@kernel
def _pack(source, start, strides, columns, depth, order, width, packed, n_threads):  # type: ignore[no-untyped-def]
    parallel_for(
        _pack_task,
        n_threads,
        n_threads,
        (n_threads, source, start, strides, columns, depth, order, width, packed),
    )


def pack(
    source: Array, start: int, strides: tuple[int, int], columns: int, depth: int, order: Array
) -> Array:
    """Panels of the weights ``source[start + column * strides[0] + depth * strides[1] + order[tap]]``.

    Args:
        source: the weights, 1-D in memory order.
        start: element where a group's weights begin.
        strides: elements from one column, and one depth row, to the next.
        columns: number of columns, the rows of the product's right factor transposed.
        depth: channels summed over.
        order: int64 (taps,), each tap's offset in ``source``, in the order the product visits them.

    Returns:
        (panels * taps * depth * width,), cache-line aligned.
    """
    width = panel_width(source.itemsize)
    packed = aligned_empty(-(-columns // width) * order.size * depth * width, source.dtype)
    threads = num_threads() if packed.size > 8192 else 1
    _pack(source, start, strides, columns, depth, order, width, packed, threads)
    return packed
