"""Transposed convolution."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

import math

from nbconv import initializers
from nbconv.initializers import Initializer
from nbconv.layers.base import Layer
from nbconv.layers.receptive import Span, transposed_span
from nbconv.layers.validate import positive_integer, positive_pair
from nbconv.parameter import Parameter
from nbconv.typing import Array, Backprop, Pair, Shape
from nbconv_kernels.geometry import Conv2dGeometry, conv_transpose2d_geometry, pair


class ConvTranspose2d(Layer):
    """The gradient of a convolution as a layer of its own: every pixel spreads over a window of the output.

    It enlarges images, and leads from what a convolution has found back to where it was. Input
    (N, in_channels, H, W), output (N, out_channels, P, Q) with, along each axis,
    ``P = (H - 1) stride - 2 padding + dilation (kernel - 1) + 1 + output_padding``.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of the kernel; an integer or (height, width), like the next three and dilation.
        stride: steps between the places that neighbouring pixels spread to.
        padding: rows and columns taken off each side of the output.
        output_padding: rows and columns added at its end: convolutions with a stride give inputs of several
            sizes the same output, and this says which of them is meant.
        groups: split the channels into so many independent layers.
        bias: whether to add a bias.
        dilation: distance between neighbouring taps of the kernel.
        padding_mode: "zeros".
        weight_init: first values of ``weight``, (in, out / groups, height, width); by default PyTorch's,
            uniform in +-1 / sqrt(out / groups * height * width).
        bias_init: first values of ``bias``, (out,); by default the same.

    Raises:
        ValueError: for arguments that contradict each other.

    Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        output_padding: int | Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Pair = 1,
        padding_mode: str = "zeros",
        *,
        weight_init: Initializer | None = None,
        bias_init: Initializer | None = None,
    ) -> None:
        self.in_channels = positive_integer(in_channels, "in_channels")
        self.out_channels = positive_integer(out_channels, "out_channels")
        self.kernel_size = positive_pair(kernel_size, "kernel_size")
        self.stride = positive_pair(stride, "stride")
        self.padding = pair(padding, "padding")
        self.output_padding = pair(output_padding, "output_padding")
        self.groups = positive_integer(groups, "groups")
        self.dilation = positive_pair(dilation, "dilation")
        self.padding_mode = padding_mode
        if padding_mode != "zeros":
            raise self.error(f'padding_mode must be "zeros", got {padding_mode!r}')
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise self.error(f"{name}={getattr(self, name)} is not divisible by groups={self.groups}")
        # What the ops take after their arrays.
        self._window = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)

        weight_shape = (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        # An input large enough for any padding shows whether the window can be.
        enough = tuple(1 + 2 * size for size in self.padding)
        conv_transpose2d_geometry((0, self.in_channels, *enough), weight_shape, *self._window)
        bound = 1.0 / math.sqrt(math.prod(weight_shape[1:]))
        default = initializers.uniform(-bound, bound)
        self.weight = Parameter(weight_shape, weight_init or default)
        self.bias = Parameter((self.out_channels,), bias_init or default) if bias else None

    @property
    def output_is_free(self) -> bool:
        return True

    def output_shape(self, input_shape: Shape) -> Shape:
        # As the geometry is that of the convolution, its input is the output here.
        return self._geometry(input_shape).input_shape

    def macs(self, input_shape: Shape) -> int:
        return self._geometry(input_shape).macs

    def input_span(self, span: Span, axis: int) -> Span | None:
        window = self.kernel_size, self.stride, self.padding, self.dilation
        return transposed_span(span, *(value[axis] for value in window))

    def infer(self, x: Array) -> Array:
        self.check(x)
        bias = None if self.bias is None else self.bias.data
        y: Array = self.ops.conv_transpose2d(x, self.weight.data, bias, *self._window)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y = self.infer(x)
        ops, window, weight, bias = self.ops, self._window, self.weight, self.bias
        kernel, input_shape = weight.data, x.shape
        kept = x if weight.requires_grad else None

        def backprop(dy: Array) -> Array | None:
            if bias is not None and bias.requires_grad:
                bias.accumulate(ops.conv2d_backward_bias(dy))
            if kept is not None:
                weight.accumulate(ops.conv_transpose2d_backward_weight(dy, kept, kernel.shape, *window))
            if not input_grad:
                return None
            dx: Array = ops.conv_transpose2d_backward_input(dy, kernel, input_shape, *window)
            return dx

        return y, backprop

    def _geometry(self, input_shape: Shape) -> Conv2dGeometry:
        if len(input_shape) != 4:
            raise self.error(f"expected an input of shape (N, {self.in_channels}, H, W), got {input_shape}")
        try:
            return conv_transpose2d_geometry(input_shape, self.weight.shape, *self._window)
        except ValueError as error:
            raise self.error(str(error)) from None
