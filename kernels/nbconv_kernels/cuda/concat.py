"""Channels side by side, and apart again: what Inception and DenseNet do between their convolutions.

In channels-last memory (N, H, W, C) an array is a matrix of pixels by channels, and each part of a
concatenation a range of its columns: all ops here move, or add, such a range to another matrix. With other
than four axes, the rows are the samples, and a channel is as many elements long as the axes behind it have.

A thread has one element of the range, or four in 128-bit accesses where ranges and rows are multiples of
four; it divides once, to tell the row from the column.

Limit: memory bandwidth.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from math import prod

from nbconv_kernels.cuda.build import blocks, kernel
from nbconv_kernels.cuda.intrinsics import load4, store4, thread_index
from nbconv_kernels.cuda.layout import accumulate
from nbconv_kernels.cuda.memory import (
    Array,
    check_float,
    check_writeable,
    empty,
    empty_nchw,
    is_whole,
    whole,
)
from nbconv_kernels.cuda.target import f32s, u32, uint32

__all__ = ["accumulate_channels", "concat", "put_channels", "split", "take_channels"]

_BLOCK = 256


@kernel(block=_BLOCK)
def _move(
    x: f32s,
    x_first: u32,
    x_width: u32,
    y: f32s,
    y_first: u32,
    y_width: u32,
    run: u32,
    n: u32,
    step: u32,
    add: u32,
):
    i = uint32(step * thread_index())
    if i >= n:
        return
    row = uint32(i // run)
    column = uint32(i - uint32(row * run))
    source = uint32(uint32(uint32(row * x_width) + x_first) + column)
    target = uint32(uint32(uint32(row * y_width) + y_first) + column)
    if step == uint32(4):
        a, b, c, d = load4(x, source)
        if add != uint32(0):
            e, f, g, h = load4(y, target)
            a, b, c, d = e + a, f + b, g + c, h + d
        store4(y, target, a, b, c, d)
    elif add != uint32(0):
        y[target] = y[target] + x[source]
    else:
        y[target] = x[source]


def _columns(x: Array, x_first: int, y: Array, y_first: int, count: int, add: bool = False) -> None:
    """Move or add ``count`` channels of ``x``, from ``x_first`` on, to those of ``y`` from ``y_first`` on."""
    length = 1 if x.ndim == 4 else prod(x.shape[2:])
    rows = prod(x.shape[2:]) * x.shape[0] if x.ndim == 4 else x.shape[0]
    places = tuple(channels * length for channels in (x_first, x.shape[1], y_first, y.shape[1], count))
    n = rows * places[-1]
    if n:
        step = 1 if any(place % 4 for place in places) else 4
        _move[blocks(n, step * _BLOCK)](whole(x), *places[:2], y, *places[2:], n, step, int(add))


def _empty(x: Array, channels: int) -> Array:
    """An array of the shape of ``x``, but with so many channels."""
    n, _, *size = x.shape
    return empty_nchw(x, n, channels, *size) if len(size) == 2 else empty(x, (n, channels, *size))


def concat(arrays: Sequence[Array], channels: int | None = None) -> Array:
    """The arrays (N, C1, ...), (N, C2, ...), ... as one (N, C1 + C2 + ..., ...).

    With ``channels`` it has that many, and those behind the arrays' are zero: room to put more.

    Returns:
        A new array.

    Raises:
        TypeError: if the arrays are not all float32.
        ValueError: if one has fewer than two axes, the shapes differ by more than the channels, or they are
            more than ``channels``.
    """
    arrays = list(arrays)
    check_float("concat", *arrays)
    if arrays[0].ndim < 2 or len({(x.ndim, x.shape[0], *x.shape[2:]) for x in arrays}) > 1:
        shapes = ", ".join(str(x.shape) for x in arrays)
        raise ValueError(f"concat: expected arrays (N, C, ...) that differ in C only, got shapes {shapes}")
    count = sum(x.shape[1] for x in arrays)
    room = count if channels is None else operator.index(channels)
    if room < count:
        raise ValueError(f"concat: {count} channels have no room in {room}")
    y = _empty(arrays[0], room)
    first = 0
    for x in arrays:
        _columns(x, 0, y, first, x.shape[1])
        first += x.shape[1]
    if room > count:
        y[:, count:] = 0
    return y


def split(x: Array, channels: Sequence[int]) -> list[Array]:
    """The inverse and the gradient of ``concat``: parts of (N, C, ...) with so many ``channels`` each.

    Returns:
        New arrays.

    Raises:
        TypeError: if ``x`` is not float32.
        ValueError: if it has fewer than two axes, or the channels do not add up to its own.
    """
    check_float("split", x)
    sizes = [operator.index(count) for count in channels]
    if x.ndim < 2 or min(sizes, default=-1) < 0 or sum(sizes) != x.shape[1]:
        raise ValueError(f"split: cannot part an array of shape {x.shape} into {sizes} channels")
    firsts = itertools.accumulate([0, *sizes[:-1]])
    return [take_channels(x, first, count) for first, count in zip(firsts, sizes, strict=True)]


def take_channels(x: Array, first: int, count: int) -> Array:
    """``x[:, first : first + count]`` as a new array.

    Raises:
        TypeError: if ``x`` is not float32.
        ValueError: if it has fewer than two axes or no such channels.
    """
    check_float("take_channels", x)
    first, count = _range("take_channels", x, first, count)
    y = _empty(x, count)
    _columns(x, first, y, 0, count)
    return y


def put_channels(into: Array, x: Array, first: int) -> None:
    """``into[:, first : first + C] = x`` in place, C being the channels of ``x``; ``into`` has them and more.

    Raises:
        TypeError: if the arrays are not both float32.
        ValueError: if they do not fit together or ``into`` is read-only.
    """
    first, count = _check("put_channels", into, x, into, first, x)
    if is_whole(into):
        _columns(x, 0, into, first, count)
    else:
        into[:, first : first + count] = x


def accumulate_channels(into: Array, x: Array, first: int) -> None:
    """``into += x[:, first : first + C]`` in place, C being the channels of ``into``; x has these and more.

    Raises:
        TypeError: if the arrays are not both float32.
        ValueError: if they do not fit together or ``into`` is read-only.
    """
    first, count = _check("accumulate_channels", into, x, x, first, into)
    if is_whole(into):
        _columns(x, first, into, 0, count, add=True)
    else:
        accumulate(into, take_channels(x, first, count))


def _check(op: str, into: Array, x: Array, wide: Array, first: int, narrow: Array) -> tuple[int, int]:
    """The range of channels of ``wide`` that those of ``narrow`` are."""
    check_float(op, into, x)
    if into.ndim < 2 or into.ndim != x.ndim or (into.shape[0], *into.shape[2:]) != (x.shape[0], *x.shape[2:]):
        raise ValueError(
            f"{op}: expected arrays (N, C, ...) that differ in C only, got shapes {into.shape} and {x.shape}"
        )
    check_writeable(op, into)
    return _range(op, wide, first, narrow.shape[1])


def _range(op: str, x: Array, first: int, count: int) -> tuple[int, int]:
    first, count = operator.index(first), operator.index(count)
    if x.ndim < 2 or min(first, count) < 0 or first + count > x.shape[1]:
        raise ValueError(f"{op}: an array of shape {x.shape} has no channels {first} to {first + count}")
    return first, count
