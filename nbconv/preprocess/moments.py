"""Mean and covariance of data that come in portions.

Portions are joined by Chan's formulas: with n_a and n_b examples of means m_a and m_b, and d = m_b - m_a, the
mean is m_a + d n_b / n and the sum of squared deviations S_a + S_b + d d' n_a n_b / n. All is float64.

Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
1979.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from nbconv import backends
from nbconv.errors import DataError
from nbconv.typing import Array, Shape

_ROWS = 1024  # of a portion of an array: small beside the array, large beside the cost of a call

Data = Array | Iterable[tuple[Array, Array]]
"""Inputs (N, ...) of floating point, or batches (x, y) such as a ``DataLoader`` gives."""


class Moments(NamedTuple):
    """What all examples have in common.

    Attributes:
        shape: of one example.
        mean: (C, H, W) or (F,); of channels (C,).
        spread: the biased variance of each element, like ``mean``; or the covariance of all, (D, D), elements
            in the order (C, H, W).
    """

    shape: Shape
    mean: Array
    spread: Array


@np.errstate(invalid="ignore", over="ignore")
def element_moments(name: str, data: Data) -> Moments:
    """Mean and variance of each element over the examples.

    Raises:
        DataError: when there are no examples, or they are not finite numbers of floating point; the message
            begins with ``name``.
    """
    count, mean, squares = 0, np.zeros(()), np.zeros(())
    shape: Shape = ()
    for x in _portions(name, data):
        shape = x.shape[1:]
        own = x.mean(axis=0)
        away, n = own - mean, len(x)
        squares = squares + ((x - own) ** 2).sum(axis=0) + away**2 * (count * n / (count + n))
        mean = mean + away * (n / (count + n))
        count += n
    return _checked(name, count, shape, mean, squares)


def channel_moments(name: str, data: Data) -> Moments:
    """Mean and variance of each channel over the examples and their pixels.

    Raises:
        DataError: as :func:`element_moments`.
    """
    shape, mean, variance = element_moments(name, data)
    pixels = tuple(range(1, len(shape)))
    channel = mean.mean(axis=pixels, keepdims=True)
    spread = variance.mean(axis=pixels) + ((mean - channel) ** 2).mean(axis=pixels)
    return Moments(shape, channel.reshape(-1), spread)


@np.errstate(invalid="ignore", over="ignore")
def covariance(name: str, data: Data) -> Moments:
    """Mean of each element and biased covariance of all.

    Raises:
        DataError: as :func:`element_moments`.
    """
    count, mean, products = 0, np.zeros(()), np.zeros(())
    shape: Shape = ()
    for x in _portions(name, data):
        shape, n = x.shape[1:], len(x)
        flat = x.reshape(n, -1)
        own = flat.mean(axis=0)
        away = own - mean
        flat = flat - own
        products = products + flat.T @ flat + np.outer(away, away) * (count * n / (count + n))
        mean = mean + away * (n / (count + n))
        count += n
    return _checked(name, count, shape, mean.reshape(shape), products)


def _checked(name: str, count: int, shape: Shape, mean: Array, sums: Array) -> Moments:
    if not count:
        raise DataError(f"{name}.fit: there are no examples")
    if not np.isfinite(mean).all():
        raise DataError(f"{name}.fit: the inputs hold NaN or infinity")
    return Moments(shape, mean, sums / count)


def _portions(name: str, data: Data) -> Iterator[Array]:
    """The inputs in float64, some rows at a time, each (C, H, W) in C order."""
    inputs = _batches(name, data) if _gives_batches(data) else [backends.array_of(data)]
    shape: Shape | None = None
    for x in inputs:
        if x.dtype.kind != "f":
            hint = (
                "; divide images of 0 to 255 by 255, as the model gets them" if x.dtype.kind in "iu" else ""
            )
            raise DataError(f"{name}.fit: expected inputs of floating point, got {x.dtype}{hint}")
        if x.ndim not in (2, 4) or (shape is not None and x.shape[1:] != shape):
            wanted = "(N, C, H, W) or (N, F)" if shape is None else f"(N, {str(shape)[1:]}"
            raise DataError(f"{name}.fit: expected inputs of shape {wanted}, got {x.shape}")
        shape = x.shape[1:]
        for start in range(0, len(x), _ROWS):
            yield np.ascontiguousarray(backends.to_numpy(x[start : start + _ROWS]), np.float64)


def _gives_batches(data: Any) -> bool:
    """Whether something gives batches one after another, instead of making an array."""
    if isinstance(data, list | tuple):
        return not data or isinstance(data[0], tuple)
    return isinstance(data, Iterable) and not hasattr(data, "__array__")


def _batches(name: str, data: Iterable[Any]) -> Iterator[Array]:
    for batch in data:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            kind = type(batch).__name__
            raise DataError(f"{name}.fit: expected inputs, or batches (x, y), got a batch that is a {kind}")
        yield backends.array_of(batch[0])
