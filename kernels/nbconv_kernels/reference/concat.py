"""Channels side by side, and apart again: what Inception and DenseNet do between their convolutions.

The gradient of a concatenation are the parts of dy. Results are new arrays, channels-last if they have four
axes, else C-contiguous.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from nbconv_kernels.reference.memory import Array, check_float, laid_out, quiet


def concat(arrays: Sequence[Array], channels: int | None = None) -> Array:
    """The arrays (N, C1, ...), (N, C2, ...), ... as one (N, C1 + C2 + ..., ...).

    With ``channels`` it has that many, and those behind the arrays' are zero: room to put more.

    Raises:
        ValueError: if one has fewer than two axes, the shapes differ by more than the channels, or they are
            more than ``channels``.
        TypeError: if the arrays are not all float32 or all float64.
    """
    arrays = list(arrays)
    check_float("concat", *arrays)
    if arrays[0].ndim < 2 or len({(x.ndim, x.shape[0], *x.shape[2:]) for x in arrays}) > 1:
        shapes = ", ".join(str(x.shape) for x in arrays)
        raise ValueError(f"concat: expected arrays (N, C, ...) that differ in C only, got shapes {shapes}")
    y = np.concatenate(arrays, axis=1)
    if channels is not None:
        n, count, *size = y.shape
        if operator.index(channels) < count:
            raise ValueError(f"concat: {count} channels have no room in {channels}")
        y = np.concatenate([y, np.zeros((n, operator.index(channels) - count, *size), y.dtype)], axis=1)
    return laid_out(y)


def split(x: Array, channels: Sequence[int]) -> list[Array]:
    """The inverse and the gradient of ``concat``: parts of x (N, C, ...) with so many ``channels`` each.

    Raises:
        ValueError: if x has fewer than two axes, or the channels do not add up to its own.
        TypeError: if x is neither float32 nor float64.
    """
    check_float("split", x)
    sizes = [operator.index(count) for count in channels]
    if x.ndim < 2 or min(sizes, default=-1) < 0 or sum(sizes) != x.shape[1]:
        raise ValueError(f"split: cannot part an array of shape {x.shape} into {sizes} channels")
    ends = np.cumsum(sizes)
    return [take_channels(x, end - count, count) for count, end in zip(sizes, ends, strict=True)]


def take_channels(x: Array, first: int, count: int) -> Array:
    """``x[:, first : first + count]`` as a new array.

    Raises:
        ValueError: if x has fewer than two axes or no such channels.
        TypeError: if x is neither float32 nor float64.
    """
    check_float("take_channels", x)
    first, count = _range("take_channels", x, first, count)
    return laid_out(x[:, first : first + count].copy())


def put_channels(into: Array, x: Array, first: int) -> None:
    """``into[:, first : first + C] = x`` in place, C being the channels of ``x``; ``into`` has them and more.

    Raises:
        ValueError: if the arrays do not fit together or ``into`` is read-only.
        TypeError: if they are not both float32 or both float64.
    """
    _check("put_channels", into, x)
    first, count = _range("put_channels", into, first, x.shape[1])
    into[:, first : first + count] = x


@quiet
def accumulate_channels(into: Array, x: Array, first: int) -> None:
    """``into += x[:, first : first + C]`` in place, C being the channels of ``into``; x has these and more.

    Raises:
        ValueError: if the arrays do not fit together or ``into`` is read-only.
        TypeError: if they are not both float32 or both float64.
    """
    _check("accumulate_channels", into, x)
    first, count = _range("accumulate_channels", x, first, into.shape[1])
    into += x[:, first : first + count]


def _check(op: str, into: Array, x: Array) -> None:
    check_float(op, into, x)
    if into.ndim < 2 or into.ndim != x.ndim or (into.shape[0], *into.shape[2:]) != (x.shape[0], *x.shape[2:]):
        raise ValueError(
            f"{op}: expected arrays (N, C, ...) that differ in C only, got shapes {into.shape} and {x.shape}"
        )


def _range(op: str, x: Array, first: int, count: int) -> tuple[int, int]:
    first, count = operator.index(first), operator.index(count)
    if x.ndim < 2 or min(first, count) < 0 or first + count > x.shape[1]:
        raise ValueError(f"{op}: an array of shape {x.shape} has no channels {first} to {first + count}")
    return first, count
