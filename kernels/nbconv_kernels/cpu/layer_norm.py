"""Layer normalisation (Ba, Kiros and Hinton 2016): the trailing axes of each sample are normalised together.

    y = (x - mean) / sqrt(var + eps) * weight + bias        weight, bias: of the shape that is normalised

With D elements in a sample, s = 1 / sqrt(var + eps) and g = dy * weight, sums over the sample:

    dx = s g - s / D * sum of g - s^3 / D * (x - mean) * sum of g (x - mean)
    dweight = sum of dy * (x - mean) * s        dbias = sum of dy             over samples

Samples are rows of memory. So are images of which (C, H, W) is normalised, in channels-last order, to which
the weights are brought; other axes of an image are rows after a copy to row-major memory. Sums are taken in
float64, of deviations from the row's first element; those over samples by each task for itself, then added in
the tasks' order.

Limit: memory bandwidth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.layout import channels_last
from nbconv_kernels.cpu.memory import Array, check_float, nhwc
from nbconv_kernels.cpu.tasks import check_same_shape, empty_as, row_of, task_count
from nbconv_kernels.cpu.vector import fill, lanes, load_double, minus, plus, times, total

__all__ = ["layer_norm", "layer_norm_backward"]

_quiet = np.errstate(all="ignore")  # as in kernels, infinity and NaN propagate without a warning


@kernel
def _moments(x, start, width, double):
    """Mean and variance of ``width`` elements from ``start`` on; ``double`` is any float64 array."""
    centre = np.float64(x[start])
    middle, sums, squares = fill(double, centre), fill(double, 0.0), fill(double, 0.0)
    step = lanes(double)
    tail = start + width // step * step
    for i in range(start, tail, step):
        deviation = minus(load_double(x, i, step), middle)
        sums = plus(sums, deviation)
        squares = plus(squares, times(deviation, deviation))
    first, second = total(sums), total(squares)
    for i in range(tail, start + width):
        deviation = x[i] - centre
        first += deviation
        second += deviation * deviation
    shift = first / width
    return centre + shift, (second - first * shift) / width


@kernel
def _forward_task(task, n_tasks, x, weight, bias, eps, y):
    width = weight.size
    rows = x.size // width
    double = np.empty(1)
    for row in range(rows * task // n_tasks, rows * (task + 1) // n_tasks):
        start, stop = row * width, (row + 1) * width
        centre, variance = _moments(x, start, width, double)
        mean, scale = x.dtype.type(centre), x.dtype.type(1 / math.sqrt(variance + eps))
        values, out = x[start:stop], y[start:stop]
        for i in range(width):
            out[i] = (values[i] - mean) * scale * weight[i] + bias[i]


@kernel
def _forward(n_tasks, x, weight, bias, eps, y, n_threads):
    parallel_for(_forward_task, n_tasks, n_threads, (n_tasks, x, weight, bias, eps, y))


@_quiet
def layer_norm(
    x: Array,
    normalized_shape: Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalise the last axes of ``x``, which are ``normalized_shape``; scale and shift by element of these.

    Four axes are (N, C, H, W) in this order, as everywhere: a shape (C, H, W) normalises each image.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes that do not go together.
    """
    dtype = check_float("layer_norm", x, weight, bias)
    shape = _checked("layer_norm", x, normalized_shape, weight=weight, bias=bias)
    if x.ndim == 4 and len(shape) != 3:
        return channels_last(layer_norm(_flat(x, shape), shape, weight, bias, eps).reshape(x.shape))
    y = empty_as(x)
    if y.size:
        width = math.prod(shape)
        factors = np.ones(width, dtype) if weight is None else _in_memory_order(weight, x.ndim)
        shifts = np.zeros(width, dtype) if bias is None else _in_memory_order(bias, x.ndim)
        _forward(task_count(x.size), row_of(x), factors, shifts, float(eps), row_of(y), get_num_threads())
    return y


@kernel
def _backward_task(task, n_tasks, dy, x, weight, eps, dx, partial):
    width = weight.size
    rows = x.size // width
    dweight, dbias = partial[task, 0], partial[task, 1]
    for i in range(width):
        dweight[i] = 0
        dbias[i] = 0
    for row in range(rows * task // n_tasks, rows * (task + 1) // n_tasks):
        start, stop = row * width, (row + 1) * width
        centre, variance = _moments(x, start, width, dweight)
        middle, sums, products = fill(dweight, centre), fill(dweight, 0.0), fill(dweight, 0.0)
        for i in range(0, width, lanes(dweight)):
            rest = width - i
            g = times(load_double(dy, start + i, rest), load_double(weight, i, rest))
            sums = plus(sums, g)
            products = plus(products, times(g, minus(load_double(x, start + i, rest), middle)))
        factor = 1 / math.sqrt(variance + eps)
        mean, scale = x.dtype.type(centre), x.dtype.type(factor)
        offset = x.dtype.type(total(sums) / width)
        slope = x.dtype.type(factor * factor * total(products) / width)
        gradients, values, out = dy[start:stop], x[start:stop], dx[start:stop]
        for i in range(width):
            deviation = values[i] - mean
            out[i] = (gradients[i] * weight[i] - offset - deviation * slope) * scale
        for i in range(width):
            dweight[i] += gradients[i] * ((values[i] - mean) * scale)
            dbias[i] += gradients[i]


@kernel
def _backward(n_tasks, dy, x, weight, eps, dx, partial, n_threads):
    parallel_for(_backward_task, n_tasks, n_threads, (n_tasks, dy, x, weight, eps, dx, partial))


@_quiet
def layer_norm_backward(
    dy: Array, x: Array, normalized_shape: Sequence[int], weight: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """The gradients of ``layer_norm``.

    Returns:
        (dx of the shape of ``x``, dweight and dbias of ``normalized_shape``, C-contiguous).

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes that do not go together.
    """
    dtype = check_float("layer_norm_backward", dy, x, weight)
    shape = _checked("layer_norm_backward", x, normalized_shape, weight=weight)
    check_same_shape("layer_norm_backward", dy=dy, x=x)
    if x.ndim == 4 and len(shape) != 3:
        flat = layer_norm_backward(_flat(dy, shape), _flat(x, shape), shape, weight, eps)
        return channels_last(flat[0].reshape(x.shape)), *flat[1:]
    dx = empty_as(x)
    width = math.prod(shape)
    n_tasks = task_count(x.size)
    partial = np.zeros((n_tasks, 2, width))
    if dx.size:
        factors = np.ones(width, dtype) if weight is None else _in_memory_order(weight, x.ndim)
        arguments = (row_of(dy), row_of(x), factors, float(eps), row_of(dx), partial)
        _backward(n_tasks, *arguments, get_num_threads())
    sums = partial.sum(axis=0).astype(dtype)
    if x.ndim == 4:
        c, h, w = shape
        sums = sums.reshape(2, h, w, c).transpose(0, 3, 1, 2)
    dweight, dbias = (np.ascontiguousarray(one).reshape(shape) for one in sums)
    return dx, dweight, dbias


def _checked(
    op: str, x: Array, normalized_shape: Sequence[int], **parameters: Array | None
) -> tuple[int, ...]:
    shape = tuple(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape or 0 in shape:
        expected = ", ".join(map(str, ("*", *shape)))
        raise ValueError(f"{op}: expected x of shape ({expected}), got {x.shape}")
    for name, parameter in parameters.items():
        if parameter is not None and parameter.shape != shape:
            raise ValueError(f"{op}: expected {name} of shape {shape}, got {parameter.shape}")
    return shape


def _flat(x: Array, shape: tuple[int, ...]) -> Array:
    """The samples of ``x`` along one axis, in row-major memory, none of their axes taken for channels."""
    return np.ascontiguousarray(x).reshape(math.prod(x.shape[: -len(shape)]), *shape)


def _in_memory_order(parameter: Array, ndim: int) -> Array:
    """The elements of a weight or bias as they stand beside those of a sample."""
    return (nhwc(parameter[None]) if ndim == 4 else np.ascontiguousarray(parameter)).reshape(-1)
