"""The frame around elementwise kernels: any array as one row of memory, cut into tasks."""

from __future__ import annotations

from typing import Any

from nbconv_kernels.cpu.jit import get_num_threads
from nbconv_kernels.cpu.memory import Array
from nbconv_kernels.cpu.tasks import empty_as, row_of, task_count


def map_elements(launch: Any, x: Array, *scalars: float) -> Array:
    """``launch`` over the elements of ``x`` into a new array."""
    y = empty_as(x)
    launch(task_count(x.size), row_of(x), *map(x.dtype.type, scalars), row_of(y), get_num_threads())
    return y


def map_gradient(launch: Any, dy: Array, other: Array, *scalars: float) -> Array:
    """``launch`` over the elements of ``dy`` and of the input or output it belongs to, into a new array."""
    dx = empty_as(dy)
    values = map(dy.dtype.type, scalars)
    launch(task_count(dy.size), row_of(dy), row_of(other), *values, row_of(dx), get_num_threads())
    return dx
