"""The frame around losses that are a function of each element: blocks, sums and reductions.

A kernel writes the losses of a block of elements to where the caller wants them, or to a scratch that stays
in the first cache, from which they are summed: the loop with the formula has no sum in it, so that it becomes
vectors.
"""

from __future__ import annotations

from math import nan
from typing import Any

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel
from nbconv_kernels.cpu.memory import Array
from nbconv_kernels.cpu.tasks import empty_as, row_of, task_count
from nbconv_kernels.cpu.vector import fill, lanes, load, plus, total

BLOCK = 1024


@kernel
def sum_of(values):
    """The sum of a block of values, in their dtype."""
    sums = fill(values, values.dtype.type(0))
    for i in range(0, values.size, lanes(values)):
        sums = plus(sums, load(values, i, values.size - i))
    return total(sums)


def check_reduction(op: str, reduction: str) -> None:
    """Raise a ValueError unless the reduction is "mean", "sum" or "none"."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'{op}: reduction must be "mean", "sum" or "none", got {reduction!r}')


def elementwise_loss(launch: Any, x: Array, *arguments: Any, reduction: str) -> tuple[float | Array, Array]:
    """(loss, dx) of a loss function of each element.

    ``launch(n_tasks, x, *arguments, scale, losses, dx, sums, n_threads)`` writes the gradient times
    ``scale``, and the losses if ``losses`` is not empty, else each task's sum of them.
    """
    each = reduction == "none"
    dx = empty_as(x)
    losses = empty_as(x) if each else np.empty(0, x.dtype)
    n_tasks = task_count(x.size)
    sums = np.zeros(n_tasks)
    scale = x.dtype.type(scale_of(reduction, x.size))
    launch(n_tasks, row_of(x), *arguments, scale, row_of(losses), row_of(dx), sums, get_num_threads())
    return (losses if each else reduced(float(sums.sum()), reduction, x.size)), dx


def scale_of(reduction: str, count: int) -> float:
    """What the gradient of the sum is multiplied by."""
    return 1 / count if reduction == "mean" and count else 1.0


def reduced(total: float, reduction: str, count: int) -> float:
    """The sum, or the mean over ``count``, which over nothing is NaN."""
    if reduction == "sum":
        return total
    return total / count if count else nan
