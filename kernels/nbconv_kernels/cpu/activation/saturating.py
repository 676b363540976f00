"""Sigmoid and hyperbolic tangent, and their gradients in terms of the output.

Limit: about 20 vector multiply-adds an element, roughly what its way through memory costs; the gradients are
bound by memory alone.
"""

from __future__ import annotations

from nbconv_kernels.cpu import vecmath
from nbconv_kernels.cpu.activation.elementwise import map_elements, map_gradient
from nbconv_kernels.cpu.jit import kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.tasks import check_same_shape, share


@kernel
def _sigmoid_task(task, n_tasks, x, y):
    first, last = share(x.size, task, n_tasks)
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = vecmath.sigmoid(x[i])


@kernel
def _sigmoid(n_tasks, x, y, n_threads):
    parallel_for(_sigmoid_task, n_tasks, n_threads, (n_tasks, x, y))


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x).

    Raises:
        TypeError: for a dtype other than float32 or float64.
    """
    check_float("sigmoid", x)
    return map_elements(_sigmoid, x)


@kernel
def _sigmoid_backward_task(task, n_tasks, dy, y, dx):
    first, last = share(dy.size, task, n_tasks)
    dy, y, dx = dy[first:last], y[first:last], dx[first:last]
    one = dy.dtype.type(1)
    for i in range(dy.size):
        dx[i] = dy[i] * y[i] * (one - y[i])


@kernel
def _sigmoid_backward(n_tasks, dy, y, dx, n_threads):
    parallel_for(_sigmoid_backward_task, n_tasks, n_threads, (n_tasks, dy, y, dx))


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """``dy * y * (1 - y)`` for the output ``y``.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ.
    """
    check_float("sigmoid_backward", dy, y)
    check_same_shape("sigmoid_backward", dy=dy, y=y)
    return map_gradient(_sigmoid_backward, dy, y)


@kernel
def _tanh_task(task, n_tasks, x, y):
    first, last = share(x.size, task, n_tasks)
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = vecmath.tanh(x[i])


@kernel
def _tanh(n_tasks, x, y, n_threads):
    parallel_for(_tanh_task, n_tasks, n_threads, (n_tasks, x, y))


def tanh(x: Array) -> Array:
    """The hyperbolic tangent.

    Raises:
        TypeError: for a dtype other than float32 or float64.
    """
    check_float("tanh", x)
    return map_elements(_tanh, x)


@kernel
def _tanh_backward_task(task, n_tasks, dy, y, dx):
    first, last = share(dy.size, task, n_tasks)
    dy, y, dx = dy[first:last], y[first:last], dx[first:last]
    one = dy.dtype.type(1)
    for i in range(dy.size):
        dx[i] = dy[i] * (one - y[i] * y[i])


@kernel
def _tanh_backward(n_tasks, dy, y, dx, n_threads):
    parallel_for(_tanh_backward_task, n_tasks, n_threads, (n_tasks, dy, y, dx))


def tanh_backward(dy: Array, y: Array) -> Array:
    """``dy * (1 - y^2)`` for the output ``y``.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ.
    """
    check_float("tanh_backward", dy, y)
    check_same_shape("tanh_backward", dy=dy, y=y)
    return map_gradient(_tanh_backward, dy, y)
