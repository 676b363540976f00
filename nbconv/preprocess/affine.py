"""Preprocessing of each element by itself: the mean subtracted, the standard deviation divided by.

All of it is batch normalisation with constants, on images as they are or, where each pixel has its own mean,
on rows whose "channels" are all the elements of an image; so every backend has it.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import numpy as np

from nbconv.layers.base import Layer
from nbconv.layers.state import buffer
from nbconv.layers.validate import positive_integer
from nbconv.preprocess.moments import Data, Moments, channel_moments, element_moments
from nbconv.typing import Array, Backprop, Shape


class _Constants(Layer):
    """Base of layers that subtract a constant from each element, and perhaps divide it by another."""

    def __init__(self, shape: int | Shape) -> None:
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        if len(sizes) not in (1, 3):
            raise self.error(f"shape must be (C,) or (C, H, W), got {shape!r}")
        self.shape = tuple(positive_integer(size, "shape") for size in sizes)
        self.mean: Array = buffer(self.shape, np.nan, self.dtype)
        self.std: Array | None = None

    @classmethod
    def _fitted(cls, moments: Moments) -> Self:
        layer = cls(moments.mean.shape)
        layer.mean = moments.mean.astype(layer.dtype, order="C")
        if layer.std is not None:
            deviation = np.sqrt(moments.spread)
            # What rounding leaves of a constant is no deviation.
            constant = deviation <= 1e-12 * np.abs(moments.mean)
            layer.std = np.where(constant, 1, deviation).astype(layer.dtype)
        return layer

    def output_shape(self, input_shape: Shape) -> Shape:
        wanted = (len(self.shape) == 3 and input_shape[1:] == self.shape) or (
            len(self.shape) == 1 and len(input_shape) in (2, 4) and input_shape[1:2] == self.shape
        )
        if not wanted:
            needed = ", ".join(map(str, self.shape)) + ("" if len(self.shape) == 3 else ", ...")
            raise self.error(f"expected an input of shape (N, {needed}), got {input_shape}")
        return input_shape

    @property
    def output_is_free(self) -> bool:
        return True

    def infer(self, x: Array) -> Array:
        self.check(x)
        return self._normalised(x, self.mean)

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y = self.infer(x)

        def backprop(dy: Array) -> Array | None:
            if not input_grad or self.std is None:
                return dy if input_grad else None
            return self._normalised(dy, self.mean - self.mean)

        return y, backprop

    def _normalised(self, x: Array, mean: Array) -> Array:
        rows, vectors = x, [mean] if self.std is None else [mean, 1 / self.std]
        if len(self.shape) == 3:
            elements = math.prod(self.shape)
            rows = x.transpose(0, 2, 3, 1).reshape(len(x), elements, 1, 1)
            vectors = [vector.transpose(1, 2, 0).reshape(elements) for vector in vectors]
        elif x.ndim == 2:
            rows = x[:, :, None, None]
        constant, *scale = vectors
        ones = constant * 0 + 1
        y: Array = self.ops.batch_norm2d(rows, constant, ones, *scale, eps=0.0)
        if len(self.shape) == 3:
            c, h, w = self.shape
            return y.reshape(len(x), h, w, c).transpose(0, 3, 1, 2)
        return y.reshape(x.shape) if x.ndim == 2 else y


class MeanImage(_Constants):
    """The mean image of the training data subtracted: from each pixel that pixel's mean.

    Input and output (N, C, H, W) or (N, F). A layer that is not fitted gives NaN.

    Args:
        shape: of one example, (C, H, W) or (F,).

    Source: CS4670.
    """

    buffer_names: ClassVar[tuple[str, ...]] = ("mean",)

    @classmethod
    def fit(cls, x: Data) -> Self:
        """A layer with the mean of ``x``, the training data: inputs (N, ...), or a ``DataLoader``.

        Raises:
            DataError: when there are no examples, or they are not finite numbers of floating point.
        """
        return cls._fitted(element_moments(cls.__name__, x))


class ChannelMean(_Constants):
    """The mean of each channel of the training data subtracted.

    Input and output (N, C, H, W) of any size, or (N, F). A layer that is not fitted gives NaN.

    Args:
        shape: (C,) or (F,), the number of channels or features.

    Source: CS4670.
    """

    buffer_names: ClassVar[tuple[str, ...]] = ("mean",)

    @classmethod
    def fit(cls, x: Data) -> Self:
        """A layer with the mean of ``x``; see :meth:`MeanImage.fit`."""
        return cls._fitted(channel_moments(cls.__name__, x))


class Standardize(_Constants):
    """``(x - mean) / std``, with constants measured on the training data.

    Input and output (N, C, H, W) or (N, F). With constants of shape (C,) images may have any size. A layer
    that is not fitted gives NaN.

    Args:
        shape: of the constants: (C,), one for each channel or feature, or (C, H, W), one for each pixel.

    Source: CS4670.
    """

    buffer_names: ClassVar[tuple[str, ...]] = ("mean", "std")

    def __init__(self, shape: int | Shape) -> None:
        super().__init__(shape)
        self.std = buffer(self.shape, 1.0, self.dtype)

    @classmethod
    def fit(cls, x: Data, per: str = "channel") -> Self:
        """A layer with mean and standard deviation of ``x``; 1 for the latter where ``x`` is constant.

        Args:
            x: the training data: inputs (N, ...) of floating point, or a ``DataLoader``.
            per: "channel", or "pixel" for constants of each pixel's own.

        Raises:
            DataError: when there are no examples, or they are not finite numbers of floating point.
            ValueError: for another ``per``.
        """
        if per not in ("channel", "pixel"):
            raise ValueError(f"{cls.__name__}.fit: per must be 'channel' or 'pixel', got {per!r}")
        return cls._fitted((channel_moments if per == "channel" else element_moments)(cls.__name__, x))
