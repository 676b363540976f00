"""Brightness, contrast and saturation of grey and RGB images.

One after the other they blend a pixel x with black, with the image's mean grey and with its own grey g:

    b x,    k b x + (1 - k) b m,    s (k b x + (1 - k) b m) + (1 - s) (k b g + (1 - k) b m)
    = s k b * x + (1 - s) k b * g + (1 - k) b m

where m is the mean of g before, since grey is linear. So an image is read once for m, if its contrast changes
at all, and once to write the result; it lies in the cache the second time. m is added up in float64, line by
line. Tasks share the images. Limit: memory bandwidth, and the additions to m.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.augmentation import GREY, check_colors, per_image
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.tasks import empty_as, row_of, task_count

__all__ = ["color_jitter"]

_RED, _GREEN, _BLUE = GREY


@kernel
def _cut(value, low, high):
    value = low if value < low else value
    return high if value > high else value


@kernel
def _grey(x, i):
    number = x.dtype.type
    return number(_RED) * x[i] + number(_GREEN) * x[i + 1] + number(_BLUE) * x[i + 2]


@kernel
def _mean_grey(x, channels):
    total = 0.0
    if channels == 1:
        for i in range(x.size):
            total += x[i]
    else:
        for i in range(0, x.size - 2, 3):
            total += _grey(x, i)
    return total / (x.size // channels)


@kernel
def _jitter_task(task, n_tasks, x, factors, low, high, y, channels):
    images = factors.shape[0]
    size = x.size // images
    number, one = x.dtype.type, x.dtype.type(1)
    for image in range(images * task // n_tasks, images * (task + 1) // n_tasks):
        values, out = x[image * size : (image + 1) * size], y[image * size : (image + 1) * size]
        bright, contrast, saturation = factors[image, 0], factors[image, 1], factors[image, 2]
        still = number(0)
        if contrast != one:
            still = (one - contrast) * bright * number(_mean_grey(values, channels))
        own = saturation * contrast * bright
        if channels == 1:
            own = contrast * bright
            for i in range(size):
                out[i] = _cut(own * values[i] + still, low, high)
        elif saturation == one:
            for i in range(size):
                out[i] = _cut(own * values[i] + still, low, high)
        else:
            from_grey = (one - saturation) * contrast * bright
            for i in range(0, size - 2, 3):
                base = from_grey * _grey(values, i) + still
                out[i] = _cut(own * values[i] + base, low, high)
                out[i + 1] = _cut(own * values[i + 1] + base, low, high)
                out[i + 2] = _cut(own * values[i + 2] + base, low, high)


@kernel
def _jitter(n_tasks, x, factors, low, high, y, channels, n_threads):
    parallel_for(_jitter_task, n_tasks, n_threads, (n_tasks, x, factors, low, high, y, channels))


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
        TypeError: if x is neither float32 nor float64, or factors are no floats.
    """
    dtype = check_float("color_jitter", x)
    check_colors(x.shape, low, high)
    for name, factor in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
        per_image("color_jitter", name, factor, x.shape[:1])
    y = empty_as(x)
    if x.size:
        factors = np.stack([brightness, contrast, saturation], axis=1).astype(dtype)
        bounds = (dtype.type(low), dtype.type(high))
        _jitter(task_count(x.size), row_of(x), factors, *bounds, row_of(y), x.shape[1], get_num_threads())
    return y
