"""Batch normalisation of each channel (Ioffe and Szegedy 2015), with its statistics and gradients.

    y = (x - mean) * weight / sqrt(var + eps) + bias

With x^ = (x - mean) / sqrt(var + eps) and M = N * H * W elements a channel:

    dbias = sum of dy         dweight = sum of dy * x^
    dx = weight / sqrt(var + eps) * (dy - dbias / M - x^ * dweight / M)     mean and var were the batch's own
    dx = weight / sqrt(var + eps) * dy                                      they are constants

Memory is (N, H, W, C): a row of channels after the other. The inner loops run over a *stripe*, as many rows
as have 64 elements together, and a channel's numbers are repeated to that length: so few channels fill
vectors too. What has a value for each channel only is left to NumPy. ``x`` may be the first channels of more,
as in a DenseNet, and is read where it lies: its rows are then ``pitch`` elements apart, a stripe is one row.

Sums of a few rows are taken in registers and then added up in float64, those of squares from deviations from
what a sample has for a mean: exact to the last digits of float32 even where the mean is large.

Limit: memory bandwidth: statistics read x once, normalising reads and writes once, the gradients read x and
dy twice and write dx once. A ReLU behind is done on the way, and its gradient decided from x again, which
saves its own reading and writing in both directions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.movement import AHEAD, address, prefetch, prefetch_to_write
from nbconv_kernels.cpu.simd import SIMD
from nbconv_kernels.cpu.tasks import Rows, empty_as, row_of, rows_of, task_count
from nbconv_kernels.cpu.vector import (
    beats,
    choose,
    fill,
    lanes,
    larger,
    load,
    load_double,
    minus,
    plus,
    store,
    times,
)
from nbconv_kernels.normalization import check_activation

__all__ = [
    "batch_norm2d",
    "batch_norm2d_backward",
    "batch_norm2d_inference_backward",
    "batch_norm2d_statistics",
]

_STRIPE = 64  # elements that an inner loop should have
_BLOCK = 64  # stripes that are summed in the dtype of x, in registers
_SAMPLE = 64  # rows that tell roughly where the mean is
_FAR = 4  # variances that its square may be off by

_quiet = np.errstate(all="ignore")  # as in kernels, infinity and NaN propagate without a warning


@kernel
def _add_four(dy, x, row, there, count, channels, pitch, vectors, i, ahead, of_deviations, rectified, part):
    """Sums of four neighbouring vectors over ``count`` rows, in registers: of v, then of v * (x - centre).

    Meanwhile those ``ahead`` are fetched.
    """
    centre, sign, threshold = vectors[0], vectors[1], vectors[2]
    step = lanes(x)
    zero = fill(load(x, there + i, step), x.dtype.type(0))
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = zero
    c0, c1 = load(centre, i, step), load(centre, i + step, step)
    c2, c3 = load(centre, i + 2 * step, step), load(centre, i + 3 * step, step)
    for k in range(count):
        at, to = there + k * pitch + i, row + k * channels + i
        for v in range(4):
            prefetch(address(x, at + ahead + v * step))
        x0, x1 = load(x, at, step), load(x, at + step, step)
        x2, x3 = load(x, at + 2 * step, step), load(x, at + 3 * step, step)
        d0, d1, d2, d3 = minus(x0, c0), minus(x1, c1), minus(x2, c2), minus(x3, c3)
        if of_deviations:
            v0, v1, v2, v3 = d0, d1, d2, d3
        else:
            for v in range(4):
                prefetch(address(dy, to + ahead + v * step))
            v0, v1 = load(dy, to, step), load(dy, to + step, step)
            v2, v3 = load(dy, to + 2 * step, step), load(dy, to + 3 * step, step)
            if rectified:
                v0 = _passed(v0, x0, sign, threshold, i, step)
                v1 = _passed(v1, x1, sign, threshold, i + step, step)
                v2 = _passed(v2, x2, sign, threshold, i + 2 * step, step)
                v3 = _passed(v3, x3, sign, threshold, i + 3 * step, step)
        a0, a1, a2, a3 = plus(a0, v0), plus(a1, v1), plus(a2, v2), plus(a3, v3)
        b0, b1 = plus(b0, times(v0, d0)), plus(b1, times(v1, d1))
        b2, b3 = plus(b2, times(v2, d2)), plus(b3, times(v3, d3))
    store(part, 0, a0, step)
    store(part, step, a1, step)
    store(part, 2 * step, a2, step)
    store(part, 3 * step, a3, step)
    store(part, 4 * step, b0, step)
    store(part, 5 * step, b1, step)
    store(part, 6 * step, b2, step)
    store(part, 7 * step, b3, step)


@kernel
def _add_one(dy, x, row, there, count, channels, pitch, vectors, i, rest, of_deviations, rectified, part):
    """As ``_add_four`` for one vector, of which only ``rest`` elements may exist."""
    centre, sign, threshold = vectors[0], vectors[1], vectors[2]
    step = lanes(x)
    c = load(centre, i, rest)
    a = b = fill(c, x.dtype.type(0))
    for k in range(count):
        place = load(x, there + k * pitch + i, rest)
        d = minus(place, c)
        v = d
        if not of_deviations:
            v = load(dy, row + k * channels + i, rest)
            if rectified:
                v = _passed(v, place, sign, threshold, i, rest)
        a, b = plus(a, v), plus(b, times(v, d))
    store(part, 0, a, step)
    store(part, step, b, step)


@kernel
def _passed(gradient, x, sign, threshold, i, rest):
    """The gradient where a ReLU behind has let the value through, else 0."""
    # A difference, as one that is not a number passes, be it by x or by the threshold.
    excess = minus(times(x, load(sign, i, rest)), load(threshold, i, rest))
    zero = fill(gradient, 0.0)
    return choose(beats(excess, zero), gradient, zero)


@kernel
def _keep(part, at, sums, to, count):
    """Add ``count`` elements of a block's sums to those in float64."""
    step = lanes(sums)
    for j in range(0, count, step):
        store(sums, to + j, plus(load(sums, to + j, step), load_double(part, at + j, step)), step)


@kernel
def _sums_task(task, n_tasks, dy, x, rows, channels, pitch, vectors, sums, of_deviations, rectified):
    """Sums of v and of v * (x - centre) for v = dy or, ``of_deviations``, v = x - centre."""
    width, step = vectors.shape[1], lanes(x)
    stripe = width // channels
    padded = sums.size // (2 * n_tasks)
    plain, weighted = 2 * task * padded, (2 * task + 1) * padded
    part = np.empty(8 * step, x.dtype)
    first, stop = rows * task // n_tasks, rows * (task + 1) // n_tasks
    while first < stop:
        # As many stripes as one block has, or the rest of the last one.
        count, there = min(_BLOCK, (stop - first) // stripe), first * pitch
        across = width
        if count == 0:
            count, across = 1, (stop - first) * channels
        i = 0
        row, hop, leap = first * channels, width, stripe * pitch
        while i + 4 * step <= across:
            # The vectors read next: beside these, or in the block behind.
            ahead = 4 * step if i + 8 * step <= across else count * leap - i
            _add_four(dy, x, row, there, count, hop, leap, vectors, i, ahead, of_deviations, rectified, part)
            _keep(part, 0, sums, plain + i, 4 * step)
            _keep(part, 4 * step, sums, weighted + i, 4 * step)
            i += 4 * step
        while i < across:
            rest = across - i
            _add_one(dy, x, row, there, count, hop, leap, vectors, i, rest, of_deviations, rectified, part)
            _keep(part, 0, sums, plain + i, step)
            _keep(part, step, sums, weighted + i, step)
            i += step
        first += count * stripe


@kernel
def _sums(n_tasks, dy, x, rows, channels, pitch, vectors, sums, of_deviations, rectified, n_threads):
    arguments = (n_tasks, dy, x, rows, channels, pitch, vectors, sums, of_deviations, rectified)
    parallel_for(_sums_task, n_tasks, n_threads, arguments)


def _channel_sums(
    dy: Array | None, x: Rows, centre: Array, passing: tuple[Array, Array] | None = None
) -> Array:
    """For each channel of the rows ``dy`` and ``x``: sums of v and of v * (x - centre), (2, C) float64.

    v is ``dy``, where x is ``passing``; or x - centre where dy is None.
    """
    n_tasks, channels = task_count(x.count * x.channels), x.channels
    vectors = _striped(x, x.row.dtype, centre, *(passing or (centre, centre)))
    step, width = SIMD.lanes(x.row.itemsize), vectors.shape[1]
    sums = np.zeros((n_tasks, 2, -(-width // step) * step))
    rows, of_deviations, rectified = x.row if dy is None else dy, dy is None, passing is not None
    _sums(n_tasks, rows, *x, vectors, sums.reshape(-1), of_deviations, rectified, get_num_threads())
    return sums[:, :, :width].reshape(n_tasks, 2, -1, channels).sum(axis=(0, 2))


@_quiet
def batch_norm2d_statistics(x: Array) -> tuple[Array, Array]:
    """The mean and the biased variance of each channel of (N, C, H, W), NaN for an empty batch.

    Returns:
        (mean, var), each (C,).

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: for an array that is not 4-D.
    """
    dtype = check_float("batch_norm2d_statistics", x)
    channels = _channels("batch_norm2d_statistics", x)
    rows = rows_of(x)
    centre = _sample_mean(rows) if x.size else np.zeros(channels, dtype)
    mean, var = _moments(rows, centre)
    # Far from the mean, the squares' last digits are not those of the variance: once more from nearer by.
    nearer = np.where(mean * mean > _FAR * var, centre + mean, centre).astype(dtype)
    if x.size and np.isfinite(nearer).all() and (nearer != centre).any():
        centre = nearer
        mean, var = _moments(rows, centre)
    return (centre + mean).astype(dtype), var.astype(dtype)


def _moments(x: Rows, centre: Array) -> tuple[Array, Array]:
    """For each channel the mean of x - centre and the variance, (C,) float64."""
    count = np.float64(x.count)
    total, squares = _channel_sums(None, x, centre)
    mean = total / count
    return mean, (squares - total * mean) / count


def _sample_mean(x: Rows) -> Array:
    """Roughly the mean of each channel, 0 where some number is infinite or none."""
    rows = as_strided(x.row, (x.count, x.channels), (x.pitch * x.row.itemsize, x.row.itemsize))
    mean = rows[:: -(-x.count // _SAMPLE)].mean(axis=0, dtype=np.float64).astype(x.row.dtype)
    return np.where(np.isfinite(mean), mean, 0)


@kernel
def _normalise_task(task, n_tasks, x, rows, channels, pitch, centre, scale, shift, y, rectified):
    width = centre.size
    stop = rows * (task + 1) // n_tasks
    for row in range(rows * task // n_tasks, stop, width // channels):
        base, there, last = row * channels, row * pitch, min(width, (stop - row) * channels)
        for i in range(0, last, lanes(x)):
            rest = last - i
            prefetch_to_write(address(y, base + i + AHEAD))
            value = times(minus(load(x, there + i, rest), load(centre, i, rest)), load(scale, i, rest))
            value = plus(value, load(shift, i, rest))
            if rectified:
                value = larger(fill(value, x.dtype.type(0)), value)
            store(y, base + i, value, rest)


@kernel
def _normalise(n_tasks, x, rows, channels, pitch, centre, scale, shift, y, rectified, n_threads):
    arguments = (n_tasks, x, rows, channels, pitch, centre, scale, shift, y, rectified)
    parallel_for(_normalise_task, n_tasks, n_threads, arguments)


@_quiet
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
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes that do not go together.
    """
    dtype = check_float("batch_norm2d", x, mean, var, weight, bias)
    rectified = check_activation("batch_norm2d", activation)
    channels = _channels("batch_norm2d", x, mean=mean, var=var, weight=weight, bias=bias)
    y = empty_as(x)
    shift = np.zeros(channels) if bias is None else bias
    rows = rows_of(x)
    vectors = _striped(rows, dtype, mean, _scale(var, weight, eps), shift)
    _normalise(task_count(x.size), *rows, *vectors, row_of(y), rectified, get_num_threads())
    return y


@kernel
def _gradient_task(task, n_tasks, dy, x, rows, channels, pitch, vectors, dx, rectified):
    centre, scale, offset, slope = vectors[0], vectors[1], vectors[2], vectors[3]
    sign, threshold = vectors[4], vectors[5]
    width = centre.size
    stop = rows * (task + 1) // n_tasks
    for row in range(rows * task // n_tasks, stop, width // channels):
        base, there, last = row * channels, row * pitch, min(width, (stop - row) * channels)
        for i in range(0, last, lanes(x)):
            rest = last - i
            prefetch_to_write(address(dx, base + i + AHEAD))
            place, gradient = load(x, there + i, rest), load(dy, base + i, rest)
            if rectified:
                gradient = _passed(gradient, place, sign, threshold, i, rest)
            deviation = times(minus(place, load(centre, i, rest)), load(slope, i, rest))
            gradient = minus(minus(gradient, load(offset, i, rest)), deviation)
            store(dx, base + i, times(gradient, load(scale, i, rest)), rest)


@kernel
def _gradient(n_tasks, dy, x, rows, channels, pitch, vectors, dx, rectified, n_threads):
    arguments = (n_tasks, dy, x, rows, channels, pitch, vectors, dx, rectified)
    parallel_for(_gradient_task, n_tasks, n_threads, arguments)


@_quiet
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
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes that do not go together.
    """
    op = "batch_norm2d_backward"
    dtype = check_float(op, dy, x, mean, var, weight, bias)
    _check_gradient(op, dy, x, mean, var, weight, bias)
    row, rows = row_of(dy), rows_of(x)
    count = np.float64(rows.count)
    rectified = check_activation(op, activation)
    scale = _scale(var, weight, eps)
    passing = _passing(dtype, mean, scale, bias) if rectified else None
    total, weighted = _channel_sums(row, rows, mean, passing)
    deviation = 1 / (var.astype(np.float64) + eps)
    vectors = (mean, scale, total / count, weighted * deviation / count, *(passing or (mean, mean)))
    dx = empty_as(x)
    striped = _striped(rows, dtype, *vectors)
    _gradient(task_count(x.size), row, *rows, striped, row_of(dx), rectified, get_num_threads())
    return dx, (weighted * np.sqrt(deviation)).astype(dtype), total.astype(dtype)


def _passing(dtype: np.dtype[Any], mean: Array, scale: Array, bias: Array | None) -> tuple[Array, Array]:
    """Each channel's (sign, threshold): a ReLU behind the normalisation passes x if sign * x > threshold.

    (x - mean) * scale + bias > 0 solved for x, so that both sweeps of the gradient need but one comparison.
    """
    shift = np.zeros(len(mean)) if bias is None else bias.astype(np.float64)
    sign = np.where(scale < 0, -1.0, 1.0)
    threshold = sign * mean - shift / np.abs(scale)
    constant = scale == 0
    threshold[constant] = np.where(shift[constant] > 0, -np.inf, np.inf)
    return sign, threshold.astype(dtype)


@_quiet
def batch_norm2d_inference_backward(
    dy: Array, x: Array, mean: Array, var: Array, weight: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """The gradients of ``batch_norm2d`` where mean and var are constants, such as the running statistics.

    Returns:
        (dx of the shape of ``x``, dweight (C,), dbias (C,)).

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes that do not go together.
    """
    op = "batch_norm2d_inference_backward"
    dtype = check_float(op, dy, x, mean, var, weight)
    channels = _check_gradient(op, dy, x, mean, var, weight)
    rows, dx, zero = rows_of(dy), empty_as(x), np.zeros(channels)
    total, weighted = _channel_sums(row_of(dy), rows_of(x), mean)
    scale = _scale(var, weight, eps)
    vectors = _striped(rows, dtype, zero, scale, zero)
    _normalise(task_count(x.size), *rows, *vectors, row_of(dx), False, get_num_threads())
    return dx, (weighted * _scale(var, None, eps)).astype(dtype), total.astype(dtype)


def _scale(var: Array, weight: Array | None, eps: float) -> Array:
    """Weight / sqrt(var + eps), (C,) float64."""
    scale = 1 / np.sqrt(var.astype(np.float64) + eps)
    return scale if weight is None else scale * weight


def _striped(x: Rows, dtype: np.typing.DTypeLike, *vectors: Array) -> Array:
    """The vectors (C,) repeated to a stripe of ``x``, one a row."""
    repeats = max(1, _STRIPE // x.channels) if x.pitch == x.channels else 1
    stripes = np.empty((len(vectors), repeats, x.channels), dtype)
    for stripe, vector in zip(stripes, vectors, strict=True):
        stripe[...] = vector
    return stripes.reshape(len(vectors), -1)


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
