"""Weighted sums of rows, then of columns: padding, resampling and both their gradients are this one kernel.

    y[p, q] = sum over h in rows(p) of a[p, h] * sum over w in columns(q) of b[q, w] * x[h, w]

for each image and channel. An ``Axis`` lists for each output row (or column) the input rows it sums and their
weights: one for a copy, two for a blend, any number in a gradient, which has the same sums transposed. Where
a list is empty the output is a constant.

Memory is (N, H, W, C). The rows of one output row are summed to a line, unless they are one, which is read in
place; it stays in the first cache while its pixels are summed, a vector of channels at a time. Each output is
written once, from sums in a fixed order. Limit: memory bandwidth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, empty_nchw
from nbconv_kernels.cpu.tasks import row_of, task_count
from nbconv_kernels.cpu.vector import fill, lanes, load, plus, store, times

Sums = list[list[tuple[int, float]]]
"""For each output, the inputs that it sums with their weights."""


class Axis(NamedTuple):
    """``Sums`` as arrays: output i sums the entries ``starts[i]`` .. ``starts[i + 1]``.

    ``runs[i]`` outputs from i on are plain copies of so many inputs side by side.
    """

    starts: Array
    sources: Array
    weights: Array
    runs: Array


def axis(sums: Sums, dtype: Any) -> Axis:
    """``sums`` as arrays."""
    starts = np.cumsum([0, *map(len, sums)], dtype=np.int64)
    entries = [entry for one in sums for entry in one]
    sources = np.array([source for source, _ in entries], np.int64)
    weights = np.array([weight for _, weight in entries], dtype)
    runs = np.zeros(len(sums), np.int64)
    for i in range(len(sums) - 1, -1, -1):
        if len(sums[i]) == 1 and sums[i][0][1] == 1:
            beside = i + 1 < len(sums) and sums[i + 1] == [(sums[i][0][0] + 1, 1)]
            runs[i] = runs[i + 1] + 1 if beside else 1
    return Axis(starts, sources, weights, runs)


def transposed(sums: Iterable[Sequence[tuple[int, float]]], inputs: int) -> Sums:
    """The sums of the gradient: for each of so many ``inputs``, the outputs that it goes into."""
    back: Sums = [[] for _ in range(inputs)]
    for output, one in enumerate(sums):
        for source, weight in one:
            back[source].append((output, weight))
    return back


@kernel
def _blend_task(task, n_tasks, x, y, shape, value, rows, columns):
    images, channels, height, width, out_height, out_width = shape
    row_starts, row_sources, row_weights, row_runs = rows
    column_starts, column_sources, column_weights, column_runs = columns
    step = lanes(x)
    length = width * channels
    line = np.empty(length, x.dtype)
    for job in range(images * out_height * task // n_tasks, images * out_height * (task + 1) // n_tasks):
        image = job // out_height
        target = job * out_width * channels
        p = job - image * out_height
        first, last = row_starts[p], row_starts[p + 1]
        if first == last:
            out = y[target : target + out_width * channels]
            for i in range(out.size):
                out[i] = value
            continue
        source, origin = x, (image * height + row_sources[first]) * length
        if row_runs[p] == 0:
            weight, values = row_weights[first], x[origin : origin + length]
            for i in range(length):
                line[i] = weight * values[i]
            for entry in range(first + 1, last):
                base = (image * height + row_sources[entry]) * length
                weight, values = row_weights[entry], x[base : base + length]
                for i in range(length):
                    line[i] += weight * values[i]
            source, origin = line, 0
        q = 0
        while q < out_width:
            first, last = column_starts[q], column_starts[q + 1]
            if column_runs[q] > 0:
                base, run = origin + column_sources[first] * channels, column_runs[q] * channels
                copied, out = source[base : base + run], y[target + q * channels :]
                for i in range(run):
                    out[i] = copied[i]
                q += column_runs[q]
                continue
            for c in range(0, channels, step):
                rest = channels - c
                total = fill(x, value)
                if first < last:
                    pixel = load(source, origin + column_sources[first] * channels + c, rest)
                    total = times(fill(x, column_weights[first]), pixel)
                for entry in range(first + 1, last):
                    pixel = load(source, origin + column_sources[entry] * channels + c, rest)
                    total = plus(total, times(fill(x, column_weights[entry]), pixel))
                store(y, target + q * channels + c, total, rest)
            q += 1


@kernel
def _blend(n_tasks, x, y, shape, value, rows, columns, n_threads):
    parallel_for(_blend_task, n_tasks, n_threads, (n_tasks, x, y, shape, value, rows, columns))


def blend(x: Array, rows: Axis, columns: Axis, value: float = 0.0) -> Array:
    """The sums of (N, C, H, W) along both axes, and ``value`` where there is nothing to sum."""
    size = (len(rows.starts) - 1, len(columns.starts) - 1)
    y = empty_nchw(*x.shape[:2], *size, x.dtype)
    tables = (tuple(rows), tuple(columns))
    arguments = (row_of(x), row_of(y), (*x.shape, *size), x.dtype.type(value), *tables)
    _blend(task_count(max(x.size, y.size)), *arguments, get_num_threads())
    return y
