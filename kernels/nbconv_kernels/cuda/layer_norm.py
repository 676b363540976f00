"""Layer normalisation (Ba, Kiros and Hinton 2016): the trailing axes of each sample are normalised together.

    y = (x - mean) / sqrt(var + eps) * weight + bias        weight, bias: of the shape that is normalised

With D elements in a sample, s = 1 / sqrt(var + eps) and g = dy * weight, sums over the sample:

    dx = s g - s / D * sum of g - s^3 / D * (x - mean) * sum of g (x - mean)
    dweight = sum of dy * (x - mean) * s        dbias = sum of dy             over samples

Samples are rows of memory. So are images of which (C, H, W) is normalised, in channels-last order, to which
the weights are brought; other axes of an image are rows after a copy to row-major memory. A row is the work
of a team of lanes, up to a warp, or of a block where it is long: the mean of its deviations from its first
element, then the variance, then the result, the later sweeps from cache. The parameters' gradients are sums
over columns, of blocks of 32 columns and some of the rows.

Limit: memory bandwidth, for rows that fit into the cache and are not much fewer than the processors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nbconv_kernels.cuda.build import Kernel, blocks, device_function, kernel
from nbconv_kernels.cuda.intrinsics import thread_index
from nbconv_kernels.cuda.memory import Array, check_float, check_same_shape, empty, empty_as, namespace, whole
from nbconv_kernels.cuda.reduction import block_sum, fold, lane_sum, team_shift, team_sum
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, u32, uint32

__all__ = ["layer_norm", "layer_norm_backward"]

_BLOCK = 256
_BLOCK_SHIFT = 8
_LONG = 2048  # elements from which on a row has a block of its own
_ROWS = 32  # rows that a thread should sum up at least, for the parameters' gradients
_WEIGHT, _BIAS = 1, 2


@device_function
def _block_add(value, shift):
    return block_sum(value)


@device_function
def _row_of(rows, width, shift) -> Any:
    """(whether there is a row for this thread, the row, its first element for it, its end, the step)."""
    row = uint32(thread_index() >> shift)
    exists = row < rows
    row = row if exists else uint32(0)
    lane = uint32(thread_index() & uint32(uint32(uint32(1) << shift) - uint32(1)))
    start = uint32(row * width)
    return exists, row, uint32(start + lane), uint32(start + width), uint32(uint32(1) << shift)


@device_function
def _deviations(x, first, end, step, centre) -> Any:
    """This thread's share of the sum of x - centre over a row."""
    total, i = float32(0), first
    while i < end:
        total += x[i] - centre
        i = uint32(i + step)
    return total


@device_function
def _squares(x, first, end, step, mean) -> Any:
    """This thread's share of the sum of (x - mean)^2 over a row."""
    total, i = float32(0), first
    while i < end:
        deviation = x[i] - mean
        total += deviation * deviation
        i = uint32(i + step)
    return total


def _make_forward(add: Any, name: str) -> Kernel:
    @kernel(block=_BLOCK, constants=(name,))
    def _forward(
        x: f32s, weight: f32s, bias: f32s, y: f32s, rows: u32, width: u32, shift: u32, eps: f32, given: u32
    ):
        exists, _, first, end, step = _row_of(rows, width, shift)
        start = uint32(end - width)
        mean = x[start] + add(_deviations(x, first, end, step, x[start]), shift) / float32(width)
        variance = add(_squares(x, first, end, step, mean), shift) / float32(width)
        scale = float32(1) / math.sqrt(variance + eps)
        i = first
        while exists and i < end:
            value = (x[i] - mean) * scale
            if uint32(given & uint32(_WEIGHT)) != uint32(0):
                value = value * weight[uint32(i - start)]
            if uint32(given & uint32(_BIAS)) != uint32(0):
                value = value + bias[uint32(i - start)]
            y[i] = value
            i = uint32(i + step)

    return _forward


def _make_backward(add: Any, name: str) -> Kernel:
    @kernel(block=_BLOCK, constants=(name,))
    def _backward(
        dy: f32s,
        x: f32s,
        weight: f32s,
        dx: f32s,
        kept: f32s,
        rows: u32,
        width: u32,
        shift: u32,
        eps: f32,
        given: u32,
    ):
        exists, row, first, end, step = _row_of(rows, width, shift)
        start = uint32(end - width)
        mean = x[start] + add(_deviations(x, first, end, step, x[start]), shift) / float32(width)
        variance = add(_squares(x, first, end, step, mean), shift) / float32(width)
        scale = float32(1) / math.sqrt(variance + eps)
        total, product, i = float32(0), float32(0), first
        while i < end:
            g = dy[i] * weight[uint32(i - start)] if given != uint32(0) else dy[i]
            total += g
            product += g * (x[i] - mean)
            i = uint32(i + step)
        offset = add(total, shift) / float32(width)
        slope = scale * scale * add(product, shift) / float32(width)
        i = first
        while exists and i < end:
            g = dy[i] * weight[uint32(i - start)] if given != uint32(0) else dy[i]
            dx[i] = (g - offset - (x[i] - mean) * slope) * scale
            i = uint32(i + step)
        if exists and first == start:
            kept[row], kept[uint32(row + rows)] = mean, scale

    return _backward


_FORWARD = _make_forward(team_sum, "team"), _make_forward(_block_add, "block")
_BACKWARD = _make_backward(team_sum, "team"), _make_backward(_block_add, "block")


@kernel(block=_BLOCK)
def _parameters(dy: f32s, x: f32s, kept: f32s, parts: f32s, rows: u32, width: u32):
    thread = uint32(cuda.threadIdx.x)
    column = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(32)) + uint32(thread & uint32(31)))
    row = uint32(uint32(uint32(cuda.blockIdx.y) * uint32(_BLOCK // 32)) + uint32(thread >> uint32(5)))
    weighted, total = float32(0), float32(0)
    while row < rows and column < width:
        at = uint32(uint32(row * width) + column)
        weighted += dy[at] * ((x[at] - kept[row]) * kept[uint32(row + rows)])
        total += dy[at]
        row = uint32(row + uint32(uint32(cuda.gridDim.y) * uint32(_BLOCK // 32)))
    weighted, total = lane_sum(weighted, uint32(5)), lane_sum(total, uint32(5))
    if thread < uint32(32) and column < width:
        at = uint32(uint32(uint32(uint32(cuda.blockIdx.y) * uint32(2)) * width) + column)
        parts[at], parts[uint32(at + width)] = weighted, total


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
        TypeError: for dtypes other than float32.
        ValueError: for shapes that do not go together.
    """
    check_float("layer_norm", x, weight, bias)
    shape = _checked("layer_norm", x, normalized_shape, weight=weight, bias=bias)
    if x.ndim == 4 and len(shape) != 3:
        return whole(layer_norm(_flat(x, shape), shape, weight, bias, eps).reshape(x.shape))
    y = empty_as(x)
    if y.size:
        rows, width, shift, grid = _extents(x, shape)
        given = _WEIGHT * (weight is not None) | _BIAS * (bias is not None)
        arrays = (whole(x), _in_memory_order(weight, x.ndim), _in_memory_order(bias, x.ndim), y)
        _FORWARD[shift == _BLOCK_SHIFT][grid](*arrays, rows, width, shift, eps, given)
    return y


def layer_norm_backward(
    dy: Array, x: Array, normalized_shape: Sequence[int], weight: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """The gradients of ``layer_norm``.

    Returns:
        (dx of the shape of ``x``, dweight and dbias of ``normalized_shape``, C-contiguous).

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: for shapes that do not go together.
    """
    check_float("layer_norm_backward", dy, x, weight)
    shape = _checked("layer_norm_backward", x, normalized_shape, weight=weight)
    check_same_shape("layer_norm_backward", dy=dy, x=x)
    if x.ndim == 4 and len(shape) != 3:
        flat = layer_norm_backward(_flat(dy, shape), _flat(x, shape), shape, weight, eps)
        return whole(flat[0].reshape(x.shape)), *flat[1:]
    dx = empty_as(x)
    if not dx.size:
        dweight, dbias = namespace(x).zeros((2, *shape), x.dtype)
        return dx, dweight, dbias
    rows, width, shift, grid = _extents(x, shape)
    dy, x, kept = whole(dy), whole(x), empty(x, (2, rows))
    arrays = (dy, x, _in_memory_order(weight, x.ndim), dx, kept)
    _BACKWARD[shift == _BLOCK_SHIFT][grid](*arrays, rows, width, shift, eps, weight is not None)
    parts = empty(x, (1, blocks(rows, _ROWS * _BLOCK // 32), 2, width))
    _parameters[blocks(width, 32), parts.shape[1]](dy, x, kept, parts, rows, width)
    sums = fold(parts)[0]
    if x.ndim == 4:
        c, h, w = shape
        sums = sums.reshape(2, h, w, c).transpose(0, 3, 1, 2)
    dweight, dbias = (namespace(x).ascontiguousarray(one).reshape(shape) for one in sums)
    return dx, dweight, dbias


def _extents(x: Array, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(rows, elements of a row, the binary logarithm of the lanes it gets, blocks)."""
    width = math.prod(shape)
    rows = x.size // width
    shift = _BLOCK_SHIFT if width >= _LONG else team_shift(width)
    return rows, width, shift, blocks(rows << shift, _BLOCK)


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
    return namespace(x).ascontiguousarray(x).reshape(math.prod(x.shape[: -len(shape)]), *shape)


def _in_memory_order(parameter: Array | None, ndim: int) -> Array | None:
    """A weight or bias whose elements lie beside those of a sample."""
    return None if parameter is None else whole(parameter[None] if ndim == 4 else parameter)
