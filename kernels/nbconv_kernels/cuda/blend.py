"""Weighted sums of rows, then of columns: padding, resampling and both their gradients are this one kernel.

    y[p, q] = sum over w in columns(q) of b[q, w] * (sum over h in rows(p) of a[p, h] * x[h, w])

for each image and channel. An ``Axis`` lists for each output row (or column) the input rows it sums and their
weights: one for a copy, two for a blend, any number in a gradient, which has the same sums transposed. Where
a list is empty the output is a constant.

Memory is (N, H, W, C); a thread has four channels of an output (``pixels``) and reads each of its inputs
once. What outputs share comes out of the cache. Limit: memory bandwidth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from nbconv_kernels.cuda.build import kernel
from nbconv_kernels.cuda.memory import Array, empty_nchw, whole
from nbconv_kernels.cuda.pixels import BLOCK, first_item, grid, next_item, quads, read4, write4
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, i32s, u32, uint32

Sums = list[list[tuple[int, float]]]
"""For each output, the inputs that it sums with their weights."""


class Axis(NamedTuple):
    """``Sums`` as arrays: output i sums the entries ``starts[i]`` .. ``starts[i + 1]``."""

    starts: Array
    sources: Array
    weights: Array


def axis(sums: Sums) -> Axis:
    """``sums`` as arrays."""
    starts = np.cumsum([0, *map(len, sums)]).astype(np.int32)
    entries = [entry for one in sums for entry in one]
    sources = np.array([source for source, _ in entries], np.int32)
    return Axis(starts, sources, np.array([weight for _, weight in entries], np.float32))


def transposed(sums: Iterable[Sequence[tuple[int, float]]], inputs: int) -> Sums:
    """The sums of the gradient: for each of so many ``inputs``, the outputs that it goes into."""
    back: Sums = [[] for _ in range(inputs)]
    for output, one in enumerate(sums):
        for source, weight in one:
            back[source].append((output, weight))
    return back


@kernel(block=BLOCK, min_blocks=8)
def _blend(
    x: f32s,
    y: f32s,
    row_starts: i32s,
    row_sources: i32s,
    row_weights: f32s,
    column_starts: i32s,
    column_sources: i32s,
    column_weights: f32s,
    channels: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    value: f32,
):
    output_row = uint32(cuda.blockIdx.x)
    image = uint32(output_row // out_height)
    p = uint32(output_row - uint32(image * out_height))
    first_row, last_row = uint32(row_starts[p]), uint32(row_starts[uint32(p + uint32(1))])
    groups = quads(channels)
    item = first_item()
    while item < uint32(out_width * groups):
        q = uint32(item // groups)
        channel = uint32(uint32(item - uint32(q * groups)) << uint32(2))
        first, last = uint32(column_starts[q]), uint32(column_starts[uint32(q + uint32(1))])
        a, b, c, d = value, value, value, value
        if first_row < last_row and first < last:
            a, b, c, d = float32(0), float32(0), float32(0), float32(0)
            entry = first
            while entry < last:
                column, share = uint32(column_sources[entry]), column_weights[entry]
                sum_a, sum_b, sum_c, sum_d = float32(0), float32(0), float32(0), float32(0)
                of_rows = first_row
                while of_rows < last_row:
                    weight = row_weights[of_rows]
                    row = uint32(uint32(image * height) + uint32(row_sources[of_rows]))
                    at = uint32(uint32(uint32(uint32(row * width) + column) * channels) + channel)
                    e, f, g, h = read4(x, at, channel, channels)
                    sum_a += weight * e
                    sum_b += weight * f
                    sum_c += weight * g
                    sum_d += weight * h
                    of_rows = uint32(of_rows + uint32(1))
                a += share * sum_a
                b += share * sum_b
                c += share * sum_c
                d += share * sum_d
                entry = uint32(entry + uint32(1))
        out = uint32(uint32(uint32(uint32(output_row * out_width) + q) * channels) + channel)
        write4(y, out, channel, channels, a, b, c, d)
        item = next_item(item)


def blend(x: Array, rows: tuple[Array, ...], columns: tuple[Array, ...], value: float = 0.0) -> Array:
    """The sums of (N, C, H, W) along both axes, each an ``Axis``; ``value`` where nothing is summed."""
    n, channels, height, width = x.shape
    size = (rows[0].size - 1, columns[0].size - 1)
    y = empty_nchw(x, n, channels, *size)
    if y.size:
        blocks = grid(n * size[0], size[1], channels)
        _blend[blocks](whole(x), y, *rows, *columns, channels, height, width, *size, value)
    return y
