"""What augmentation does to a batch x (N, C, H, W): resampling, noise, colours, boxes, mixtures.

Each image n has its own numbers. The random draws are made elsewhere, except those of noise, one a pixel.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.augmentation import (
    GREY,
    affine_size,
    check_boxes,
    check_colors,
    check_noise,
    check_partners,
    per_image,
)
from nbconv_kernels.geometry import PairLike
from nbconv_kernels.reference.dropout import random_words
from nbconv_kernels.reference.memory import Array, check_float, laid_out, quiet


@quiet
def affine_sample(
    x: Array,
    matrices: Array,
    output_size: PairLike | None = None,
    padding_mode: str = "zeros",
    fill: float = 0.0,
) -> Array:
    """Sample each image at the places where an affine map sends the pixels of the result, bilinearly.

    Places are (column, row) in pixels from the middle of the image, so that a matrix (2, 3) of ones on the
    diagonal changes nothing, and -1 there mirrors:

        place in x = matrix[:, :2] @ (place in y) + matrix[:, 2]

    Beyond the edge there is ``fill`` ("zeros"), the pixel at the edge ("border"), or the mirror image, which
    repeats the pixel at the edge ("reflection"). Places are computed in float64. It is PyTorch's
    ``grid_sample(affine_grid(...), align_corners=False)`` in pixels instead of halves of the size.

    Args:
        x: (N, C, H, W).
        matrices: (N, 2, 3), float.
        output_size: (P, Q); None for (H, W).
        padding_mode: "zeros", "border" or "reflection".
        fill: for the first of these.

    Returns:
        (N, C, P, Q), channels-last.

    Raises:
        ValueError: if shapes and arguments do not fit, or matrices are not finite.
        TypeError: if x is neither float32 nor float64, or matrices are no floats.
    """
    dtype = check_float("affine_sample", x)
    height, width = affine_size(x.shape, matrices, output_size, padding_mode)
    rows = (np.arange(height) - (height - 1) / 2)[:, None]
    columns = np.arange(width) - (width - 1) / 2
    m = matrices.astype(np.float64)[:, :, :, None, None]
    column = m[:, 0, 0] * columns + (m[:, 0, 1] * rows + m[:, 0, 2]) + (x.shape[3] - 1) / 2
    row = m[:, 1, 0] * columns + (m[:, 1, 1] * rows + m[:, 1, 2]) + (x.shape[2] - 1) / 2
    column, row = _folded(column, x.shape[3], padding_mode), _folded(row, x.shape[2], padding_mode)
    left, top = np.floor(column).astype(np.intp), np.floor(row).astype(np.intp)
    right_share, lower_share = (column - left).astype(dtype), (row - top).astype(dtype)
    y = np.zeros((*matrices.shape[:1], height, width, x.shape[1]), dtype)
    for below in (0, 1):
        for beside in (0, 1):
            share = (lower_share if below else 1 - lower_share) * (right_share if beside else 1 - right_share)
            y += share[..., None] * _pixels(x, top + below, left + beside, fill)
    return y.transpose(0, 3, 1, 2)


def _folded(place: Array, size: int, padding_mode: str) -> Array:
    """Places along an axis, moved to where their pixels are; "zeros" has one more pixel on each side."""
    if padding_mode == "zeros":
        return _clamped(place, -1.0, size)
    if padding_mode == "reflection":
        distance = np.abs(place + 0.5)
        turns = np.floor(distance / size)
        rest = distance - turns * size
        place = np.where(turns % 2 == 0, rest, size - rest) - 0.5
    return _clamped(place, 0.0, size - 1)


def _clamped(place: Array, low: float, high: float) -> Array:
    """``place`` within bounds; NaN, from matrices near overflow, is the lower one."""
    return np.where(place > low, np.minimum(place, high), low)


def _pixels(x: Array, row: Array, column: Array, fill: float) -> Array:
    """The pixels at (row, column) of each image, (N, P, Q, C); ``fill`` beyond the edge."""
    n, _, h, w = x.shape
    inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
    image = np.arange(n)[:, None, None]
    values = x.transpose(0, 2, 3, 1)[image, row.clip(0, h - 1), column.clip(0, w - 1)]
    return np.where(inside[..., None], values, x.dtype.type(fill))


@quiet
def gaussian_noise(x: Array, std: Array, seed: int, offset: int) -> Array:
    """``x`` plus normal noise, of standard deviation ``std[n]`` in image n.

    Two normal numbers come of two words of the generator that ``dropout`` describes (Box and Muller 1958):

        u = (word >> 8) * 2**-24                of elements 2 k and 2 k + 1, in the order of the memory
        r = sqrt(-2 log(u[2 k] + 2**-24)),  a = 2 pi u[2 k + 1] - pi / 4
        z[2 k] = r cos(a),  z[2 k + 1] = r sin(a)

    Args:
        x: (N, C, H, W).
        std: (N,), float.
        seed: of the numbers.
        offset: numbers the calls that share a seed.

    Raises:
        ValueError: if shapes do not fit, std is not finite, or seed or offset is not an unsigned 64-bit
            number.
        TypeError: if x is neither float32 nor float64, or std is no float.
    """
    dtype = check_float("gaussian_noise", x)
    check_noise(x.shape, std, seed, offset)
    words = random_words(-(-x.size // 2) * 2, seed, offset) >> np.uint32(8)
    u = words.reshape(-1, 2).astype(np.float64) * 2.0**-24
    r, angle = np.sqrt(-2 * np.log(u[:, 0] + 2.0**-24)), 2 * np.pi * u[:, 1] - np.pi / 4
    n, c, h, w = x.shape
    z = np.stack([r * np.cos(angle), r * np.sin(angle)], axis=-1).reshape(-1)[: x.size].reshape(n, h, w, c)
    noise = z.transpose(0, 3, 1, 2).astype(dtype)
    return laid_out(x + std.astype(dtype)[:, None, None, None] * noise)


@quiet
def color_jitter(
    x: Array,
    brightness: Array,
    contrast: Array,
    saturation: Array,
    low: float = 0.0,
    high: float = 1.0,
) -> Array:
    """Change brightness, then contrast, then saturation; factors of 1 change nothing.

        b = brightness * x
        k = contrast * b + (1 - contrast) * (mean of b's grey over the image)
        y = saturation * k + (1 - saturation) * (k's grey), cut to low .. high

    The grey of a pixel is itself for one channel, and a weighted sum of red, green and blue for three. Grey
    is linear, so that y is a sum of x, its grey and the mean.

    Args:
        x: (N, C, H, W) with C 1 or 3.
        brightness: (N,), float.
        contrast: (N,), float.
        saturation: (N,), float.
        low: the darkest value.
        high: the brightest value.

    Raises:
        ValueError: if shapes or arguments do not fit, or factors are not finite.
        TypeError: if x is neither float32 nor float64, or factors are no floats.
    """
    dtype = check_float("color_jitter", x)
    check_colors(x.shape, low, high)
    for name, factor in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
        per_image("color_jitter", name, factor, x.shape[:1])
    b, k, s = (factor.astype(dtype)[:, None, None, None] for factor in (brightness, contrast, saturation))
    if not x.size:
        return laid_out(x)
    grey = _grey(x)
    mean = np.where(k == 1, 0, (1 - k) * b * grey.mean(axis=(2, 3), keepdims=True))
    if x.shape[1] == 1:
        y = k * b * x + mean
    else:
        y = s * k * b * x + (np.where(s == 1, 0, (1 - s) * k * b * grey) + mean)
    return laid_out(np.clip(y, dtype.type(low), dtype.type(high)))


def _grey(x: Array) -> Array:
    if x.shape[1] == 1:
        return x
    return (np.array(GREY, x.dtype)[:, None, None] * x).sum(axis=1, keepdims=True)


@quiet
def erase_boxes(x: Array, boxes: Array, value: float = 0.0) -> Array:
    """``x`` with ``value`` in rows top .. bottom - 1 and columns left .. right - 1 of each image.

    Args:
        x: (N, C, H, W).
        boxes: integers (N, 4): top, left, bottom, right.
        value: what to write.

    Raises:
        ValueError: if shapes do not fit, or a box is not within its image.
        TypeError: if x is neither float32 nor float64, or boxes are no integers.
    """
    check_float("erase_boxes", x)
    check_boxes(x.shape, boxes)
    y = laid_out(np.array(x))
    for image, (top, left, bottom, right) in zip(y, boxes, strict=True):
        image[:, top:bottom, left:right] = value
    return y


@quiet
def mix_images(x: Array, partners: Array, weights: Array) -> Array:
    """``weights[n] * x[n] + (1 - weights[n]) * x[partners[n]]``.

    Args:
        x: (N, C, H, W).
        partners: integers (N,), each an image of the batch.
        weights: (N,), float.

    Raises:
        ValueError: if shapes do not fit, a partner is none of the batch, or weights are not finite.
        TypeError: if x is neither float32 nor float64, partners are no integers, or weights no floats.
    """
    dtype = check_float("mix_images", x)
    check_partners(x.shape, partners)
    per_image("mix_images", "weights", weights, x.shape[:1])
    w = weights.astype(dtype)[:, None, None, None]
    return laid_out(w * x + (1 - w) * x[partners])
