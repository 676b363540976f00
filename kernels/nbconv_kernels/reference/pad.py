"""Padding of images: a constant, or the image's own elements (``sampling`` says which).

Every element of y repeats one of x, or is the constant; the gradient adds up dy over the repetitions.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.geometry import PaddingLike, Shape
from nbconv_kernels.reference.memory import Array, check_float, check_shape, laid_out
from nbconv_kernels.sampling import OUTSIDE, pad2d_sides, padding_sources


def pad2d(x: Array, padding: PaddingLike, mode: str = "constant", value: float = 0.0) -> Array:
    """Pad the rows and columns of x (N, C, H, W).

    Padding is an integer, (h, w) or ((top, bottom), (left, right)). For ``abcd`` padded by two on each side,
    "constant" gives ``vv abcd vv`` with v the ``value``, "reflect" ``cb abcd cb``, "symmetric"
    ``ba abcd dc``, "replicate" ``aa abcd dd``, "circular" ``cd abcd ab``.

    Returns:
        (N, C, top + H + bottom, left + W + right), channels-last.

    Raises:
        ValueError: if shape and arguments do not fit, or the input has too few elements to fill the padding.
        TypeError: if x is neither float32 nor float64.
    """
    check_float("pad2d", x)
    rows, columns = _sources(x.shape, padding, mode)
    y = x[:, :, rows][:, :, :, columns]
    y[:, :, rows == OUTSIDE] = float(value)
    y[:, :, :, columns == OUTSIDE] = float(value)
    return laid_out(y)


def pad2d_backward(dy: Array, input_shape: Shape, padding: PaddingLike, mode: str = "constant") -> Array:
    """The gradient of ``pad2d``: every element of x gets the dy of all its repetitions.

    Returns:
        dx of ``input_shape``, channels-last.

    Raises:
        ValueError: if shapes and arguments do not fit.
        TypeError: if dy is neither float32 nor float64.
    """
    check_float("pad2d_backward", dy)
    rows, columns = _sources(input_shape, padding, mode)
    n, c, h, w = input_shape
    check_shape("pad2d_backward", "dy", dy, (n, c, len(rows), len(columns)))
    dy = dy[:, :, rows != OUTSIDE][:, :, :, columns != OUTSIDE]
    rows, columns = rows[rows != OUTSIDE], columns[columns != OUTSIDE]
    dx = np.zeros((h, w, n, c), dy.dtype)
    np.add.at(dx, (rows[:, None], columns), dy.transpose(2, 3, 0, 1))
    return laid_out(dx.transpose(2, 3, 0, 1))


def _sources(input_shape: Shape, padding: PaddingLike, mode: str) -> tuple[Array, Array]:
    """The input row of every output row, and the input column of every output column."""
    (top, bottom), (left, right) = pad2d_sides(input_shape, padding, mode)
    _, _, h, w = input_shape
    rows, columns = padding_sources(h, top, bottom, mode), padding_sources(w, left, right, mode)
    return np.array(rows), np.array(columns)
