"""Where the paths of a residual block meet: the sum and its ReLU in one sweep.

    add_relu(a, b) = max(0, a + b)

The gradient of both summands is ``relu_backward(dy, y)``.

Limit: memory bandwidth. Apart, the sum and the ReLU read three arrays and write two; together they read two
and write one, and in place no new memory is touched.
"""

from __future__ import annotations

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.tasks import check_same_shape, empty_as, row_of, share, task_count

__all__ = ["accumulate_relu", "add_relu"]


@kernel
def _add_relu_task(task, n_tasks, a, b, y):
    first, last = share(a.size, task, n_tasks)
    a, b, y = a[first:last], b[first:last], y[first:last]
    zero = a.dtype.type(0)
    for i in range(a.size):
        total = a[i] + b[i]
        y[i] = zero if total <= zero else total


@kernel
def _add_relu(n_tasks, a, b, y, n_threads):
    parallel_for(_add_relu_task, n_tasks, n_threads, (n_tasks, a, b, y))


def add_relu(a: Array, b: Array) -> Array:
    """max(0, a + b), and NaN where the sum is NaN, for arrays of one shape.

    Raises:
        TypeError: if they are not both float32 or both float64.
        ValueError: if the shapes differ.
    """
    check_float("add_relu", a, b)
    check_same_shape("add_relu", a=a, b=b)
    y = empty_as(a)
    _add_relu(task_count(a.size), row_of(a), row_of(b), row_of(y), get_num_threads())
    return y


# A kernel of its own: given one array as both a and y, the other would find that they overlap and go slowly.
@kernel
def _accumulate_relu_task(task, n_tasks, into, value):
    first, last = share(into.size, task, n_tasks)
    into, value = into[first:last], value[first:last]
    zero = into.dtype.type(0)
    for i in range(into.size):
        total = into[i] + value[i]
        into[i] = zero if total <= zero else total


@kernel
def _accumulate_relu(n_tasks, into, value, n_threads):
    parallel_for(_accumulate_relu_task, n_tasks, n_threads, (n_tasks, into, value))


def accumulate_relu(into: Array, value: Array) -> None:
    """``into = max(0, into + value)`` in place, for arrays of one shape.

    Raises:
        TypeError: if they are not both float32 or both float64.
        ValueError: if the shapes differ or ``into`` is read-only.
    """
    check_float("accumulate_relu", into, value)
    check_same_shape("accumulate_relu", into=into, value=value)
    if not into.flags.writeable:
        raise ValueError("accumulate_relu: expected an array that can be written to, got a read-only one")
    memory = into.transpose(0, 2, 3, 1) if into.ndim == 4 else into
    if not memory.flags.c_contiguous:
        into[...] = add_relu(into, value)
        return
    _accumulate_relu(task_count(into.size), row_of(into), row_of(value), get_num_threads())
