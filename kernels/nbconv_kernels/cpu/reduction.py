"""Sums over the rows of a matrix, column by column: bias gradients.

One sweep over memory, which limits it. Each task adds its own rows; the sums of the tasks are added in order.
A few columns would leave vectors half empty, so several rows are taken as one wide row and folded in the end.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array

_SMALL = 1 << 14  # elements below which a parallel region costs more than it saves
_BLOCK = 64  # wide rows summed on their own before they join the total: shorter sums, smaller rounding errors
_WIDE = 64  # elements of a wide row, at least


@kernel
def _sum_task(task, n_tasks, elements, wide, partial):
    count = elements.size // wide
    last = count * (task + 1) // n_tasks
    block = np.empty(wide, elements.dtype)
    total = partial[task]
    total[:] = 0
    for first in range(count * task // n_tasks, last, _BLOCK):
        block[:] = 0
        for row in range(first, min(last, first + _BLOCK)):
            source = elements[row * wide : (row + 1) * wide]
            for i in range(wide):
                block[i] += source[i]
        for i in range(wide):
            total[i] += block[i]


@kernel
def _sum(elements, columns, wide, partial, sums, n_threads):
    n_tasks = partial.shape[0]
    parallel_for(_sum_task, n_tasks, n_threads, (n_tasks, elements, wide, partial))
    sums[:] = 0
    for task in range(n_tasks):
        for i in range(wide):
            sums[i % columns] += partial[task, i]
    for i in range(elements.size // wide * wide, elements.size):
        sums[i % columns] += elements[i]


def sum_over_pixels(rows: Array) -> Array:
    """The sum of each column of a C-contiguous (pixels, channels) array."""
    columns = rows.shape[1]
    wide = -(-_WIDE // columns) * columns
    large = rows.size > _SMALL
    partial = np.empty((get_num_threads() if large else 1, wide), rows.dtype)
    sums = np.empty(columns, rows.dtype)
    _sum(rows.reshape(-1), columns, wide, partial, sums, get_num_threads() if large else 1)
    return sums
