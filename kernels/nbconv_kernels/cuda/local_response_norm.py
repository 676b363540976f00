"""Local response normalisation (Krizhevsky, Sutskever and Hinton 2012), AlexNet's NORM layers.

    y[c] = x[c] / d[c]^beta        d[c] = k + alpha / size * sum of x[i]^2 over ``size`` channels around c
    dx[c] = dy[c] / d[c]^beta - 2 alpha beta / size * x[c] * sum of dy[i] x[i] / d[i]^(beta + 1)

The channels around c are c - size // 2 to c + (size - 1) // 2 as far as they exist, in the gradient's sum the
other way round. An element a thread: its neighbours in memory are its neighbours among the channels, which
the first cache holds. The gradient first writes what it sums, dy x / d^(beta + 1), to an array.

Limit: memory bandwidth for small windows; the power is about 60 instructions.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from nbconv_kernels.cuda.build import blocks, device_function, kernel
from nbconv_kernels.cuda.intrinsics import thread_index
from nbconv_kernels.cuda.memory import Array, check_float, check_same_shape, empty_as, whole
from nbconv_kernels.cuda.target import f32, f32s, float32, u32, uint32

__all__ = ["local_response_norm", "local_response_norm_backward"]

_BLOCK = 256


@device_function
def _window(i, channels, before, after) -> Any:
    """The first and the last element among ``before`` and ``after`` channels of element ``i``."""
    channel = uint32(i % channels)
    first = uint32(i - uint32(min(channel, before)))
    return first, uint32(i + uint32(min(uint32(uint32(channels - channel) - uint32(1)), after)))


@device_function
def _divisor(x, i, channels, before, after, alpha, k) -> Any:
    at, last = _window(i, channels, before, after)
    energy = float32(0)
    while at <= last:
        energy += x[at] * x[at]
        at = uint32(at + uint32(1))
    return k + alpha * energy


@kernel(block=_BLOCK)
def _forward(x: f32s, y: f32s, n: u32, channels: u32, before: u32, after: u32, alpha: f32, beta: f32, k: f32):
    i = thread_index()
    if i < n:
        y[i] = x[i] * math.pow(_divisor(x, i, channels, before, after, alpha, k), -beta)


def local_response_norm(
    x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """Divide each channel of (N, C, H, W) by a power of the energy in ``size`` channels around it.

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: for an array that is not 4-D, or a ``size`` that is not positive.
    """
    check_float("local_response_norm", x)
    size = _checked("local_response_norm", x, size)
    y = empty_as(x)
    window = x.shape[1], size // 2, (size - 1) // 2
    _forward[blocks(x.size, _BLOCK)](whole(x), y, x.size, *window, alpha / size, beta, k)
    return y


@kernel(block=_BLOCK)
def _products(
    dy: f32s,
    x: f32s,
    products: f32s,
    dx: f32s,
    n: u32,
    channels: u32,
    before: u32,
    after: u32,
    alpha: f32,
    beta: f32,
    k: f32,
):
    i = thread_index()
    if i < n:
        divisor = _divisor(x, i, channels, before, after, alpha, k)
        scaled = dy[i] * math.pow(divisor, -beta)
        dx[i] = scaled
        products[i] = scaled * x[i] / divisor


@kernel(block=_BLOCK)
def _spread(x: f32s, products: f32s, dx: f32s, n: u32, channels: u32, before: u32, after: u32, factor: f32):
    i = thread_index()
    if i < n:
        at, last = _window(i, channels, before, after)
        total = float32(0)
        while at <= last:
            total += products[at]
            at = uint32(at + uint32(1))
        dx[i] = dx[i] - factor * x[i] * total


def local_response_norm_backward(
    dy: Array, x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """Gradient of the input ``x`` from that of the output.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ or are not 4-D, or for a ``size`` that is not positive.
    """
    check_float("local_response_norm_backward", dy, x)
    size = _checked("local_response_norm_backward", x, size)
    check_same_shape("local_response_norm_backward", dy=dy, x=x)
    dx, products, x = empty_as(x), empty_as(x), whole(x)
    n, channels, before, after = x.size, x.shape[1], size // 2, (size - 1) // 2
    grid = blocks(n, _BLOCK)
    _products[grid](whole(dy), x, products, dx, n, channels, before, after, alpha / size, beta, k)
    # A channel is in the windows of those that have it in theirs: as many the other way round.
    _spread[grid](x, products, dx, n, channels, after, before, 2 * alpha * beta / size)
    return dx


def _checked(op: str, x: Array, size: int) -> int:
    if x.ndim != 4 or x.shape[1] == 0:
        raise ValueError(f"{op}: expected x of shape (N, C, H, W) with C > 0, got {x.shape}")
    if operator.index(size) < 1:
        raise ValueError(f"{op}: size must be positive, got {size}")
    return operator.index(size)
