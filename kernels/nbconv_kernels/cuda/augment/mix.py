"""Boxes erased from images, and mixtures of two images.

Memory is (N, H, W, C); a thread has four channels of a pixel (``pixels``). Limit: memory bandwidth.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.augmentation import check_boxes, check_partners, per_image
from nbconv_kernels.cuda.build import kernel
from nbconv_kernels.cuda.memory import Array, check_float, empty_as, to_host, upload, whole
from nbconv_kernels.cuda.pixels import BLOCK, first_item, grid, next_item, quads, read4, write4
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, i32s, u32, uint32

__all__ = ["erase_boxes", "mix_images"]


@kernel(block=BLOCK)
def _erase(x: f32s, y: f32s, boxes: i32s, value: f32, channels: u32, height: u32, width: u32):
    image_row = uint32(cuda.blockIdx.x)
    image = uint32(image_row // height)
    row = uint32(image_row - uint32(image * height))
    box = uint32(uint32(4) * image)
    top, left = uint32(boxes[box]), uint32(boxes[uint32(box + uint32(1))])
    bottom, right = uint32(boxes[uint32(box + uint32(2))]), uint32(boxes[uint32(box + uint32(3))])
    crossed = top <= row and row < bottom
    groups = quads(channels)
    item = first_item()
    while item < uint32(width * groups):
        column = uint32(item // groups)
        channel = uint32(uint32(item - uint32(column * groups)) << uint32(2))
        at = uint32(uint32(uint32(uint32(image_row * width) + column) * channels) + channel)
        if crossed and left <= column and column < right:
            write4(y, at, channel, channels, value, value, value, value)
        else:
            a, b, c, d = read4(x, at, channel, channels)
            write4(y, at, channel, channels, a, b, c, d)
        item = next_item(item)


def erase_boxes(x: Array, boxes: Array, value: float = 0.0) -> Array:
    """``x`` (N, C, H, W) with ``value`` in a box of each image: integers (N, 4): top, left, bottom, right.

    Raises:
        ValueError: if shapes do not fit, or a box is not within its image.
        TypeError: if x is not float32, or boxes are no integers.
    """
    check_float("erase_boxes", x)
    corners = to_host(boxes)
    check_boxes(x.shape, corners)
    y = empty_as(x)
    if x.size:
        n, channels, height, width = x.shape
        on_device = upload(x, corners, np.int32)
        sizes = (channels, height, width)
        _erase[grid(n * height, width, channels)](whole(x), y, on_device, float(value), *sizes)
    return y


@kernel(block=BLOCK)
def _mix(x: f32s, y: f32s, partners: i32s, weights: f32s, channels: u32, pixels: u32):
    image = uint32(cuda.blockIdx.x)
    weight = weights[image]
    rest = float32(float32(1) - weight)
    start, other = uint32(image * pixels), uint32(uint32(partners[image]) * pixels)
    groups = quads(channels)
    item = first_item()
    while item < uint32(pixels * groups):
        pixel = uint32(item // groups)
        channel = uint32(uint32(item - uint32(pixel * groups)) << uint32(2))
        at = uint32(uint32(uint32(start + pixel) * channels) + channel)
        a, b, c, d = read4(x, at, channel, channels)
        partner = uint32(uint32(uint32(other + pixel) * channels) + channel)
        e, f, g, h = read4(x, partner, channel, channels)
        a, b = weight * a + rest * e, weight * b + rest * f
        write4(y, at, channel, channels, a, b, weight * c + rest * g, weight * d + rest * h)
        item = next_item(item)


def mix_images(x: Array, partners: Array, weights: Array) -> Array:
    """``weights[n] * x[n] + (1 - weights[n]) * x[partners[n]]`` of (N, C, H, W).

    Raises:
        ValueError: if shapes do not fit, a partner is none of the batch, or weights are not finite.
        TypeError: if x is not float32, partners are no integers, or weights no floats.
    """
    check_float("mix_images", x)
    others, shares = to_host(partners), to_host(weights)
    check_partners(x.shape, others)
    per_image("mix_images", "weights", shares, x.shape[:1])
    y = empty_as(x)
    if x.size:
        n, channels, height, width = x.shape
        tables = (upload(x, others, np.int32), upload(x, shares, np.float32))
        pixels = height * width
        _mix[grid(n, pixels, channels)](whole(x), y, *tables, channels, pixels)
    return y
