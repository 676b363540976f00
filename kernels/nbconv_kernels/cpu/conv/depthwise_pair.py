"""A depthwise 3 x 3 convolution and the 1 x 1 convolution behind it, a few rows of the image at a time.

On large images both wait for memory: the depthwise output is written to the L3 cache and read back once. Here
a task makes a band of its rows (``depthwise_tile``), which stays in the L2 cache, and multiplies it by the
weights of the 1 x 1 convolution at once (``implicit_gemm``). The sums and their order are those of both, so
the bits are the same.

Limit: fused multiply-adds of the product, and reading the input and writing the output.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.conv import depthwise_tile
from nbconv_kernels.cpu.conv.implicit_gemm import multiply_range
from nbconv_kernels.cpu.jit import kernel
from nbconv_kernels.cpu.microkernel import ROWS, SHORT_ROWS
from nbconv_kernels.geometry import Conv2dGeometry

_BAND = 2  # rows, as many as a tile of ``depthwise_tile`` has
_LEAST = 3  # bands for each thread, so that all have about as many
_LEAST_PIXELS = 2 * ROWS  # in a band, so that weights are read for at least so many


def suits(first: Conv2dGeometry, second: Conv2dGeometry, threads: int) -> bool:
    """Whether two convolutions, one after the other, are such a pair, on an image that is large enough."""
    kernel_of_second = (second.r, second.s, second.stride_h, second.stride_w, second.groups)
    unpadded = second.output_shape[2:] == (second.h, second.w)
    bands = first.n * -(-first.p // _BAND)
    return (
        first.groups == first.c == first.k
        and depthwise_tile.suits(first)
        and kernel_of_second == (1, 1, 1, 1, 1)
        and unpadded
        and bands >= _LEAST * threads
        and _BAND * first.q >= _LEAST_PIXELS
    )


@kernel
def pair_task(task, n_tasks, x, weight, bias, source, finish, panels, panel_bias, grid, taps, y, last_finish):
    """A share of the bands; ``weight`` and ``bias`` are the depthwise ones."""
    h, w, c, stride, pad_top, pad_left = source
    n, p_size, q_size, y_channels, channel, columns, width = grid
    one, zero = np.int64(1), np.int64(0)
    middle = np.empty(_BAND * q_size * c + 16, x.dtype)
    n_panels = (columns + width - 1) // width
    bands = (p_size + _BAND - 1) // _BAND
    # Panels of bands are dealt, so that all have the same to do: where a band is shared, both make its rows.
    units = n * bands * n_panels
    first_unit, last_unit = units * task // n_tasks, units * (task + 1) // n_tasks
    for band in range(first_unit // n_panels, (last_unit + n_panels - 1) // n_panels):
        first_panel = max(zero, first_unit - band * n_panels)
        last_panel = min(n_panels, last_unit - band * n_panels)
        image = band // bands
        p = (band - image * bands) * _BAND
        rows = min(_BAND, p_size - p)
        depthwise_tile.forward_task(
            zero,
            one,
            x[image * h * w * c : (image + 1) * h * w * c],
            weight,
            bias,
            (h, w, c, stride, pad_top - p * stride, pad_left),
            (one, rows, q_size, c, zero),
            middle,
            finish,
            one,
        )
        count = rows * q_size
        whole = count // ROWS
        left = count - whole * ROWS
        short = one if left > 0 else zero
        if left > SHORT_ROWS:
            whole, short = whole + 1, zero
        start = ((image * p_size + p) * q_size) * y_channels + channel
        product = (
            *(one, one, count, one, count, c, zero, c, one, one),
            *(one, count, y_channels, start, columns, one, one, zero, zero),
        )
        multiply_range(
            product,
            (zero, whole + short),
            (first_panel, last_panel),
            whole,
            taps,
            middle,
            panels,
            zero,
            one,
            panel_bias,
            y,
            width,
            last_finish,
        )
