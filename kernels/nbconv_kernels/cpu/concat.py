"""Channels side by side, and apart again: what Inception and DenseNet do between their convolutions.

In channels-last memory (N, H, W, C) an array is a matrix of pixels by channels, and each part of a
concatenation a range of its columns: all ops here move, or add, such a range to another matrix. With other
than four axes, the rows are the samples, and a channel is as many elements long as the axes behind it have.

Limit: memory bandwidth.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from math import prod

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float, empty, empty_nchw
from nbconv_kernels.cpu.tasks import row_of, task_count

__all__ = ["accumulate_channels", "concat", "put_channels", "split", "take_channels"]


@kernel
def _move_task(task, n_tasks, x, x_first, x_width, y, y_first, y_width, rows, run, add):
    for row in range(rows * task // n_tasks, rows * (task + 1) // n_tasks):
        source, target = row * x_width + x_first, row * y_width + y_first
        values, out = x[source : source + run], y[target : target + run]
        if add:
            for i in range(run):
                out[i] += values[i]
        else:
            for i in range(run):
                out[i] = values[i]


@kernel
def _move(n_tasks, x, x_first, x_width, y, y_first, y_width, rows, run, add, n_threads):
    arguments = (n_tasks, x, x_first, x_width, y, y_first, y_width, rows, run, add)
    parallel_for(_move_task, n_tasks, n_threads, arguments)


def _columns(x: Array, x_first: int, y: Array, y_first: int, count: int, add: bool = False) -> None:
    """Move or add ``count`` channels of ``x``, from ``x_first`` on, to those of ``y`` from ``y_first`` on."""
    length = 1 if x.ndim == 4 else prod(x.shape[2:])
    rows = prod(x.shape[2:]) * x.shape[0] if x.ndim == 4 else x.shape[0]
    source = (row_of(x), x_first * length, x.shape[1] * length)
    target = (row_of(y), y_first * length, y.shape[1] * length)
    run = count * length
    _move(task_count(rows * run), *source, *target, rows, run, add, get_num_threads())


def _empty(shape: tuple[int, ...], channels: int, dtype: np.typing.DTypeLike) -> Array:
    """An array of that shape, but with so many channels."""
    n, _, *size = shape
    return empty_nchw(n, channels, *size, dtype) if len(size) == 2 else empty((n, channels, *size), dtype)


def concat(arrays: Sequence[Array], channels: int | None = None) -> Array:
    """The arrays (N, C1, ...), (N, C2, ...), ... as one (N, C1 + C2 + ..., ...).

    With ``channels`` it has that many, and those behind the arrays' are zero: room to put more.

    Returns:
        A new array.

    Raises:
        TypeError: if the arrays are not all float32 or all float64.
        ValueError: if one has fewer than two axes, the shapes differ by more than the channels, or they are
            more than ``channels``.
    """
    arrays = list(arrays)
    dtype = check_float("concat", *arrays)
    if arrays[0].ndim < 2 or len({(x.ndim, x.shape[0], *x.shape[2:]) for x in arrays}) > 1:
        shapes = ", ".join(str(x.shape) for x in arrays)
        raise ValueError(f"concat: expected arrays (N, C, ...) that differ in C only, got shapes {shapes}")
    count = sum(x.shape[1] for x in arrays)
    whole = count if channels is None else operator.index(channels)
    if whole < count:
        raise ValueError(f"concat: {count} channels have no room in {whole}")
    y = _empty(arrays[0].shape, whole, dtype)
    first = 0
    for x in arrays:
        _columns(x, 0, y, first, x.shape[1])
        first += x.shape[1]
    y[:, count:] = 0
    return y


def split(x: Array, channels: Sequence[int]) -> list[Array]:
    """The inverse and the gradient of ``concat``: parts of (N, C, ...) with so many ``channels`` each.

    Returns:
        New arrays.

    Raises:
        TypeError: if ``x`` is neither float32 nor float64.
        ValueError: if it has fewer than two axes, or the channels do not add up to its own.
    """
    check_float("split", x)
    sizes = [operator.index(count) for count in channels]
    if x.ndim < 2 or min(sizes, default=-1) < 0 or sum(sizes) != x.shape[1]:
        raise ValueError(f"split: cannot part an array of shape {x.shape} into {sizes} channels")
    firsts = np.cumsum([0, *sizes[:-1]]).tolist()
    return [take_channels(x, first, count) for first, count in zip(firsts, sizes, strict=True)]


def take_channels(x: Array, first: int, count: int) -> Array:
    """``x[:, first : first + count]`` as a new array.

    Raises:
        TypeError: if ``x`` is neither float32 nor float64.
        ValueError: if it has fewer than two axes or no such channels.
    """
    dtype = check_float("take_channels", x)
    first, count = _range("take_channels", x, first, count)
    y = _empty(x.shape, count, dtype)
    _columns(x, first, y, 0, count)
    return y


def put_channels(into: Array, x: Array, first: int) -> None:
    """``into[:, first : first + C] = x`` in place, C being the channels of ``x``; ``into`` has them and more.

    Raises:
        TypeError: if the arrays are not both float32 or both float64.
        ValueError: if they do not fit together or ``into`` is read-only.
    """
    first, count = _check("put_channels", into, x, into, first, x)
    if _has_own_layout(into):
        _columns(x, 0, into, first, count)
    else:
        into[:, first : first + count] = x


def accumulate_channels(into: Array, x: Array, first: int) -> None:
    """``into += x[:, first : first + C]`` in place, C being the channels of ``into``; x has these and more.

    Raises:
        TypeError: if the arrays are not both float32 or both float64.
        ValueError: if they do not fit together or ``into`` is read-only.
    """
    first, count = _check("accumulate_channels", into, x, x, first, into)
    if _has_own_layout(into):
        _columns(x, first, into, 0, count, add=True)
    else:
        np.add(into, x[:, first : first + count], out=into)


def _check(op: str, into: Array, x: Array, wide: Array, first: int, narrow: Array) -> tuple[int, int]:
    """The range of channels of ``wide`` that those of ``narrow`` are."""
    check_float(op, into, x)
    if into.ndim < 2 or into.ndim != x.ndim or (into.shape[0], *into.shape[2:]) != (x.shape[0], *x.shape[2:]):
        raise ValueError(
            f"{op}: expected arrays (N, C, ...) that differ in C only, got shapes {into.shape} and {x.shape}"
        )
    if not into.flags.writeable:
        raise ValueError(f"{op}: expected an array that can be written to, got a read-only one")
    return _range(op, wide, first, narrow.shape[1])


def _has_own_layout(x: Array) -> bool:
    """Whether ``row_of`` is a view."""
    return bool((x.transpose(0, 2, 3, 1) if x.ndim == 4 else x).flags.c_contiguous)


def _range(op: str, x: Array, first: int, count: int) -> tuple[int, int]:
    first, count = operator.index(first), operator.index(count)
    if x.ndim < 2 or min(first, count) < 0 or first + count > x.shape[1]:
        raise ValueError(f"{op}: an array of shape {x.shape} has no channels {first} to {first + count}")
    return first, count
