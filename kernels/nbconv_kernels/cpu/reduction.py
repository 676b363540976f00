"""Sums over the rows of a matrix, column by column: bias gradients.

One sweep over memory, which limits it. Each task adds its own rows; the tasks' sums are added in their order.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.jit import kernel, num_threads, parallel_for
from nbconv_kernels.cpu.memory import Array

_SMALL = 1 << 14  # elements below which a parallel region costs more than it saves
_BLOCK = 64  # rows summed on their own before they join the total: shorter sums, smaller rounding errors


@kernel
def _sum_task(task, n_tasks, rows, partial):
    count, columns = rows.shape
    last = count * (task + 1) // n_tasks
    block = np.empty(columns, rows.dtype)
    total = partial[task]
    total[:] = 0
    for first in range(count * task // n_tasks, last, _BLOCK):
        block[:] = 0
        for row in range(first, min(last, first + _BLOCK)):
            for column in range(columns):
                block[column] += rows[row, column]
        for column in range(columns):
            total[column] += block[column]


@kernel
def _sum(rows, partial, n_threads):
    n_tasks = partial.shape[0]
    parallel_for(_sum_task, n_tasks, n_threads, (n_tasks, rows, partial))
    for task in range(1, n_tasks):
        for column in range(rows.shape[1]):
            partial[0, column] += partial[task, column]


def sum_over_pixels(rows: Array) -> Array:
    """The sum of each column of a C-contiguous (pixels, channels) array."""
    threads = num_threads() if rows.size > _SMALL else 1
    partial = np.empty((threads, rows.shape[1]), rows.dtype)
    _sum(rows, partial, threads)
    return partial[0]
