"""Batch normalisation of each channel (Ioffe and Szegedy 2015).

    y = (x - mean) / sqrt(var + eps) * weight + bias

In training, mean and var are the batch's own and the gradient flows through them; in inference they are
constants. With x^ = (x - mean) / sqrt(var + eps) and M = N * H * W elements a channel:

    dbias = sum of dy         dweight = sum of dy * x^
    dx = weight / sqrt(var + eps) * (dy - dbias / M - x^ * dweight / M)       the batch's statistics
    dx = weight / sqrt(var + eps) * dy                                        constant statistics
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.normalization import check_activation
from nbconv_kernels.reference.memory import Array, check_float, check_rank, check_shape, laid_out, quiet


@quiet
def batch_norm2d_statistics(x: Array) -> tuple[Array, Array]:
    """The mean and the biased variance of each channel of x (N, C, H, W), NaN for an empty batch.

    Two passes, accumulated in float64: exact to the last digit of float32 even where the mean is large.

    Returns:
        (mean, var), each (C,).
    """
    dtype = check_float("batch_norm2d_statistics", x)
    check_rank("batch_norm2d_statistics", "an input", x, "(N, C, H, W)")
    n, _, h, w = x.shape
    mean = x.sum(axis=(0, 2, 3), dtype=np.float64) / (n * h * w)
    deviation = x - mean[:, None, None]
    var = (deviation * deviation).sum(axis=(0, 2, 3)) / (n * h * w)
    return mean.astype(dtype), var.astype(dtype)


@quiet
def batch_norm2d(
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    activation: str | None = None,
) -> Array:
    """Normalise x (N, C, H, W) by the given mean and var (C,), then scale by weight and shift by bias (C,).

    The ``activation``, None or "relu", comes last.

    Returns:
        y of x's shape, channels-last.

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if the arrays are not all float32 or all float64.
    """
    check_float("batch_norm2d", x, mean, var, weight, bias)
    _check_channels("batch_norm2d", x, mean=mean, var=var, weight=weight, bias=bias)
    y = _normalised(x, mean, var, eps)
    if weight is not None:
        y = y * weight[:, None, None]
    if bias is not None:
        y = y + bias[:, None, None]
    if check_activation("batch_norm2d", activation):
        y = np.where(y <= 0, 0, y)
    return laid_out(y)


@quiet
def batch_norm2d_backward(
    dy: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None = None,
    eps: float = 1e-5,
    bias: Array | None = None,
    activation: str | None = None,
) -> tuple[Array, Array, Array]:
    """The gradients of ``batch_norm2d`` where mean and var were those of x itself.

    Where an ``activation`` followed, its share is found from x again: for that the ``bias`` is needed.

    Returns:
        (dx of x's shape, channels-last; dweight (C,); dbias (C,)).

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if the arrays are not all float32 or all float64.
    """
    check_float("batch_norm2d_backward", dy, x, mean, var, weight, bias)
    _check_channels("batch_norm2d_backward", x, mean=mean, var=var, weight=weight, bias=bias)
    check_shape("batch_norm2d_backward", "dy", dy, x.shape)
    if check_activation("batch_norm2d_backward", activation):
        dy = np.where(batch_norm2d(x, mean, var, weight, bias, eps) <= 0, 0, dy)
    normalised = _normalised(x, mean, var, eps)
    dweight, dbias = (dy * normalised).sum(axis=(0, 2, 3)), dy.sum(axis=(0, 2, 3))
    n, _, h, w = x.shape
    count = n * h * w
    centred = dy - dbias[:, None, None] / count - normalised * (dweight[:, None, None] / count)
    return laid_out(centred * _scale(var, weight, eps)), dweight, dbias


@quiet
def batch_norm2d_inference_backward(
    dy: Array, x: Array, mean: Array, var: Array, weight: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """The gradients of ``batch_norm2d`` where mean and var are constants, such as the running statistics.

    Returns:
        (dx of x's shape, channels-last; dweight (C,); dbias (C,)).

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if the arrays are not all float32 or all float64.
    """
    check_float("batch_norm2d_inference_backward", dy, x, mean, var, weight)
    _check_channels("batch_norm2d_inference_backward", x, mean=mean, var=var, weight=weight)
    check_shape("batch_norm2d_inference_backward", "dy", dy, x.shape)
    dweight = (dy * _normalised(x, mean, var, eps)).sum(axis=(0, 2, 3))
    return laid_out(dy * _scale(var, weight, eps)), dweight, dy.sum(axis=(0, 2, 3))


def _normalised(x: Array, mean: Array, var: Array, eps: float) -> Array:
    return (x - mean[:, None, None]) * _scale(var, None, eps)


def _scale(var: Array, weight: Array | None, eps: float) -> Array:
    """Weight / sqrt(var + eps), (C, 1, 1)."""
    scale = 1 / np.sqrt(var + float(eps))
    return (scale if weight is None else scale * weight)[:, None, None]


def _check_channels(op: str, x: Array, **vectors: Array | None) -> None:
    check_rank(op, "an input", x, "(N, C, H, W)")
    for name, vector in vectors.items():
        check_shape(op, name, vector, x.shape[1:2])
