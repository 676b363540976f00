"""Layout and plain arithmetic of arrays: conversions, flattening, addition.

Between channels-last memory (N, H, W, C) and the row-major (N, C, H, W) that ``flatten`` gives lies, for each
image, a transposition of a matrix of pixels by channels. A block of 256 threads moves a tile of 1024 elements
through shared memory. A tile has 32 x 32 elements, but fewer rows, or columns, and more of the others, where
the matrix has few: those of three channels have 4 x 256, so that most threads have something to move. Its
longer side lies in one piece in shared memory, and its lines so far apart that the threads of a warp meet all
32 banks, both when they write lines and when they read columns.

Sums: four elements a thread, in 128-bit accesses.

Limit: memory bandwidth.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from nbconv_kernels.cuda.build import blocks, kernel
from nbconv_kernels.cuda.intrinsics import load4, store4, thread_index
from nbconv_kernels.cuda.memory import (
    Array,
    check_float,
    check_same_shape,
    check_writeable,
    empty,
    empty_as,
    empty_nchw,
    in_fours,
    in_order_of,
    is_array,
    is_range_of_channels,
    namespace,
    whole,
)
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, u32, uint32

__all__ = ["accumulate", "add", "asarray", "channels_last", "empty_like", "flatten", "to_numpy", "unflatten"]

_BLOCK = 256
_TILE_BITS = 10
_SHARED = (1 << _TILE_BITS) + 32


def asarray(x: Any, dtype: Any = None) -> Array:
    """``x`` as an array where it is, copied only if it must be; what is no array yet becomes NumPy's."""
    return (namespace(x) if is_array(x) else np).asarray(x, dtype=dtype)


def to_numpy(x: Array) -> Array:
    """An array of this backend as a NumPy array: itself, or a copy from the GPU, laid out as there."""
    if isinstance(x, np.ndarray) or not is_array(x):
        return np.asarray(x)
    if x.ndim != 4:
        return namespace(x).asnumpy(x)
    return namespace(x).asnumpy(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def empty_like(x: Array, shape: tuple[int, ...]) -> Array:
    """An array of ``shape`` of the dtype of ``x`` and in the layout of results, its values undefined."""
    return empty_nchw(x, *shape, x.dtype) if len(shape) == 4 else empty(x, shape, x.dtype)


@kernel(block=_BLOCK)
def _transpose(
    x: f32s,
    y: f32s,
    rows: u32,
    columns: u32,
    row_bits: u32,
    row_step: u32,
    column_step: u32,
    down: u32,
    across: u32,
):
    tile = cuda.shared.array(_SHARED, float32)
    column_bits = uint32(uint32(_TILE_BITS) - row_bits)
    image = uint32(uint32(cuda.blockIdx.x) // uint32(down * across))
    place = uint32(uint32(cuda.blockIdx.x) - uint32(image * uint32(down * across)))
    top = uint32(place // across)
    left = uint32(uint32(place - uint32(top * across)) << column_bits)
    top = uint32(top << row_bits)
    base = uint32(image * uint32(rows * columns))
    thread = uint32(cuda.threadIdx.x)
    for part in range(4):
        i = uint32(thread + uint32(uint32(part) * uint32(_BLOCK)))
        row = uint32(i >> column_bits)
        column = uint32(i - uint32(row << column_bits))
        if uint32(top + row) < rows and uint32(left + column) < columns:
            source = uint32(uint32(base + uint32(uint32(top + row) * columns)) + uint32(left + column))
            tile[uint32(uint32(row * row_step) + uint32(column * column_step))] = x[source]
    cuda.syncthreads()
    for part in range(4):
        i = uint32(thread + uint32(uint32(part) * uint32(_BLOCK)))
        column = uint32(i >> row_bits)
        row = uint32(i - uint32(column << row_bits))
        if uint32(top + row) < rows and uint32(left + column) < columns:
            target = uint32(uint32(base + uint32(uint32(left + column) * rows)) + uint32(top + row))
            y[target] = tile[uint32(uint32(row * row_step) + uint32(column * column_step))]


def _transposed(x: Array, rows: int, columns: int, y: Array) -> None:
    """Write matrices of ``rows`` x ``columns``, one behind the other in ``x``, transposed to ``y``."""
    if not x.size:
        return
    row_bits = _TILE_BITS // 2
    if columns < 32:
        row_bits = _TILE_BITS - (columns - 1).bit_length()
    elif rows < 32:
        row_bits = (rows - 1).bit_length()
    column_bits = _TILE_BITS - row_bits
    short = min(row_bits, column_bits)
    pitch = (1 << (_TILE_BITS - short)) + (32 >> short)
    steps = (pitch, 1) if row_bits <= column_bits else (1, pitch)
    tiles = (blocks(rows, 1 << row_bits), blocks(columns, 1 << column_bits))
    _transpose[x.size // (rows * columns) * prod(tiles)](x, y, rows, columns, row_bits, *steps, *tiles)


def channels_last(x: Array) -> Array:
    """``x`` (N, C, H, W) over channels-last memory, copied unless it has that already.

    Some neighbouring channels of such memory stay where they are: what needs them in one piece copies them.

    Raises:
        ValueError: for an array that is not 4-D.
    """
    if x.ndim != 4:
        raise ValueError(f"channels_last: expected an array of shape (N, C, H, W), got shape {x.shape}")
    if is_range_of_channels(x):
        return x
    if x.dtype != np.float32 or not x.flags.c_contiguous:
        return whole(x)
    return _unflattened(x, x.shape)


def flatten(x: Array) -> Array:
    """``x`` (N, C, H, W) as (N, C * H * W), in (C, H, W) order, C-contiguous. Other ranks keep their order.

    Raises:
        ValueError: for an array with fewer than two axes.
    """
    if x.ndim < 2:
        raise ValueError(f"flatten: expected an array of shape (N, ...), got shape {x.shape}")
    shape = (x.shape[0], prod(x.shape[1:]))
    if x.flags.c_contiguous or x.ndim != 4 or x.dtype != np.float32:
        return namespace(x).ascontiguousarray(x).reshape(shape)
    y = empty(x, shape)
    _transposed(whole(x), x.shape[2] * x.shape[3], x.shape[1], y)
    return y


def unflatten(y: Array, shape: tuple[int, ...]) -> Array:
    """The inverse and the gradient of ``flatten``: (N, C * H * W) as ``shape`` (N, C, H, W), channels last.

    Raises:
        ValueError: if the array does not fit the shape.
    """
    flat = (shape[0], prod(shape[1:]))
    if y.shape != flat:
        raise ValueError(f"unflatten: expected an array of shape {flat} for {tuple(shape)}, got {y.shape}")
    if len(shape) != 4:
        return namespace(y).ascontiguousarray(y).reshape(shape)
    if y.dtype != np.float32:
        return whole(y.reshape(shape))
    return _unflattened(namespace(y).ascontiguousarray(y), shape)


def _unflattened(x: Array, shape: tuple[int, ...]) -> Array:
    """The elements of a C-contiguous ``x`` as ``shape`` (N, C, H, W), their memory made channels-last."""
    n, c, h, w = shape
    if c == 1 or h * w == 1:
        return x.reshape(n, h, w, c).transpose(0, 3, 1, 2)
    y = empty_nchw(x, n, c, h, w)
    _transposed(x, c, h * w, y)
    return y


@kernel(block=_BLOCK)
def _add(a: f32s, b: f32s, total: f32s, scale: f32, n: u32, fours: u32):
    i = uint32(uint32(4) * thread_index())
    if uint32(i + uint32(4)) <= fours:
        a0, a1, a2, a3 = load4(a, i)
        b0, b1, b2, b3 = load4(b, i)
        store4(total, i, a0 + scale * b0, a1 + scale * b1, a2 + scale * b2, a3 + scale * b3)
    else:
        last = min(n, uint32(i + uint32(4)))
        while i < last:
            total[i] = a[i] + scale * b[i]
            i = uint32(i + uint32(1))


def add(a: Array, b: Array) -> Array:
    """``a + b``, for arrays of one shape.

    Raises:
        TypeError: if they are not both float32.
        ValueError: if the shapes differ.
    """
    check_float("add", a, b)
    check_same_shape("add", a=a, b=b)
    total = empty_as(a)
    _add[blocks(a.size, 4 * _BLOCK)](whole(a), whole(b), total, 1.0, a.size, a.size)
    return total


def accumulate(into: Array, value: Array) -> None:
    """``into += value`` in place, for arrays of one shape.

    Raises:
        TypeError: if they are not both float32.
        ValueError: if the shapes differ or ``into`` is read-only.
    """
    accumulate_scaled("accumulate", into, value, 1.0)


def accumulate_scaled(op: str, into: Array, value: Array, scale: float) -> None:
    """``into += scale * value`` in place, as the op of that name."""
    check_float(op, into, value)
    check_same_shape(op, into=into, value=value)
    check_writeable(op, into)
    ordered = in_order_of(into, value)
    if ordered is None:
        copy = whole(into)
        accumulate_scaled(op, copy, value, scale)
        into[...] = copy
        return
    fours = in_fours(into.size, into, ordered)
    _add[blocks(into.size, 4 * _BLOCK)](into, ordered, into, scale, into.size, fours)
