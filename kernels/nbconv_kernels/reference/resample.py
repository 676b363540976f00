"""Resampling of images to another size, nearest or bilinear, and its gradient.

Along each axis, every element of the result repeats one element of the input, or blends two (``sampling``
says which). The gradient sends dy back with the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbconv_kernels.geometry import PairLike, Shape
from nbconv_kernels.reference.memory import Array, check_float, check_rank, check_shape, laid_out, quiet
from nbconv_kernels.sampling import linear_sources, nearest_sources, scale_factors, upsample2d_size


@quiet
def upsample2d(
    x: Array,
    output_size: PairLike,
    mode: str = "nearest",
    align_corners: bool = False,
    scale_factor: float | Sequence[float] | None = None,
) -> Array:
    """Resample x (N, C, H, W) to ``output_size`` (P, Q), "nearest" or "bilinear".

    Positions follow the ratio of the sizes, or ``scale_factor`` (a number or two), which a rounded output
    size may not quite be; ``align_corners`` makes the corner elements of both images coincide.

    Returns:
        (N, C, P, Q), channels-last.

    Raises:
        ValueError: if shape and arguments do not fit.
        TypeError: if x is neither float32 nor float64.
    """
    check_float("upsample2d", x)
    size = upsample2d_size(x.shape, output_size, mode, align_corners)
    y = x
    for axis, (output, scale) in enumerate(zip(size, scale_factors(scale_factor), strict=True), 2):
        if mode == "nearest":
            y = y.take(nearest_sources(x.shape[axis], output, scale), axis)
        else:
            first, second, weight = _linear(x.shape[axis], output, align_corners, scale, axis, x.dtype)
            y = y.take(first, axis) * (1 - weight) + y.take(second, axis) * weight
    return laid_out(y)


@quiet
def upsample2d_backward(
    dy: Array,
    input_shape: Shape,
    mode: str = "nearest",
    align_corners: bool = False,
    scale_factor: float | Sequence[float] | None = None,
) -> Array:
    """The gradient of ``upsample2d``.

    Returns:
        dx of ``input_shape``, channels-last.

    Raises:
        ValueError: if shapes and arguments do not fit.
        TypeError: if dy is neither float32 nor float64.
    """
    check_float("upsample2d_backward", dy)
    check_rank("upsample2d_backward", "dy", dy, "(N, C, P, Q)")
    size = upsample2d_size(input_shape, dy.shape[2:], mode, align_corners)
    check_shape("upsample2d_backward", "dy", dy, (*input_shape[:2], *size))
    for axis, scale in enumerate(scale_factors(scale_factor), 2):
        length, output = input_shape[axis], dy.shape[axis]
        dx = np.zeros((*dy.shape[:axis], length, *dy.shape[axis + 1 :]), dy.dtype)
        # Views with the axis in front, where an index goes.
        into = np.moveaxis(dx, axis, 0)
        if mode == "nearest":
            np.add.at(into, np.array(nearest_sources(length, output, scale)), np.moveaxis(dy, axis, 0))
        else:
            first, second, weight = _linear(length, output, align_corners, scale, axis, dy.dtype)
            np.add.at(into, first, np.moveaxis(dy * (1 - weight), axis, 0))
            np.add.at(into, second, np.moveaxis(dy * weight, axis, 0))
        dy = dx
    return laid_out(dy)


def _linear(
    size: int, output: int, align_corners: bool, scale: float | None, axis: int, dtype: np.dtype
) -> tuple[Array, Array, Array]:
    """Both sources of each output element, and the weight of the second shaped to go along ``axis``."""
    first, second, weight = zip(*linear_sources(size, output, align_corners, scale), strict=True)
    return np.array(first), np.array(second), np.array(weight, dtype).reshape(-1, *(1,) * (3 - axis))
