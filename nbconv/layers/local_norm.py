"""Normalisation of each element by its neighbours, as networks had it before batch normalisation."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

from typing import Any

import numpy as np

from nbconv.layers.base import Layer
from nbconv.layers.receptive import Span, window_span
from nbconv.layers.validate import positive_integer
from nbconv.typing import Array, Backprop, Shape


class _ImageLayer(Layer):
    """Base of layers without parameters that keep the shape (N, C, H, W)."""

    @property
    def output_is_free(self) -> bool:
        return True

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 4:
            raise self.error(f"expected an input of shape (N, C, H, W), got {input_shape}")
        return input_shape


class LocalResponseNorm(_ImageLayer):
    """Each element divided by a power of the energy of the channels around it: AlexNet's NORM.

    ``y = x / (k + alpha / size * sum of x^2 over size channels) ^ beta``, input and output (N, C, H, W).
    PyTorch's definition: the paper's alpha has no division by the size.

    Args:
        size: channels that are summed, the element's own in the middle.
        alpha: factor of their mean square.
        beta: exponent.
        k: keeps the division from 0.

    Source: Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", 2012.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.size = positive_integer(size, "size")
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.k = float(k)

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.local_response_norm(x, *self._settings)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y, ops, settings = self.infer(x), self.ops, self._settings

        def backprop(dy: Array) -> Array | None:
            return ops.local_response_norm_backward(dy, x, *settings) if input_grad else None

        return y, backprop

    @property
    def _settings(self) -> tuple[int, float, float, float]:
        return self.size, self.alpha, self.beta, self.k


class _GaussianWindow(_ImageLayer):
    """Base of layers that look at a weighted window of all channels."""

    def __init__(self, kernel_size: int = 9, sigma: float | None = None) -> None:
        self.kernel_size = positive_integer(kernel_size, "kernel_size")
        self.sigma = None if sigma is None else float(sigma)
        if self.kernel_size % 2 == 0:
            raise self.error(f"kernel_size must be odd, for a window with a middle, got {kernel_size}")
        spread = self.kernel_size / 4 if self.sigma is None else self.sigma
        if not spread > 0:
            raise self.error(f"sigma must be positive, got {sigma!r}")
        distance = np.arange(self.kernel_size) - self.kernel_size // 2
        along = np.exp(-0.5 * np.square(distance / spread))
        self._window = np.outer(along, along) / along.sum() ** 2

    def input_span(self, span: Span, axis: int) -> Span | None:
        return window_span(span, self.kernel_size, before=self.kernel_size // 2)


class SubtractiveNorm(_GaussianWindow):
    """Each element less the mean of its neighbourhood, over all channels, weighted by a Gaussian window.

    Input and output (N, C, H, W). At the border the mean is that of the window's part inside.

    Args:
        kernel_size: of the window, odd.
        sigma: standard deviation of the Gaussian in pixels; by default a quarter of the window, and math.inf
            weighs all alike.

    Source: Jarrett et al., "What is the best multi-stage architecture for object recognition?", 2009; ZFNet.
    """

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.subtractive_norm(x, self._window)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y, ops, window = self.infer(x), self.ops, self._window

        def backprop(dy: Array) -> Array | None:
            return ops.subtractive_norm_backward(dy, window) if input_grad else None

        return y, backprop


class DivisiveNorm(_GaussianWindow):
    """Each element divided by the deviation of its neighbourhood, or of the image's mean one if that is more.

    The deviation is the root of the mean square over all channels, weighted by a Gaussian window. Input and
    output (N, C, H, W).

    Args:
        kernel_size: of the window, odd.
        sigma: as in :class:`SubtractiveNorm`.
        eps: the smallest number that is divided by.

    Source: Jarrett et al., "What is the best multi-stage architecture for object recognition?", 2009; ZFNet.
    """

    def __init__(self, kernel_size: int = 9, sigma: float | None = None, eps: float = 1e-4) -> None:
        super().__init__(kernel_size, sigma)
        self.eps = float(eps)
        if not self.eps > 0:
            raise self.error(f"eps must be positive, got {eps!r}")

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.divisive_norm(x, self._window, self.eps)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        self.check(x)
        ops, settings = self.ops, (self._window, self.eps)
        y: Array = ops.divisive_norm(x, *settings)

        def backprop(dy: Array) -> Array | None:
            return ops.divisive_norm_backward(dy, x, *settings) if input_grad else None

        return y, backprop


class ContrastNorm(DivisiveNorm):
    """Local contrast normalisation: a :class:`SubtractiveNorm`, then a :class:`DivisiveNorm`.

    Args:
        kernel_size: of both windows, odd.
        sigma: as in :class:`SubtractiveNorm`.
        eps: the smallest number that is divided by.

    Source: Jarrett et al., "What is the best multi-stage architecture for object recognition?", 2009; ZFNet.
    """

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.divisive_norm(self.ops.subtractive_norm(x, self._window), self._window, self.eps)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        self.check(x)
        ops, window = self.ops, self._window
        y, divisive = super().forward(ops.subtractive_norm(x, window), training, input_grad=input_grad)

        def backprop(dy: Array) -> Array | None:
            dx: Any = divisive(dy)
            return None if dx is None else ops.subtractive_norm_backward(dx, window)

        return y, backprop

    def input_span(self, span: Span, axis: int) -> Span | None:
        return window_span(span, 2 * self.kernel_size - 1, before=self.kernel_size - 1)
