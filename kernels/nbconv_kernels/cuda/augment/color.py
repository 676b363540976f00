"""Brightness, contrast and saturation of grey and RGB images.

One after the other they blend a pixel x with black, with the image's mean grey and with its own grey g:

    b x,    k b x + (1 - k) b m,    s (k b x + (1 - k) b m) + (1 - s) (k b g + (1 - k) b m)
    = s k b * x + (1 - s) k b * g + (1 - k) b m

where m is the mean of g before, since grey is linear. A first kernel adds up the grey of up to 32 parts of
each image, a block each, always in the same order; the second adds these up, a thread a pixel, and writes the
result. Limit: memory bandwidth.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nbconv_kernels.augmentation import GREY, check_colors, per_image
from nbconv_kernels.cuda.build import blocks, device_function, kernel
from nbconv_kernels.cuda.memory import Array, check_float, empty, empty_as, to_host, upload, whole
from nbconv_kernels.cuda.reduction import block_sum
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, u32, uint32

__all__ = ["color_jitter"]

_BLOCK = 256
_PARTS = 32
_RED, _GREEN, _BLUE = GREY


@device_function
def _cut(value, low, high) -> Any:
    value = low if value < low else value
    return high if value > high else value


@device_function
def _grey(x, at, channels) -> Any:
    if channels == uint32(1):
        return x[at]
    green, blue = x[uint32(at + uint32(1))], x[uint32(at + uint32(2))]
    return float32(_RED) * x[at] + float32(_GREEN) * green + float32(_BLUE) * blue


@kernel(block=_BLOCK)
def _grey_sums(x: f32s, sums: f32s, channels: u32, pixels: u32):
    """The sum of grey of each part of each image: (images, parts)."""
    image, part, parts = uint32(cuda.blockIdx.x), uint32(cuda.blockIdx.y), uint32(cuda.gridDim.y)
    total = float32(0)
    pixel = uint32(uint32(part * uint32(_BLOCK)) + uint32(cuda.threadIdx.x))
    while pixel < pixels:
        total += _grey(x, uint32(uint32(uint32(image * pixels) + pixel) * channels), channels)
        pixel = uint32(pixel + uint32(parts * uint32(_BLOCK)))
    total = block_sum(total)
    if uint32(cuda.threadIdx.x) == uint32(0):
        sums[uint32(uint32(image * parts) + part)] = total


@kernel(block=_BLOCK)
def _jitter(
    x: f32s, y: f32s, factors: f32s, sums: f32s, channels: u32, pixels: u32, parts: u32, low: f32, high: f32
):
    image = uint32(cuda.blockIdx.x)
    pixel = uint32(uint32(uint32(cuda.blockIdx.y) * uint32(_BLOCK)) + uint32(cuda.threadIdx.x))
    own = uint32(uint32(3) * image)
    one = float32(1)
    bright, contrast = factors[own], factors[uint32(own + uint32(1))]
    saturation = one if channels == uint32(1) else factors[uint32(own + uint32(2))]
    still = float32(0)
    if contrast != one:
        total = float32(0)
        for part in range(parts):
            total += sums[uint32(uint32(image * parts) + uint32(part))]
        still = (one - contrast) * bright * (total / float32(pixels))
    own_share = saturation * contrast * bright
    grey_share = (one - saturation) * contrast * bright
    while pixel < pixels:
        at = uint32(uint32(uint32(image * pixels) + pixel) * channels)
        rest = still if saturation == one else still + grey_share * _grey(x, at, channels)
        for channel in range(channels):
            i = uint32(at + uint32(channel))
            y[i] = _cut(own_share * x[i] + rest, low, high)
        pixel = uint32(pixel + uint32(uint32(cuda.gridDim.y) * uint32(_BLOCK)))


def color_jitter(
    x: Array,
    brightness: Array,
    contrast: Array,
    saturation: Array,
    low: float = 0.0,
    high: float = 1.0,
) -> Array:
    """Change brightness, then contrast, then saturation by factors (N,), float; cut to ``low`` .. ``high``.

    x is (N, C, H, W) with C 1 or 3. Contrast blends with the mean grey of the image, saturation with that of
    the pixel.

    Raises:
        ValueError: if shapes or arguments do not fit, or factors are not finite.
        TypeError: if x is not float32, or factors are no floats.
    """
    check_float("color_jitter", x)
    check_colors(x.shape, low, high)
    factors = []
    for name, given in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
        factors.append(to_host(given))
        per_image("color_jitter", name, factors[-1], x.shape[:1])
    y = empty_as(x)
    if x.size:
        n, channels, height, width = x.shape
        pixels = height * width
        parts = min(blocks(pixels, 4 * _BLOCK), _PARTS)
        memory, sums = whole(x), empty(x, (n, parts))
        _grey_sums[n, parts](memory, sums, channels, pixels)
        on_device = upload(x, np.stack(factors, axis=1), np.float32)
        arguments = (memory, y, on_device, sums, channels, pixels, parts, float(low), float(high))
        _jitter[n, min(blocks(pixels, _BLOCK), 1 << 15)](*arguments)
    return y
