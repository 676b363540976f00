"""Rectifiers and their gradients: relu, relu6, leaky_relu and elu.

NaN goes the way that PyTorch sends it: comparisons are written such that it stays or passes.

Limit: memory bandwidth, one read and one write an element (two reads in the gradients); elu adds an
exponential, about 20 vector multiply-adds, which cost as much again.
"""

from __future__ import annotations

from nbconv_kernels.cpu import vecmath
from nbconv_kernels.cpu.activation.elementwise import map_elements, map_gradient
from nbconv_kernels.cpu.jit import kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.movement import AHEAD, address, prefetch_to_write
from nbconv_kernels.cpu.tasks import check_same_shape, share
from nbconv_kernels.cpu.vector import beats, choose, fill, lanes, load, store


@kernel
def _relu_task(task, n_tasks, x, y):
    first, last = share(x.size, task, n_tasks)
    x, y = x[first:last], y[first:last]
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = zero if x[i] <= zero else x[i]


@kernel
def _relu(n_tasks, x, y, n_threads):
    parallel_for(_relu_task, n_tasks, n_threads, (n_tasks, x, y))


def relu(x: Array) -> Array:
    """max(x, 0), and NaN where x is NaN.

    Raises:
        TypeError: for a dtype other than float32 or float64.
    """
    check_float("relu", x)
    return map_elements(_relu, x)


@kernel
def _relu_backward_task(task, n_tasks, dy, y, dx):
    first, last = share(dy.size, task, n_tasks)
    for i in range(first, last, lanes(dy)):
        rest = last - i
        prefetch_to_write(address(dx, i + AHEAD))
        gradient = load(dy, i, rest)
        zero = fill(gradient, dy.dtype.type(0))
        store(dx, i, choose(beats(load(y, i, rest), zero), gradient, zero), rest)


@kernel
def _relu_backward(n_tasks, dy, y, dx, n_threads):
    parallel_for(_relu_backward_task, n_tasks, n_threads, (n_tasks, dy, y, dx))


def relu_backward(dy: Array, y: Array) -> Array:
    """``dy`` where the output ``y`` (or the input: the signs agree) is positive or NaN, else 0.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ.
    """
    check_float("relu_backward", dy, y)
    check_same_shape("relu_backward", dy=dy, y=y)
    return map_gradient(_relu_backward, dy, y)


@kernel
def _relu6_task(task, n_tasks, x, y):
    first, last = share(x.size, task, n_tasks)
    x, y = x[first:last], y[first:last]
    zero, six = x.dtype.type(0), x.dtype.type(6)
    for i in range(x.size):
        y[i] = zero if x[i] <= zero else six if x[i] >= six else x[i]


@kernel
def _relu6(n_tasks, x, y, n_threads):
    parallel_for(_relu6_task, n_tasks, n_threads, (n_tasks, x, y))


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6), and NaN where x is NaN.

    Raises:
        TypeError: for a dtype other than float32 or float64.
    """
    check_float("relu6", x)
    return map_elements(_relu6, x)


@kernel
def _relu6_backward_task(task, n_tasks, dy, y, dx):
    first, last = share(dy.size, task, n_tasks)
    dy, y, dx = dy[first:last], y[first:last], dx[first:last]
    zero, six = dy.dtype.type(0), dy.dtype.type(6)
    for i in range(dy.size):
        dx[i] = zero if y[i] <= zero or y[i] >= six else dy[i]


@kernel
def _relu6_backward(n_tasks, dy, y, dx, n_threads):
    parallel_for(_relu6_backward_task, n_tasks, n_threads, (n_tasks, dy, y, dx))


def relu6_backward(dy: Array, y: Array) -> Array:
    """``dy`` where the output ``y`` is between 0 and 6, or NaN, else 0.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ.
    """
    check_float("relu6_backward", dy, y)
    check_same_shape("relu6_backward", dy=dy, y=y)
    return map_gradient(_relu6_backward, dy, y)


@kernel
def _leaky_relu_task(task, n_tasks, x, slope, y):
    first, last = share(x.size, task, n_tasks)
    x, y = x[first:last], y[first:last]
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = x[i] if x[i] > zero else x[i] * slope


@kernel
def _leaky_relu(n_tasks, x, slope, y, n_threads):
    parallel_for(_leaky_relu_task, n_tasks, n_threads, (n_tasks, x, slope, y))


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """X where it is positive, ``negative_slope * x`` elsewhere.

    Raises:
        TypeError: for a dtype other than float32 or float64.
    """
    check_float("leaky_relu", x)
    return map_elements(_leaky_relu, x, negative_slope)


@kernel
def _leaky_relu_backward_task(task, n_tasks, dy, x, slope, dx):
    first, last = share(dy.size, task, n_tasks)
    dy, x, dx = dy[first:last], x[first:last], dx[first:last]
    zero = dy.dtype.type(0)
    for i in range(dy.size):
        dx[i] = dy[i] if x[i] > zero else dy[i] * slope


@kernel
def _leaky_relu_backward(n_tasks, dy, x, slope, dx, n_threads):
    parallel_for(_leaky_relu_backward_task, n_tasks, n_threads, (n_tasks, dy, x, slope, dx))


def leaky_relu_backward(dy: Array, x: Array, negative_slope: float = 0.01) -> Array:
    """``dy`` where the input ``x`` is positive, ``negative_slope * dy`` elsewhere.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ.
    """
    check_float("leaky_relu_backward", dy, x)
    check_same_shape("leaky_relu_backward", dy=dy, x=x)
    return map_gradient(_leaky_relu_backward, dy, x, negative_slope)


@kernel
def _elu_task(task, n_tasks, x, alpha, y):
    first, last = share(x.size, task, n_tasks)
    x, y = x[first:last], y[first:last]
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = alpha * vecmath.expm1(x[i]) if x[i] <= zero else x[i]


@kernel
def _elu(n_tasks, x, alpha, y, n_threads):
    parallel_for(_elu_task, n_tasks, n_threads, (n_tasks, x, alpha, y))


def elu(x: Array, alpha: float = 1.0) -> Array:
    """X where it is positive, ``alpha * (e^x - 1)`` elsewhere.

    Raises:
        TypeError: for a dtype other than float32 or float64.
    """
    check_float("elu", x)
    return map_elements(_elu, x, alpha)


@kernel
def _elu_backward_task(task, n_tasks, dy, x, alpha, dx):
    first, last = share(dy.size, task, n_tasks)
    dy, x, dx = dy[first:last], x[first:last], dx[first:last]
    zero = dy.dtype.type(0)
    for i in range(dy.size):
        dx[i] = dy[i] if x[i] > zero else dy[i] * alpha * vecmath.exp(x[i])


@kernel
def _elu_backward(n_tasks, dy, x, alpha, dx, n_threads):
    parallel_for(_elu_backward_task, n_tasks, n_threads, (n_tasks, dy, x, alpha, dx))


def elu_backward(dy: Array, x: Array, alpha: float = 1.0) -> Array:
    """``dy`` where the input ``x`` is positive, ``alpha * e^x * dy`` elsewhere.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ.
    """
    check_float("elu_backward", dy, x)
    check_same_shape("elu_backward", dy=dy, x=x)
    return map_gradient(_elu_backward, dy, x, alpha)
