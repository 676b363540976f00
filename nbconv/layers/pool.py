"""Pooling: each output looks at one window of one channel."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

import operator

from nbconv.layers.base import Layer
from nbconv.layers.receptive import Span, window_span
from nbconv.layers.validate import positive_pair
from nbconv.typing import Array, Backprop, Pair, Shape
from nbconv_kernels.geometry import adaptive_output_size, nchw, pair, pool2d_geometry


class MaxPool2d(Layer):
    """The largest value of each window; its gradient goes to the place that value came from.

    Input (N, C, H, W), output (N, C, P, Q). Of equal values the first in row order counts, and NaN is larger
    than every number, as in PyTorch.

    Args:
        kernel_size: of the window; an integer or (height, width), like the next three.
        stride: steps between windows; by default the window's size.
        padding: elements around the input that never are the largest; at most half the window.
        dilation: distance between neighbouring elements of a window.
        ceil_mode: admit a last window that reaches over the edge.

    Raises:
        ValueError: for arguments that contradict each other.
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size = positive_pair(kernel_size, "kernel_size")
        self.stride = self.kernel_size if stride is None else positive_pair(stride, "stride")
        self.padding = pair(padding, "padding")
        self.dilation = positive_pair(dilation, "dilation")
        self.ceil_mode = bool(ceil_mode)
        self.window = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        _reject_bad_window(*self.window)

    def output_shape(self, input_shape: Shape) -> Shape:
        return _pooled_shape(self, input_shape, *self.window)

    def input_span(self, span: Span, axis: int) -> Span | None:
        window = self.kernel_size, self.stride, self.padding, self.dilation
        return window_span(span, *(value[axis] for value in window))

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.max_pool2d(x, *self.window)[0]
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y, _, backprop = self.forward_with_indices(x, training, input_grad=input_grad)
        return y, backprop

    def forward_rectified(self, x: Array, training: bool, input_grad: bool) -> tuple[Array, Backprop]:
        """This layer and a ReLU in front of it, which has fewer elements to look at behind it."""
        largest, _, through = self.forward_with_indices(x, training, input_grad=input_grad)
        ops = self.ops
        y: Array = ops.relu(largest)

        def backprop(dy: Array) -> Array | None:
            return through(ops.relu_backward(dy, y)) if input_grad else None

        return y, backprop

    def forward_with_indices(
        self, x: Array, training: bool = False, *, input_grad: bool = True
    ) -> tuple[Array, Array, Backprop]:
        """``forward`` that also tells where the maxima were, for a :class:`MaxUnpool2d`.

        Returns:
            (y, indices, backprop): the indices, int32 of the shape of ``y``, are row * W + column.
        """
        self.check(x)
        ops, input_shape = self.ops, x.shape
        y, indices = ops.max_pool2d(x, *self.window)

        def backprop(dy: Array) -> Array | None:
            return ops.max_pool2d_backward(dy, indices, input_shape) if input_grad else None

        return y, indices, backprop


class AvgPool2d(Layer):
    """The mean of each window.

    Input (N, C, H, W), output (N, C, P, Q).

    Args:
        kernel_size: of the window; an integer or (height, width), like the next two.
        stride: steps between windows; by default the window's size.
        padding: zeros around the input; at most half the window.
        ceil_mode: admit a last window that reaches over the edge.
        count_include_pad: whether padding counts as elements to divide by.
        divisor_override: divide by this instead of the number of elements.

    Raises:
        ValueError: for arguments that contradict each other.
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self.kernel_size = positive_pair(kernel_size, "kernel_size")
        self.stride = self.kernel_size if stride is None else positive_pair(stride, "stride")
        self.padding = pair(padding, "padding")
        self.ceil_mode = bool(ceil_mode)
        self.count_include_pad = bool(count_include_pad)
        self.divisor_override = None if divisor_override is None else operator.index(divisor_override)
        if self.divisor_override == 0:
            raise self.error("divisor_override must not be 0")
        _reject_bad_window(self.kernel_size, self.stride, self.padding, (1, 1), self.ceil_mode)
        self._window = (
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def output_shape(self, input_shape: Shape) -> Shape:
        kernel_size, stride, padding, ceil_mode = self._window[:4]
        return _pooled_shape(self, input_shape, kernel_size, stride, padding, (1, 1), ceil_mode)

    def input_span(self, span: Span, axis: int) -> Span | None:
        return window_span(span, self.kernel_size[axis], self.stride[axis], self.padding[axis])

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.avg_pool2d(x, *self._window)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y = self.infer(x)
        ops, input_shape, window = self.ops, x.shape, self._window

        def backprop(dy: Array) -> Array | None:
            return ops.avg_pool2d_backward(dy, input_shape, *window) if input_grad else None

        return y, backprop


class AdaptiveAvgPool2d(Layer):
    """Means over windows chosen such that the output has a given size.

    Input (N, C, H, W), output (N, C, *output_size). Windows overlap where the sizes do not divide.

    Args:
        output_size: an integer or (height, width); None keeps the input's.
    """

    def __init__(self, output_size: int | tuple[int | None, int | None] | None) -> None:
        given = tuple(output_size) if isinstance(output_size, list | tuple) else (output_size,) * 2
        sizes = adaptive_output_size((0, 1, 1, 1), given)
        self.output_size = tuple(
            None if wanted is None else size for wanted, size in zip(given, sizes, strict=True)
        )

    def output_shape(self, input_shape: Shape) -> Shape:
        try:
            return *input_shape[:2], *adaptive_output_size(input_shape, self.output_size)
        except ValueError as error:
            raise self.error(str(error)) from None

    def input_span(self, span: Span, axis: int) -> Span | None:
        return None

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.adaptive_avg_pool2d(x, self.output_size)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y = self.infer(x)
        ops, input_shape = self.ops, x.shape

        def backprop(dy: Array) -> Array | None:
            return ops.adaptive_avg_pool2d_backward(dy, input_shape) if input_grad else None

        return y, backprop


class GlobalAvgPool2d(Layer):
    """The mean of each channel: as many features as channels, whatever the image's size.

    Input (N, C, H, W), output (N, C), or (N, C, 1, 1) with ``keepdims``.

    Args:
        keepdims: keep the axes of height and width.

    Source: Lin et al., "Network in network", 2013.
    """

    def __init__(self, keepdims: bool = False) -> None:
        self.keepdims = bool(keepdims)

    def output_shape(self, input_shape: Shape) -> Shape:
        try:
            n, c, _, _ = nchw(input_shape)
        except ValueError as error:
            raise self.error(str(error)) from None
        return (n, c, 1, 1) if self.keepdims else (n, c)

    def input_span(self, span: Span, axis: int) -> Span | None:
        return None

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.adaptive_avg_pool2d(x, 1)
        return y if self.keepdims else y.reshape(x.shape[:2])

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y, ops, input_shape = self.infer(x), self.ops, x.shape

        def backprop(dy: Array) -> Array | None:
            if not input_grad:
                return None
            dx: Array = ops.adaptive_avg_pool2d_backward(dy.reshape(*input_shape[:2], 1, 1), input_shape)
            return dx

        return y, backprop


def _pooled_shape(
    layer: Layer,
    input_shape: Shape,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
) -> Shape:
    try:
        geometry = pool2d_geometry(input_shape, kernel_size, stride, padding, dilation, ceil_mode)
    except ValueError as error:
        raise layer.error(str(error)) from None
    return geometry.output_shape


def _reject_bad_window(
    kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> None:
    """Raise ValueError for a window that fits no input, not even one of its own span."""
    smallest = [d * (k - 1) + 1 for d, k in zip(dilation, kernel_size, strict=True)]
    pool2d_geometry((0, 1, *smallest), kernel_size, stride, padding, dilation, ceil_mode)
