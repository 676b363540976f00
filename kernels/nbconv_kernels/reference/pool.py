"""Pooling over windows of each channel, with gradients: maximum, average, and average to a given size.

A window is cut where it leaves the input; padding is never a maximum, and an average counts it if asked to.
Unpooling puts maxima back to where they were found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbconv_kernels.geometry import (
    PaddingLike,
    PairLike,
    Pool2dGeometry,
    Shape,
    adaptive_output_size,
    adaptive_window,
    nchw,
    pool2d_geometry,
    require_int32_places,
)
from nbconv_kernels.reference.memory import Array, check_float, check_rank, check_shape, laid_out, quiet
from nbconv_kernels.reference.windows import pad, taps, unpad


@quiet
def max_pool2d(
    x: Array,
    kernel_size: PairLike,
    stride: PairLike | None = None,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """The maximum of every window of x (N, C, H, W), and where it is.

    Of equal maxima the first in row order counts; a NaN beats every number, and the last NaN counts, as in
    PyTorch.

    Returns:
        y (N, C, P, Q) and indices, int32 of the same shape: h * W + w of each maximum. Both channels-last.

    Raises:
        ValueError: if shape and arguments do not fit.
        TypeError: if x is neither float32 nor float64.
    """
    check_float("max_pool2d", x)
    g = pool2d_geometry(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    require_int32_places("max_pool2d", g)
    padded = pad(x, g)
    places = pad(np.arange(g.h * g.w, dtype=np.int32).reshape(g.h, g.w), g, fill=-1)
    y = np.full(g.output_shape, -np.inf, x.dtype)
    indices = np.full(g.output_shape, -1, np.int32)
    for _, _, (rows, columns) in taps(g):
        value, place = padded[:, :, rows, columns], places[rows, columns]
        # A window of nothing but -inf has its first element as its maximum.
        better = (value > y) | np.isnan(value) | (indices < 0)
        better &= place >= 0
        y = np.where(better, value, y)
        indices = np.where(better, place, indices)
    return laid_out(y), laid_out(indices)


@quiet
def max_pool2d_backward(dy: Array, indices: Array, input_shape: tuple[int, int, int, int]) -> Array:
    """The gradient of ``max_pool2d``: dy goes to the stored index; where windows overlap it adds up.

    Returns:
        dx of ``input_shape``, channels-last.

    Raises:
        ValueError: if the shapes do not fit or an index lies outside the input.
        TypeError: if dy is neither float32 nor float64, or the indices are not integers.
    """
    check_float("max_pool2d_backward", dy)
    n, c, h, w = _check_indices("max_pool2d_backward", dy, indices, input_shape, "dy")
    dx = np.zeros((n * c, h * w), dy.dtype)
    planes = np.arange(n * c).reshape(n, c, 1, 1)
    np.add.at(dx, (planes, indices), dy)
    return laid_out(dx.reshape(input_shape))


def max_unpool2d(x: Array, indices: Array, output_shape: tuple[int, int, int, int]) -> Array:
    """Put x (N, C, P, Q) at the ``indices`` of a maximum pooling's input, zeros elsewhere (Zeiler 2011).

    Where several go to one place, the last of them in row order stays.

    Returns:
        (N, C, H, W) = ``output_shape``, channels-last.

    Raises:
        ValueError: if the shapes do not fit or an index lies outside the output.
        TypeError: if x is neither float32 nor float64, or the indices are not integers.
    """
    check_float("max_unpool2d", x)
    n, c, h, w = _check_indices("max_unpool2d", x, indices, output_shape, "x")
    y = np.zeros((n, c, h * w), x.dtype)
    for place in np.ndindex(x.shape):
        y[place[0], place[1], indices[place]] = x[place]
    return laid_out(y.reshape(output_shape))


def max_unpool2d_backward(dy: Array, indices: Array) -> Array:
    """The gradient of ``max_unpool2d``: each element of x gets the dy of its place.

    Also where several went there and one stayed, as in PyTorch.

    Returns:
        dx of the indices' shape, channels-last.

    Raises:
        ValueError: if the shapes do not fit or an index lies outside of dy.
        TypeError: if dy is neither float32 nor float64, or the indices are not integers.
    """
    check_float("max_unpool2d_backward", dy)
    check_rank("max_unpool2d_backward", "dy", dy, "(N, C, H, W)")
    n, c, h, w = _check_indices("max_unpool2d_backward", indices, indices, dy.shape, "indices")
    planes = np.arange(n * c).reshape(n, c, 1, 1)
    return laid_out(dy.reshape(n * c, h * w)[planes, indices])


@quiet
def avg_pool2d(
    x: Array,
    kernel_size: PairLike,
    stride: PairLike | None = None,
    padding: PaddingLike = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """The average of every window of x (N, C, H, W).

    The sum is divided by the number of the window's elements inside the padded input (``count_include_pad``)
    or inside the input alone, or by ``divisor_override``.

    Returns:
        (N, C, P, Q), channels-last.

    Raises:
        ValueError: if shape and arguments do not fit, or the divisor is 0.
        TypeError: if x is neither float32 nor float64.
    """
    check_float("avg_pool2d", x)
    g = pool2d_geometry(x.shape, kernel_size, stride, padding, 1, ceil_mode)
    divisors = _divisors(g, count_include_pad, divisor_override, x.dtype)
    padded = pad(x, g)
    y = np.zeros(g.output_shape, x.dtype)
    for _, _, (rows, columns) in taps(g):
        y += padded[:, :, rows, columns]
    return laid_out(y / divisors)


@quiet
def avg_pool2d_backward(
    dy: Array,
    input_shape: tuple[int, int, int, int],
    kernel_size: PairLike,
    stride: PairLike | None = None,
    padding: PaddingLike = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """The gradient of ``avg_pool2d``: every element of a window gets dy over the divisor.

    Returns:
        dx of ``input_shape``, channels-last.

    Raises:
        ValueError: if shapes and arguments do not fit, or the divisor is 0.
        TypeError: if dy is neither float32 nor float64.
    """
    check_float("avg_pool2d_backward", dy)
    g = pool2d_geometry(input_shape, kernel_size, stride, padding, 1, ceil_mode)
    check_shape("avg_pool2d_backward", "dy", dy, g.output_shape)
    share = dy / _divisors(g, count_include_pad, divisor_override, dy.dtype)
    padded = pad(np.zeros(g.input_shape, dy.dtype), g)
    for _, _, (rows, columns) in taps(g):
        padded[:, :, rows, columns] += share
    return laid_out(unpad(padded, g))


@quiet
def adaptive_avg_pool2d(x: Array, output_size: int | Sequence[int | None] | None) -> Array:
    """The averages of x (N, C, H, W) over an even grid of ``output_size`` windows; None keeps H or W.

    Window i of P covers the rows from floor(i * H / P) to ceil((i + 1) * H / P): neighbours share rows where
    P does not divide H.

    Returns:
        (N, C, P, Q), channels-last.

    Raises:
        ValueError: if the shape is not (N, C, H, W) or a size is not positive.
        TypeError: if x is neither float32 nor float64.
    """
    check_float("adaptive_avg_pool2d", x)
    p, q = adaptive_output_size(x.shape, output_size)
    n, c, h, w = nchw(x.shape)
    y = np.empty((n, c, p, q), x.dtype)
    for i in range(p):
        for j in range(q):
            (top, bottom), (left, right) = adaptive_window(i, h, p), adaptive_window(j, w, q)
            y[:, :, i, j] = x[:, :, top:bottom, left:right].mean(axis=(2, 3))
    return laid_out(y)


@quiet
def adaptive_avg_pool2d_backward(dy: Array, input_shape: tuple[int, int, int, int]) -> Array:
    """The gradient of ``adaptive_avg_pool2d``: every element of a window gets an equal share of its dy.

    Returns:
        dx of ``input_shape``, channels-last.

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if dy is neither float32 nor float64.
    """
    check_float("adaptive_avg_pool2d_backward", dy)
    check_rank("adaptive_avg_pool2d_backward", "dy", dy, "(N, C, P, Q)")
    p, q = adaptive_output_size(input_shape, dy.shape[2:])
    n, c, h, w = nchw(input_shape)
    check_shape("adaptive_avg_pool2d_backward", "dy", dy, (n, c, p, q))
    dx = np.zeros(input_shape, dy.dtype)
    for i in range(p):
        for j in range(q):
            (top, bottom), (left, right) = adaptive_window(i, h, p), adaptive_window(j, w, q)
            share = dy[:, :, i, j] / ((bottom - top) * (right - left))
            dx[:, :, top:bottom, left:right] += share[:, :, None, None]
    return laid_out(dx)


def _check_indices(op: str, x: Array, indices: Array, image_shape: Shape, name: str) -> Shape:
    """The image's (N, C, H, W); raise unless ``x`` and the places ``indices`` in it go with it."""
    if not isinstance(indices, np.ndarray) or indices.dtype.kind not in "iu":
        got = getattr(indices, "dtype", type(indices).__name__)
        raise TypeError(f"{op}: expected an array of integer indices, got {got}")
    check_rank(op, name, x, "(N, C, P, Q)")
    check_shape(op, "indices", indices, x.shape)
    n, c, h, w = nchw(image_shape)
    check_shape(op, name, x, (n, c, *x.shape[2:]))
    if indices.size and (indices.min() < 0 or indices.max() >= h * w):
        raise ValueError(
            f"{op}: indices from {indices.min()} to {indices.max()} do not lie in an input of {h} x {w}"
        )
    return n, c, h, w


def _divisors(
    g: Pool2dGeometry, count_include_pad: bool, divisor_override: int | None, dtype: np.dtype
) -> Array:
    """What each window's sum is divided by, (P, Q)."""
    if divisor_override is not None:
        if divisor_override == 0:
            raise ValueError("avg_pool2d: divisor_override must not be 0")
        return np.full((g.p, g.q), divisor_override, dtype)
    counted = np.zeros((g.h + g.pad_top + g.pad_bottom, g.w + g.pad_left + g.pad_right), dtype)
    inside = counted[g.pad_top : g.pad_top + g.h, g.pad_left : g.pad_left + g.w]
    (counted if count_include_pad else inside)[...] = 1
    divisors = np.empty((g.p, g.q), dtype)
    for p in range(g.p):
        for q in range(g.q):
            top, left = p * g.stride_h, q * g.stride_w
            divisors[p, q] = counted[top : top + g.r, left : left + g.s].sum()
    return divisors
