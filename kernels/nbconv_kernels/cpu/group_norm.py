"""Group normalisation (Wu and He 2018): each image's channels are normalised in groups of consecutive ones.

    y = (x - mean) / sqrt(var + eps) * weight + bias        mean, var: of one group of one image

With M elements in a group, s = 1 / sqrt(var + eps) and g = dy * weight, sums over the group:

    dx = s g - s / M * sum of g - s^3 / M * (x - mean) * sum of g (x - mean)
    dweight = sum of dy * (x - mean) * s        dbias = sum of dy             over images and positions

Memory is (N, H, W, C). A task takes one image, or some of its groups where there are fewer images than
threads: it sums each channel over the positions, combines the channels of a group, and goes over the image
again, which the second cache may still hold. Sums are taken in float64, of deviations from the group's first
element: exact to the last digits of float32 even where the mean is large.

Limit: memory bandwidth; the output reads x once or twice, the gradient x twice or more and dy once or twice.
"""

from __future__ import annotations

import math
import operator

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.tasks import check_same_shape, empty_as, row_of, task_count
from nbconv_kernels.cpu.vector import lanes, load, load_double, minus, plus, store, times

__all__ = ["group_norm", "group_norm_backward"]

_quiet = np.errstate(all="ignore")  # as in kernels, infinity and NaN propagate without a warning


@kernel
def _range_of(job, parts, groups, size):
    """(image, first channel, last channel) of a job: a part of an image's groups."""
    image = job // parts
    part = job - image * parts
    return image, groups * part // parts * size, groups * (part + 1) // parts * size


@kernel
def _moments(x, base, pixels, channels, first, last, centre, sums):
    """Sums over an image's pixels of x - centre and of its square, for the channels ``first`` to ``last``."""
    squares = channels
    for c in range(first, last):
        sums[c] = 0
        sums[squares + c] = 0
    for start in range(base, base + pixels * channels, channels):
        for c in range(first, last, lanes(sums)):
            rest = last - c
            deviation = minus(load_double(x, start + c, rest), load(centre, c, rest))
            store(sums, c, plus(load(sums, c, rest), deviation), rest)
            store(sums, squares + c, plus(load(sums, squares + c, rest), times(deviation, deviation)), rest)


@kernel
def _statistics(sums, channels, first, size, pixels, eps):
    """The mean, from the centre, of a group that starts at channel ``first``, and 1 / sqrt(var + eps)."""
    total, squares = 0.0, 0.0
    for c in range(first, first + size):
        total += sums[c]
        squares += sums[channels + c]
    count = size * pixels
    mean = total / count
    return mean, 1 / math.sqrt((squares - total * mean) / count + eps)


@kernel
def _forward_task(task, n_tasks, x, y, shape, parts, weight, bias, eps):
    images, pixels, channels, groups = shape
    size = channels // groups
    centre, sums = np.empty(channels), np.empty(2 * channels)
    mean, scale = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    for job in range(images * parts * task // n_tasks, images * parts * (task + 1) // n_tasks):
        image, first, last = _range_of(job, parts, groups, size)
        base = image * pixels * channels
        for c in range(first, last):
            centre[c] = x[base + c // size * size]
        _moments(x, base, pixels, channels, first, last, centre, sums)
        for start in range(first, last, size):
            shift, factor = _statistics(sums, channels, start, size, pixels, eps)
            for c in range(start, start + size):
                mean[c], scale[c] = centre[c] + shift, factor * weight[c]
        for start in range(base, base + pixels * channels, channels):
            for c in range(first, last, lanes(x)):
                rest = last - c
                value = times(minus(load(x, start + c, rest), load(mean, c, rest)), load(scale, c, rest))
                store(y, start + c, plus(value, load(bias, c, rest)), rest)


@kernel
def _forward(n_tasks, x, y, shape, parts, weight, bias, eps, n_threads):
    parallel_for(_forward_task, n_tasks, n_threads, (n_tasks, x, y, shape, parts, weight, bias, eps))


@_quiet
def group_norm(
    x: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Array:
    """Normalise each group of channels of each image of (N, C, H, W); scale and shift by channel (C,).

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes that do not go together, or channels that are no multiple of ``num_groups``.
    """
    dtype = check_float("group_norm", x, weight, bias)
    shape = _shape("group_norm", x, num_groups, weight=weight, bias=bias)
    y = empty_as(x)
    if y.size:
        factors = np.ones(shape[2], dtype) if weight is None else np.ascontiguousarray(weight)
        shifts = np.zeros(shape[2], dtype) if bias is None else np.ascontiguousarray(bias)
        n_tasks = task_count(x.size)
        arguments = (row_of(x), row_of(y), shape, _parts(shape, n_tasks), factors, shifts, float(eps))
        _forward(n_tasks, *arguments, get_num_threads())
    return y


@kernel
def _products(dy, x, base, pixels, channels, first, last, centre, sums):
    """Sums over an image's pixels of dy and of dy * (x - centre), for the channels ``first`` to ``last``."""
    products = channels
    for c in range(first, last):
        sums[c] = 0
        sums[products + c] = 0
    for start in range(base, base + pixels * channels, channels):
        for c in range(first, last, lanes(sums)):
            rest = last - c
            gradient = load_double(dy, start + c, rest)
            deviation = minus(load_double(x, start + c, rest), load(centre, c, rest))
            store(sums, c, plus(load(sums, c, rest), gradient), rest)
            store(sums, products + c, plus(load(sums, products + c, rest), times(gradient, deviation)), rest)


@kernel
def _backward_task(task, n_tasks, dy, x, dx, shape, parts, weight, eps, dweights, dbiases):
    images, pixels, channels, groups = shape
    size = channels // groups
    centre, sums, factors = np.empty(channels), np.empty(2 * channels), np.empty(channels)
    mean, scale = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    offset, slope = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    for job in range(images * parts * task // n_tasks, images * parts * (task + 1) // n_tasks):
        image, first, last = _range_of(job, parts, groups, size)
        base = image * pixels * channels
        for c in range(first, last):
            centre[c] = x[base + c // size * size]
        _moments(x, base, pixels, channels, first, last, centre, sums)
        for start in range(first, last, size):
            shift, factor = _statistics(sums, channels, start, size, pixels, eps)
            for c in range(start, start + size):
                centre[c] += shift
                factors[c] = factor
        _products(dy, x, base, pixels, channels, first, last, centre, sums)
        for start in range(first, last, size):
            total, weighted = 0.0, 0.0
            for c in range(start, start + size):
                dbiases[image, c], dweights[image, c] = sums[c], sums[channels + c] * factors[c]
                total += weight[c] * sums[c]
                weighted += weight[c] * sums[channels + c]
            factor, count = factors[start], size * pixels
            for c in range(start, start + size):
                mean[c], scale[c] = centre[c], factor * weight[c]
                offset[c] = factor * total / count
                slope[c] = factor * factor * factor * weighted / count
        for start in range(base, base + pixels * channels, channels):
            for c in range(first, last, lanes(x)):
                rest = last - c
                deviation = minus(load(x, start + c, rest), load(mean, c, rest))
                common = plus(times(deviation, load(slope, c, rest)), load(offset, c, rest))
                own = times(load(dy, start + c, rest), load(scale, c, rest))
                store(dx, start + c, minus(own, common), rest)


@kernel
def _backward(n_tasks, dy, x, dx, shape, parts, weight, eps, dweights, dbiases, n_threads):
    arguments = (n_tasks, dy, x, dx, shape, parts, weight, eps, dweights, dbiases)
    parallel_for(_backward_task, n_tasks, n_threads, arguments)


@_quiet
def group_norm_backward(
    dy: Array, x: Array, num_groups: int, weight: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """The gradients of ``group_norm``.

    Returns:
        (dx of the shape of ``x``, dweight (C,), dbias (C,)).

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes that do not go together, or channels that are no multiple of ``num_groups``.
    """
    dtype = check_float("group_norm_backward", dy, x, weight)
    shape = _shape("group_norm_backward", x, num_groups, weight=weight)
    check_same_shape("group_norm_backward", dy=dy, x=x)
    dx = empty_as(x)
    dweights, dbiases = (np.zeros((shape[0], shape[2])) for _ in range(2))
    if dx.size:
        factors = np.ones(shape[2], dtype) if weight is None else np.ascontiguousarray(weight)
        n_tasks = task_count(x.size)
        rows = (row_of(dy), row_of(x), row_of(dx))
        settings = (shape, _parts(shape, n_tasks), factors, float(eps))
        _backward(n_tasks, *rows, *settings, dweights, dbiases, get_num_threads())
    return dx, dweights.sum(axis=0).astype(dtype), dbiases.sum(axis=0).astype(dtype)


def _parts(shape: tuple[int, int, int, int], n_tasks: int) -> int:
    """Into how many parts an image's groups are cut."""
    return 1 if shape[0] >= get_num_threads() else min(n_tasks, shape[3])


def _shape(op: str, x: Array, num_groups: int, **vectors: Array | None) -> tuple[int, int, int, int]:
    """(images, pixels, channels, groups)."""
    groups = operator.index(num_groups)
    if x.ndim != 4 or 0 in x.shape[1:] or groups < 1 or x.shape[1] % groups:
        raise ValueError(
            f"{op}: expected x of shape (N, C, H, W), C a multiple of num_groups={num_groups}, got {x.shape}"
        )
    n, c, h, w = x.shape
    for name, vector in vectors.items():
        if vector is not None and vector.shape != (c,):
            raise ValueError(f"{op}: expected {name} of shape {(c,)}, got {vector.shape}")
    return n, h * w, c, groups
