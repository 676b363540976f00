"""A convolution of an image, few channels as yet, a few rows at a time.

Its taps span rows of the kernel, for which ``direct`` copies the whole image with its padding. Here a task
copies the rows that a band of the output needs, which stay in its core's cache, and multiplies them at once
(``implicit_gemm``). The image may lie in memory as planes, as files have it: the copy puts its channels side
by side. The sums and their order are those of ``direct``, so the bits are the same.

Limit: fused multiply-adds, few for each tile of the product; the copy takes about a quarter of the time.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.conv import direct
from nbconv_kernels.cpu.conv.implicit_gemm import multiply_range
from nbconv_kernels.cpu.jit import kernel
from nbconv_kernels.cpu.microkernel import ROWS, SHORT_ROWS
from nbconv_kernels.geometry import Conv2dGeometry

_MOST_CHANNELS = 16
_BAND = 32 * ROWS  # pixels of the output, about
_LEAST = 4  # bands for each thread, so that all have about as many


def suits(g: Conv2dGeometry) -> bool:
    """Whether a convolution is one that ``direct`` copies an image for."""
    return direct.merges_columns(g) and g.c <= _MOST_CHANNELS


def rows_of_band(g: Conv2dGeometry, threads: int) -> int:
    """Rows of the output in a band."""
    return max(1, min(_BAND // g.q, -(-g.n * g.p // (_LEAST * threads))))


@kernel
def _copy_row(x, start, channel_pitch, count, left, wide, c, copy, to):
    """A row of ``count`` pixels between zeros, channels side by side; without a pitch they are already."""
    row = copy[to : to + wide * c]
    for i in range(left * c):
        row[i] = 0
    if channel_pitch == 0:
        source = x[start : start + count * c]
        target = row[left * c :]
        for i in range(source.size):
            target[i] = source[i]
    else:
        for channel in range(c):
            source = x[start + channel * channel_pitch : start + channel * channel_pitch + count]
            target = row[left * c + channel :]
            for i in range(source.size):
                target[i * c] = source[i]
    rest = row[(left + count) * c :]
    for i in range(rest.size):
        rest[i] = 0


@kernel
def band_task(task, n_tasks, x, panels, bias, source, window, grid, taps, y, finish):
    """A share of the bands."""
    h, w, c, in_planes = source
    r_size, s_size, stride_h, stride_w, dilation_h, pad_top, pad_left = window
    n, p_size, q_size, y_channels, channel, columns, width, band_rows = grid
    one, zero = np.int64(1), np.int64(0)
    wide = (q_size - 1) * stride_w + s_size
    reach = (r_size - 1) * dilation_h + 1
    copy = np.empty(((band_rows - 1) * stride_h + reach) * wide * c, x.dtype)
    left = min(pad_left, wide)
    count = max(zero, min(w, wide - left))
    channel_pitch = h * w if in_planes else zero
    n_panels = (columns + width - 1) // width
    bands = (p_size + band_rows - 1) // band_rows
    for band in range(n * bands * task // n_tasks, n * bands * (task + 1) // n_tasks):
        image = band // bands
        p = (band - image * bands) * band_rows
        rows = min(band_rows, p_size - p)
        height = (rows - 1) * stride_h + reach
        for row in range(height):
            from_y = p * stride_h - pad_top + row
            start, present = zero, zero
            if 0 <= from_y < h:
                start, present = (
                    (image * h * c + from_y) * w if in_planes else (image * h + from_y) * w * c,
                    count,
                )
            _copy_row(x, start, channel_pitch, present, left, wide, c, copy, row * wide * c)
        pixels = rows * q_size
        whole = pixels // ROWS
        over = pixels - whole * ROWS
        short = one if over > 0 else zero
        if over > SHORT_ROWS:
            whole, short = whole + 1, zero
        to = ((image * p_size + p) * q_size) * y_channels + channel
        product = (
            *(one, rows, q_size, height, wide, c, zero, s_size * c, stride_h, stride_w),
            *(rows, q_size, y_channels, to, columns, one, one, zero, zero),
        )
        multiply_range(
            product,
            (zero, whole + short),
            (zero, n_panels),
            whole,
            taps,
            copy,
            panels,
            zero,
            r_size,
            bias,
            y,
            width,
            finish,
        )
