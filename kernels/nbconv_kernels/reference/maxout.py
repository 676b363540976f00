"""Maxout (Goodfellow et al. 2013): the maximum of each group of ``pieces`` consecutive channels.

    y[n, j] = max over k < pieces of x[n, j * pieces + k]

With a convolution or a dense layer in front, that is max(w1 x + b1, w2 x + b2, ...).
"""

from __future__ import annotations

import operator

import numpy as np

from nbconv_kernels.reference.memory import Array, check_float, check_shape, laid_out, quiet


@quiet
def maxout(x: Array, pieces: int) -> tuple[Array, Array]:
    """The maximum of every ``pieces`` consecutive channels of x (N, C) or (N, C, H, W), and which it is.

    Of equal maxima the first counts; a NaN beats every number, and the last NaN counts, as in ``max_pool2d``.

    Returns:
        y (N, C / pieces) or (N, C / pieces, H, W), and which, int32 of the same shape: 0 .. pieces - 1.

    Raises:
        ValueError: if the shape is another one, or the channels are no multiple of ``pieces``.
        TypeError: if x is neither float32 nor float64.
    """
    check_float("maxout", x)
    n, c, *size = x.shape if x.ndim in (2, 4) else (0, 0)
    pieces = _count(pieces)
    if c == 0 or c % pieces:
        raise ValueError(
            f"maxout: expected (N, C) or (N, C, H, W), C a multiple of pieces={pieces}, got shape {x.shape}"
        )
    grouped = x.reshape(n, c // pieces, pieces, *size)
    y, which = grouped[:, :, 0], np.zeros((n, c // pieces, *size), np.int32)
    for piece in range(1, pieces):
        value = grouped[:, :, piece]
        better = (value > y) | np.isnan(value)
        y, which = np.where(better, value, y), np.where(better, np.int32(piece), which)
    return laid_out(y), laid_out(which)


def maxout_backward(dy: Array, which: Array, pieces: int) -> Array:
    """The gradient of ``maxout``: dy goes to the channel that was the maximum, the others get 0.

    Returns:
        dx with ``pieces`` times the channels of dy.

    Raises:
        ValueError: if the shapes do not fit or ``which`` lies outside of 0 .. pieces - 1.
        TypeError: if dy is neither float32 nor float64, or ``which`` is not int32.
    """
    check_float("maxout_backward", dy)
    pieces = _count(pieces)
    if not isinstance(which, np.ndarray) or which.dtype != np.int32:
        got = getattr(which, "dtype", type(which).__name__)
        raise TypeError(f"maxout_backward: expected an int32 array of pieces, got {got}")
    if dy.ndim not in (2, 4):
        raise ValueError(f"maxout_backward: expected dy (N, C) or (N, C, H, W), got shape {dy.shape}")
    check_shape("maxout_backward", "which", which, dy.shape)
    if which.size and not 0 <= which.min() <= which.max() < pieces:
        raise ValueError(
            f"maxout_backward: pieces from {which.min()} to {which.max()} are not all in 0 .. {pieces - 1}"
        )
    n, c, *size = dy.shape
    dx = np.stack([np.where(which == piece, dy, 0) for piece in range(pieces)], axis=2)
    return laid_out(dx.reshape(n, c * pieces, *size))


def _count(pieces: int) -> int:
    if operator.index(pieces) < 1:
        raise ValueError(f"maxout: pieces must be positive, got {pieces}")
    return operator.index(pieces)
