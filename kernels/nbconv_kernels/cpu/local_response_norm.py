"""Local response normalisation (Krizhevsky, Sutskever and Hinton 2012), AlexNet's NORM layers.

    y[c] = x[c] / d[c]^beta        d[c] = k + alpha / size * sum of x[i]^2 over ``size`` channels around c
    dx[c] = dy[c] / d[c]^beta - 2 alpha beta / size * x[c] * sum of dy[i] x[i] / d[i]^(beta + 1)

The channels around c are c - size // 2 to c + (size - 1) // 2 as far as they exist, in the gradient's sum the
other way round. Memory is (N, H, W, C): each pixel is a row of channels, whose squares are written between
zeros, so that a window's sum is ``size`` additions of whole vectors. The power is exp(-beta log d).

Limit: the exponential and the logarithm, about 40 vector multiply-adds an element.
"""

from __future__ import annotations

import operator

import numpy as np

from nbconv_kernels.cpu import vecmath
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.logarithm import log
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.tasks import check_same_shape, empty_as, row_of, task_count

__all__ = ["local_response_norm", "local_response_norm_backward"]


@kernel
def _powers(x, size, alpha, beta, k, squares, sums, power):
    """Put d and d^-beta of one pixel into ``sums`` and ``power``; ``squares`` begins and ends with zeros."""
    inner = squares[size // 2 : size // 2 + x.size]
    for c in range(x.size):
        inner[c] = x[c] * x[c]
    _window_sums(squares, size, sums)
    for c in range(x.size):
        d = k + alpha * sums[c]
        sums[c] = d
        power[c] = vecmath.exp(-beta * log(d))


@kernel
def _window_sums(values, size, sums):
    """The sums of every ``size`` values side by side."""
    for c in range(sums.size):
        sums[c] = values[c]
    for shift in range(1, size):
        shifted = values[shift : shift + sums.size]
        for c in range(sums.size):
            sums[c] += shifted[c]


@kernel
def _forward_task(task, n_tasks, x, channels, size, alpha, beta, k, y):
    pixels = x.size // channels
    squares = np.zeros(channels + size - 1, x.dtype)
    sums, power = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    for pixel in range(pixels * task // n_tasks, pixels * (task + 1) // n_tasks):
        start, stop = pixel * channels, (pixel + 1) * channels
        values, out = x[start:stop], y[start:stop]
        _powers(values, size, alpha, beta, k, squares, sums, power)
        for c in range(channels):
            out[c] = values[c] * power[c]


@kernel
def _forward(n_tasks, x, channels, size, alpha, beta, k, y, n_threads):
    parallel_for(_forward_task, n_tasks, n_threads, (n_tasks, x, channels, size, alpha, beta, k, y))


def local_response_norm(
    x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """Divide each channel of (N, C, H, W) by a power of the energy in ``size`` channels around it.

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: for an array that is not 4-D, or a ``size`` that is not positive.
    """
    dtype = check_float("local_response_norm", x)
    size = _checked("local_response_norm", x, size)
    y = empty_as(x)
    settings = map(dtype.type, (alpha / size, beta, k))
    _forward(task_count(x.size), row_of(x), x.shape[1], size, *settings, row_of(y), get_num_threads())
    return y


@kernel
def _backward_task(task, n_tasks, dy, x, channels, size, alpha, beta, k, factor, dx):
    pixels = x.size // channels
    squares, products = np.zeros(channels + size - 1, x.dtype), np.zeros(channels + size - 1, x.dtype)
    sums, power = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    inner = products[(size - 1) // 2 : (size - 1) // 2 + channels]
    for pixel in range(pixels * task // n_tasks, pixels * (task + 1) // n_tasks):
        start, stop = pixel * channels, (pixel + 1) * channels
        gradients, values, out = dy[start:stop], x[start:stop], dx[start:stop]
        _powers(values, size, alpha, beta, k, squares, sums, power)
        for c in range(channels):
            inner[c] = gradients[c] * values[c] * power[c] / sums[c]
        _window_sums(products, size, sums)
        for c in range(channels):
            out[c] = gradients[c] * power[c] - factor * values[c] * sums[c]


@kernel
def _backward(n_tasks, dy, x, channels, size, alpha, beta, k, factor, dx, n_threads):
    arguments = (n_tasks, dy, x, channels, size, alpha, beta, k, factor, dx)
    parallel_for(_backward_task, n_tasks, n_threads, arguments)


def local_response_norm_backward(
    dy: Array, x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """Gradient of the input ``x`` from that of the output.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ or are not 4-D, or for a ``size`` that is not positive.
    """
    dtype = check_float("local_response_norm_backward", dy, x)
    size = _checked("local_response_norm_backward", x, size)
    check_same_shape("local_response_norm_backward", dy=dy, x=x)
    dx = empty_as(x)
    settings = map(dtype.type, (alpha / size, beta, k, 2 * alpha * beta / size))
    rows = (row_of(dy), row_of(x))
    _backward(task_count(x.size), *rows, x.shape[1], size, *settings, row_of(dx), get_num_threads())
    return dx


def _checked(op: str, x: Array, size: int) -> int:
    if x.ndim != 4 or x.shape[1] == 0:
        raise ValueError(f"{op}: expected x of shape (N, C, H, W) with C > 0, got {x.shape}")
    if operator.index(size) < 1:
        raise ValueError(f"{op}: size must be positive, got {size}")
    return operator.index(size)
