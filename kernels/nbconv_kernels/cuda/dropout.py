"""Dropout (Srivastava et al. 2014) whose mask is a function of the element's number, not a stream.

Element i is kept if u(i) >= p, where u(i) = (word >> 8) * 2**-24 and the word is number i % 4 of ``philox``'s
counter i // 4. Elements are numbered as they lie in memory, (N, H, W, C) for 4-D arrays. No mask is stored:
the backward pass draws it again. A thread has the four elements of a counter.

Dropout of whole channels draws by the channel's number, n * C + c: first the factors of all channels, then
their products with the pixels.

Limit: memory bandwidth; the generator's arithmetic takes about as long.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from nbconv_kernels.cuda.build import blocks, device_function, kernel
from nbconv_kernels.cuda.intrinsics import load4, store4, thread_index
from nbconv_kernels.cuda.memory import Array, check_float, empty, empty_as, whole
from nbconv_kernels.cuda.philox import philox
from nbconv_kernels.cuda.pixels import BLOCK, first_item, grid, next_item, quads, read4, write4
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, u32, u64, uint32

__all__ = ["dropout", "dropout2d"]

_BLOCK = 256


@device_function
def _factors(number, threshold, scale, seed, offset) -> Any:
    """What the four elements of a counter are multiplied by."""
    a, b, c, d = philox(number, offset, seed)
    eight, zero = uint32(8), float32(0)
    return (
        scale if uint32(a >> eight) >= threshold else zero,
        scale if uint32(b >> eight) >= threshold else zero,
        scale if uint32(c >> eight) >= threshold else zero,
        scale if uint32(d >> eight) >= threshold else zero,
    )


@kernel(block=_BLOCK)
def _dropout(x: f32s, y: f32s, threshold: u32, scale: f32, seed: u64, offset: u64, n: u32):
    number = thread_index()
    i = uint32(uint32(4) * number)
    if i >= n:
        return
    a, b, c, d = _factors(number, threshold, scale, seed, offset)
    if uint32(i + uint32(4)) <= n:
        e, f, g, h = load4(x, i)
        store4(y, i, e * a, f * b, g * c, h * d)
    else:
        y[i] = x[i] * a
        if uint32(i + uint32(1)) < n:
            y[uint32(i + uint32(1))] = x[uint32(i + uint32(1))] * b
        if uint32(i + uint32(2)) < n:
            y[uint32(i + uint32(2))] = x[uint32(i + uint32(2))] * c


@kernel(block=_BLOCK)
def _draw_factors(factors: f32s, threshold: u32, scale: f32, seed: u64, offset: u64):
    number = thread_index()
    a, b, c, d = _factors(number, threshold, scale, seed, offset)
    store4(factors, uint32(uint32(4) * number), a, b, c, d)


@kernel(block=BLOCK)
def _scale_channels(x: f32s, y: f32s, factors: f32s, channels: u32, pixels: u32):
    image = uint32(cuda.blockIdx.x)
    groups = quads(channels)
    item = first_item()
    while item < uint32(pixels * groups):
        pixel = uint32(item // groups)
        channel = uint32(uint32(item - uint32(pixel * groups)) << uint32(2))
        at = uint32(uint32(uint32(uint32(image * pixels) + pixel) * channels) + channel)
        a, b, c, d = read4(factors, uint32(uint32(image * channels) + channel), channel, channels)
        e, f, g, h = read4(x, at, channel, channels)
        write4(y, at, channel, channels, e * a, f * b, g * c, h * d)
        item = next_item(item)


def _settings(p: float, seed: int, offset: int) -> tuple[int, float, int, int]:
    """(threshold, scale, seed, offset) of the generator."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must be between 0 and 1, got {p}")
    for name, value in (("seed", seed), ("offset", offset)):
        if not 0 <= operator.index(value) < 1 << 64:
            raise ValueError(f"dropout: {name} must be an unsigned 64-bit number, got {value}")
    # u >= p in whole numbers: u is a multiple of 2**-24, so p may be rounded up to one.
    return math.ceil(p * 2.0**24), 1 / (1 - p) if p < 1 else 0.0, operator.index(seed), operator.index(offset)


def dropout(x: Array, p: float, seed: int, offset: int) -> Array:
    """``x * keep / (1 - p)``: each element is zeroed with probability p, the others grow to keep the mean.

    It is its own gradient: ``dropout(dy, p, seed, offset)``. ``offset`` numbers the calls that share a seed.
    A factor of 0 leaves NaN and turns infinity to NaN, as in PyTorch. p = 0 copies, p = 1 zeroes.

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: if p is not a probability, or seed or offset is not an unsigned 64-bit number.
    """
    check_float("dropout", x)
    settings = _settings(p, seed, offset)
    y = empty_as(x)
    _dropout[blocks(x.size, 4 * _BLOCK)](whole(x), y, *settings, x.size)
    return y


def dropout2d(x: Array, p: float, seed: int, offset: int) -> Array:
    """``dropout`` of whole channels of (N, C, H, W) (Tompson et al. 2015).

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: if ``x`` is not 4-D, p is not a probability, or seed or offset is not an unsigned 64-bit
            number.
    """
    check_float("dropout2d", x)
    if x.ndim != 4:
        raise ValueError(f"dropout2d: expected an array of shape (N, C, H, W), got shape {x.shape}")
    settings = _settings(p, seed, offset)
    y = empty_as(x)
    n, channels, height, width = x.shape
    if y.size:
        count = blocks(n * channels, 4 * _BLOCK)
        factors = empty(x, (count * 4 * _BLOCK,))
        _draw_factors[count](factors, *settings)
        pixels = height * width
        _scale_channels[grid(n, pixels, channels)](whole(x), y, factors, channels, pixels)
    return y
