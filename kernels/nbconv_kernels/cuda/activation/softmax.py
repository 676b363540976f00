"""softmax along an axis: y = exp(x - max) / sum(exp(x - max)), and its gradient dx = y * (dy - sum(dy * y)).

The maximum keeps exp from overflowing. Memory is seen as (outer, length, inner). A line of ``length``
elements is the work of a team of lanes: up to a warp where the line lies in one piece (inner = 1, as channels
last make it), one lane otherwise, and then its neighbours have the lines beside it. So a warp reads
neighbouring elements either way. The line is gone through three times, the later ones from cache.

Limit: memory bandwidth, for lines that fit into the cache; the exponential is taken twice.
"""

from __future__ import annotations

import math
import operator
from math import prod
from typing import Any

from nbconv_kernels.cuda.build import Kernel, blocks, device_function, kernel
from nbconv_kernels.cuda.intrinsics import thread_index
from nbconv_kernels.cuda.memory import Array, check_float, check_same_shape, empty_as, whole
from nbconv_kernels.cuda.reduction import team_maximum, team_shift, team_sum
from nbconv_kernels.cuda.target import f32s, float32, u32, uint32

_BLOCK = 256
_LEAST = -math.inf


@device_function
def line_of(lines, length, inner, shift) -> Any:
    """(whether there is a line for this thread, its first element for it, the step to its next, the end)."""
    line = uint32(thread_index() >> shift)
    exists = line < lines
    line = line if exists else uint32(0)  # lanes without a line go along, for the others' sake
    lane = uint32(thread_index() & uint32(uint32(uint32(1) << shift) - uint32(1)))
    outer = uint32(line // inner)
    base = uint32(uint32(uint32(outer * length) * inner) + uint32(line - uint32(outer * inner)))
    first = uint32(base + uint32(lane * inner))
    return exists, first, uint32(inner << shift), uint32(base + uint32(length * inner))


@device_function
def line_exponentials(x, first, step, end, shift) -> Any:
    """The maximum of a line, NaN aside, and the sum of exp(x - maximum), which any NaN makes NaN."""
    most = float32(_LEAST)
    i = first
    while i < end:
        most = x[i] if x[i] > most else most
        i = uint32(i + step)
    most = team_maximum(most, shift)
    total = float32(0)
    i = first
    while i < end:
        total += math.exp(x[i] - most)
        i = uint32(i + step)
    return most, team_sum(total, shift)


@kernel(block=_BLOCK)
def _softmax(x: f32s, y: f32s, lines: u32, length: u32, inner: u32, shift: u32):
    exists, first, step, end = line_of(lines, length, inner, shift)
    most, total = line_exponentials(x, first, step, end, shift)
    scale = float32(1) / total
    if exists:
        i = first
        while i < end:
            y[i] = math.exp(x[i] - most) * scale
            i = uint32(i + step)


def softmax(x: Array, axis: int = 1) -> Array:
    """e^x along ``axis``, divided by its sum.

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: when ``x`` has no such axis.
    """
    return along_lines("softmax", _softmax, axis, x=x)


@kernel(block=_BLOCK)
def _softmax_backward(dy: f32s, y: f32s, dx: f32s, lines: u32, length: u32, inner: u32, shift: u32):
    exists, first, step, end = line_of(lines, length, inner, shift)
    product = float32(0)
    i = first
    while i < end:
        product += dy[i] * y[i]
        i = uint32(i + step)
    product = team_sum(product, shift)
    if exists:
        i = first
        while i < end:
            dx[i] = y[i] * (dy[i] - product)
            i = uint32(i + step)


def softmax_backward(dy: Array, y: Array, axis: int = 1) -> Array:
    """Gradient of the input of a softmax along ``axis`` with output ``y``.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ or there is no such axis.
    """
    return along_lines("softmax_backward", _softmax_backward, axis, dy=dy, y=y)


def along_lines(op: str, launch: Kernel, axis: int, **arrays: Array) -> Array:
    """A kernel over the lines along ``axis`` of arrays of one shape, into a new array."""
    check_float(op, *arrays.values())
    check_same_shape(op, **arrays)
    x = next(iter(arrays.values()))
    outer, length, inner = _extents(op, x.shape, axis)
    y = empty_as(x)
    if x.size:
        lines, shift = outer * inner, team_shift(length) if inner == 1 else 0
        grid = blocks(lines << shift, _BLOCK)
        launch[grid](*map(whole, arrays.values()), y, lines, length, inner, shift)
    return y


def _extents(op: str, shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """(outer, length, inner) of memory, channels last where it is 4-D, around ``axis``."""
    ndim = len(shape)
    place = operator.index(axis)
    if not -ndim <= place < ndim:
        raise ValueError(f"{op}: expected an axis of the shape {shape}, got {axis}")
    place %= ndim
    if ndim == 4:
        shape = (shape[0], shape[2], shape[3], shape[1])
        place = (0, 3, 1, 2)[place]
    return prod(shape[:place]), shape[place], prod(shape[place + 1 :])
