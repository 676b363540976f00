"""Layout and plain arithmetic of arrays: conversions, flattening, addition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbconv_kernels.reference.memory import Array, check_float, check_rank, check_shape, laid_out, quiet


def asarray(x: Any, dtype: Any = None) -> Array:
    """``x`` as an array of this backend, copied only if it must be."""
    return np.asarray(x, dtype=dtype)


def to_numpy(x: Array) -> Array:
    """An array of this backend as a NumPy array: itself."""
    return np.asarray(x)


def empty_like(x: Array, shape: tuple[int, ...]) -> Array:
    """An array of ``shape`` of the dtype of ``x`` and in the layout of results, its values undefined."""
    return laid_out(np.empty(shape, x.dtype))


def channels_last(x: Array) -> Array:
    """``x`` (N, C, H, W) over channels-last memory, copied unless it has that already.

    Raises:
        ValueError: if x has not four axes.
    """
    check_rank("channels_last", "an array", x, "(N, C, H, W)")
    return laid_out(x)


def flatten(x: Array) -> Array:
    """``x`` (N, C, H, W) as (N, C * H * W), in (C, H, W) order, C-contiguous.

    Raises:
        ValueError: if x has fewer than two axes.
    """
    if x.ndim < 2:
        raise ValueError(f"flatten: expected an array of shape (N, ...), got shape {x.shape}")
    # The product is spelt out because reshape cannot infer a size beside an empty batch.
    return np.ascontiguousarray(x).reshape(x.shape[0], math.prod(x.shape[1:]))


def unflatten(y: Array, shape: tuple[int, ...]) -> Array:
    """The inverse and the gradient of ``flatten``: y (N, C * H * W) as ``shape`` (N, C, H, W), channels-last.

    Raises:
        ValueError: if y does not fit the shape.
    """
    check_shape("unflatten", "an array", y, (shape[0], math.prod(shape[1:])))
    return laid_out(y.reshape(shape))


@quiet
def add(a: Array, b: Array) -> Array:
    """``a + b``, for arrays of one shape.

    Raises:
        ValueError: if the shapes differ.
        TypeError: if they are not both float32 or both float64.
    """
    check_float("add", a, b)
    if a.shape != b.shape:
        raise ValueError(f"add: expected arrays of one shape, got {a.shape} and {b.shape}")
    return laid_out(a + b)


@quiet
def accumulate(into: Array, value: Array) -> None:
    """``into += value`` in place, for arrays of one shape.

    Raises:
        ValueError: if the shapes differ.
        TypeError: if they are not both float32 or both float64.
    """
    check_float("accumulate", into, value)
    if into.shape != value.shape:
        raise ValueError(f"accumulate: expected arrays of one shape, got {into.shape} and {value.shape}")
    into += value
