"""Batch normalisation of each channel (Ioffe and Szegedy 2015), with its statistics and gradients.

    y = (x - mean) * weight / sqrt(var + eps) + bias

With x^ = (x - mean) / sqrt(var + eps) and M = N * H * W elements a channel:

    dbias = sum of dy         dweight = sum of dy * x^
    dx = weight / sqrt(var + eps) * (dy - dbias / M - x^ * dweight / M)     mean and var were the batch's own
    dx = weight / sqrt(var + eps) * dy                                      they are constants

The sweeps are those of ``moments`` and ``normalising``, over all pixels of the batch as if they were one
image's. ``x`` may be the first channels of more, as in a DenseNet, and is read where it lies.

Limit: memory bandwidth.
"""

from __future__ import annotations

from nbconv_kernels.cuda import normalising
from nbconv_kernels.cuda.channels import sweep
from nbconv_kernels.cuda.memory import Array, check_float, empty, empty_as, whole
from nbconv_kernels.cuda.moments import moments
from nbconv_kernels.normalization import check_activation

__all__ = [
    "batch_norm2d",
    "batch_norm2d_backward",
    "batch_norm2d_inference_backward",
    "batch_norm2d_statistics",
]


def batch_norm2d_statistics(x: Array) -> tuple[Array, Array]:
    """The mean and the biased variance of each channel of (N, C, H, W), NaN for an empty batch.

    Returns:
        (mean, var), each (C,).

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: for an array that is not 4-D.
    """
    check_float("batch_norm2d_statistics", x)
    channels = _channels("batch_norm2d_statistics", x)
    mean, var = moments(sweep(x, 1, channels))
    return mean.reshape(-1), var.reshape(-1)


def batch_norm2d(
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    activation: str | None = None,
) -> Array:
    """Normalise (N, C, H, W) by mean and variance (C,), then scale by weight and shift by bias (C,).

    The ``activation``, None or "relu", comes last, in the same sweep.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: for shapes that do not go together.
    """
    check_float("batch_norm2d", x, mean, var, weight, bias)
    rectified = check_activation("batch_norm2d", activation)
    channels = _channels("batch_norm2d", x, mean=mean, var=var, weight=weight, bias=bias)
    y = empty_as(x)
    vectors = _whole(mean, var, weight, bias)
    normalising.normalise(sweep(x, 1, channels), *vectors, eps, rectified, y)
    return y


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
    """The gradients of ``batch_norm2d`` where mean and var were those of ``x`` itself.

    Where an ``activation`` followed, its share is found from ``x`` again: for that the ``bias`` is needed.

    Returns:
        (dx of the shape of ``x``, dweight (C,), dbias (C,)).

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: for shapes that do not go together.
    """
    op = "batch_norm2d_backward"
    check_float(op, dy, x, mean, var, weight, bias)
    channels = _check_gradient(op, dy, x, mean, var, weight, bias)
    rectified = check_activation(op, activation)
    rows, dy, dx = sweep(x, 1, channels), whole(dy), empty_as(x)
    vectors = _whole(mean, var, weight, bias)
    sums = normalising.gradient_sums(dy, rows, *vectors, eps, rectified)
    dweight = empty(x, (channels,))
    normalising.gradient(dy, rows, *vectors, sums, eps, rows.rows, dx, dweight, rectified)
    return dx, dweight, sums[0, 0]


def batch_norm2d_inference_backward(
    dy: Array, x: Array, mean: Array, var: Array, weight: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """The gradients of ``batch_norm2d`` where mean and var are constants, such as the running statistics.

    Returns:
        (dx of the shape of ``x``, dweight (C,), dbias (C,)).

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: for shapes that do not go together.
    """
    op = "batch_norm2d_inference_backward"
    check_float(op, dy, x, mean, var, weight)
    channels = _check_gradient(op, dy, x, mean, var, weight)
    dy, dx = whole(dy), empty_as(x)
    mean, var, weight, _ = _whole(mean, var, weight, None)
    sums = normalising.gradient_sums(dy, sweep(x, 1, channels), mean, var)
    normalising.normalise(sweep(dy, 1, channels), None, var, weight, None, eps, False, dx)
    dweight = normalising.scaled(sums[0, 1], var, eps)
    return dx, dweight, sums[0, 0]


def _whole(*vectors: Array | None) -> list[Array | None]:
    return [None if vector is None else whole(vector) for vector in vectors]


def _check_gradient(
    op: str,
    dy: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    bias: Array | None = None,
) -> int:
    channels = _channels(op, x, mean=mean, var=var, weight=weight, bias=bias)
    if dy.shape != x.shape:
        raise ValueError(f"{op}: expected dy of the shape of x, {x.shape}, got {dy.shape}")
    return channels


def _channels(op: str, x: Array, **vectors: Array | None) -> int:
    """The channels of ``x``; raise a ValueError unless it is 4-D and every vector has one number for each."""
    if x.ndim != 4 or x.shape[1] == 0:
        raise ValueError(f"{op}: expected x of shape (N, C, H, W) with C > 0, got {x.shape}")
    for name, vector in vectors.items():
        if vector is not None and vector.shape != x.shape[1:2]:
            raise ValueError(f"{op}: expected {name} of shape {x.shape[1:2]}, got {vector.shape}")
    return int(x.shape[1])
