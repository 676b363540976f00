"""Bilinear sampling of images along an affine map.

For each pixel of the result: its place in the input, the four pixels around that place, and their sum with
weights (1 - f) and f along each axis. Places are counted from the middle, so that mirror images and whole
steps are exact in float32; elsewhere a place is off by a few 2^-24 of the image's size.

Memory is (N, H, W, C); a thread has four channels of a pixel (``pixels``). Limit: reading four pixels for
one, most of them from the cache.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbconv_kernels.augmentation import AFFINE_PADDINGS, affine_size
from nbconv_kernels.cuda.build import device_function, kernel
from nbconv_kernels.cuda.memory import Array, check_float, empty_nchw, to_host, upload, whole
from nbconv_kernels.cuda.pixels import BLOCK, first_item, grid, next_item, quads, read4, write4
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, i32, int32, u32, uint32
from nbconv_kernels.geometry import PairLike

__all__ = ["affine_sample"]

_ZEROS, _BORDER, _REFLECTION = range(len(AFFINE_PADDINGS))
_FAR = 1e37  # of a matrix's elements: still a number when it is multiplied by a few pixels


@device_function
def _folded(place, size, mode) -> Any:
    """A place along an axis of ``size``, moved to where its pixels are; "zeros" has one more on each side."""
    length = float32(size)
    if mode == int32(_REFLECTION):
        distance = abs(float32(place + float32(0.5)))
        turns = float32(math.floor(distance / length))
        rest = float32(distance - turns * length)
        odd = float32(turns - float32(2) * float32(math.floor(turns * float32(0.5))))
        place = float32((rest if odd == float32(0) else length - rest) - float32(0.5))
    low = float32(-1) if mode == int32(_ZEROS) else float32(0)
    high = length if mode == int32(_ZEROS) else float32(length - float32(1))
    place = place if place > low else low  # NaN, which matrices near overflow give, is low
    return place if place < high else high


@device_function
def _pixel(x, base, row, column, height, width, channel, channels, value) -> Any:
    """Four channels of the pixel at (row, column), or ``value`` beyond the edge."""
    if int32(0) <= row and row < int32(height) and int32(0) <= column and column < int32(width):
        at = uint32(uint32(uint32(row) * width) + uint32(column))
        return read4(x, uint32(uint32(base + uint32(at * channels)) + channel), channel, channels)
    return value, value, value, value


@kernel(block=BLOCK)
def _affine(
    x: f32s,
    matrices: f32s,
    y: f32s,
    channels: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    mode: i32,
    value: f32,
):
    output_row = uint32(cuda.blockIdx.x)
    image = uint32(output_row // out_height)
    p = uint32(output_row - uint32(image * out_height))
    base = uint32(uint32(image * uint32(height * width)) * channels)
    half, one = float32(0.5), float32(1)
    down = float32(float32(p) - float32(float32(out_height) - one) * half)
    m = uint32(uint32(6) * image)
    from_row = matrices[uint32(m + uint32(1))] * down + matrices[uint32(m + uint32(2))]
    across_start = float32(from_row + float32(float32(width) - one) * half)
    from_row = matrices[uint32(m + uint32(4))] * down + matrices[uint32(m + uint32(5))]
    down_start = float32(from_row + float32(float32(height) - one) * half)
    across_slope, down_slope = matrices[m], matrices[uint32(m + uint32(3))]
    groups = quads(channels)
    item = first_item()
    while item < uint32(out_width * groups):
        q = uint32(item // groups)
        channel = uint32(uint32(item - uint32(q * groups)) << uint32(2))
        along = float32(float32(q) - float32(float32(out_width) - one) * half)
        column_place = _folded(float32(across_slope * along + across_start), width, mode)
        row_place = _folded(float32(down_slope * along + down_start), height, mode)
        left_edge, top_edge = float32(math.floor(column_place)), float32(math.floor(row_place))
        f, g = float32(column_place - left_edge), float32(row_place - top_edge)
        left, top = int32(left_edge), int32(top_edge)
        right, bottom = int32(left + int32(1)), int32(top + int32(1))
        a0, a1, a2, a3 = _pixel(x, base, top, left, height, width, channel, channels, value)
        b0, b1, b2, b3 = _pixel(x, base, top, right, height, width, channel, channels, value)
        c0, c1, c2, c3 = _pixel(x, base, bottom, left, height, width, channel, channels, value)
        d0, d1, d2, d3 = _pixel(x, base, bottom, right, height, width, channel, channels, value)
        e, h = float32(one - f), float32(one - g)
        y0 = h * (e * a0 + f * b0) + g * (e * c0 + f * d0)
        y1 = h * (e * a1 + f * b1) + g * (e * c1 + f * d1)
        y2 = h * (e * a2 + f * b2) + g * (e * c2 + f * d2)
        y3 = h * (e * a3 + f * b3) + g * (e * c3 + f * d3)
        out = uint32(uint32(uint32(uint32(output_row * out_width) + q) * channels) + channel)
        write4(y, out, channel, channels, y0, y1, y2, y3)
        item = next_item(item)


def affine_sample(
    x: Array,
    matrices: Array,
    output_size: PairLike | None = None,
    padding_mode: str = "zeros",
    fill: float = 0.0,
) -> Array:
    """Sample each image of (N, C, H, W) at the places where an affine map sends the pixels of the result.

    Places are (column, row) in pixels from the middle of the image, ``matrices`` (N, 2, 3), float:

        place in x = matrix[:, :2] @ (place in y) + matrix[:, 2]

    Beyond the edge there is ``fill`` ("zeros"), the pixel at the edge ("border"), or the mirror image, which
    repeats the pixel at the edge ("reflection").

    Returns:
        (N, C, P, Q), with (P, Q) = ``output_size`` or else (H, W).

    Raises:
        ValueError: if shapes and arguments do not fit, or matrices are not finite.
        TypeError: if x is not float32, or matrices are no floats.
    """
    check_float("affine_sample", x)
    maps = to_host(matrices)
    size = affine_size(x.shape, maps, output_size, padding_mode)
    n, channels, height, width = x.shape
    y = empty_nchw(x, n, channels, *size)
    if y.size:
        on_device = upload(x, np.clip(maps, -_FAR, _FAR), np.float32)
        sizes = (channels, height, width, *size)
        mode = AFFINE_PADDINGS.index(padding_mode)
        _affine[grid(n * size[0], size[1], channels)](whole(x), on_device, y, *sizes, mode, float(fill))
    return y
