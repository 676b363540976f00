"""Convolution."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

import math

from nbconv import initializers
from nbconv.initializers import Initializer
from nbconv.layers.base import Layer
from nbconv.layers.receptive import Span, window_span
from nbconv.layers.validate import positive_integer, positive_pair
from nbconv.parameter import Parameter
from nbconv.typing import Array, Backprop, Pair, Shape
from nbconv_kernels.geometry import Conv2dGeometry, conv2d_geometry, pair, resolve_padding
from nbconv_kernels.sampling import PAD_MODES, pad2d_sides


class Conv2d(Layer):
    """Cross-correlation of images with learned kernels, plus a bias for each output channel.

    Input (N, in_channels, H, W), output (N, out_channels, P, Q) with, along each axis,
    ``P = floor((H + 2 padding - dilation (kernel - 1) - 1) / stride) + 1``.

    Args:
        in_channels: channels of the input.
        out_channels: kernels, and channels of the output.
        kernel_size: of the kernel; an integer or (height, width), like stride and dilation.
        stride: steps between the kernel's places.
        padding: zeros around the input: an integer, (height, width), "valid" for none, or "same" to keep the
            size (stride 1 only).
        dilation: distance between neighbouring taps of the kernel.
        groups: split the channels into so many independent convolutions; in_channels gives a depthwise one.
        bias: whether to add a bias.
        padding_mode: what the padding is filled with: "zeros", "constant" for ``padding_value``, or the image
            as in :class:`nbconv.Pad2d`: "reflect", "symmetric", "replicate" or "circular".
        weight_init: first values of ``weight``, (out, in / groups, height, width); by default PyTorch's,
            uniform in +-1 / sqrt(fan_in).
        bias_init: first values of ``bias``, (out,); by default the same.
        padding_value: for padding_mode "constant".

    Raises:
        ValueError: for arguments that contradict each other.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: str | int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        weight_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        padding_value: float = 0.0,
    ) -> None:
        self.in_channels = positive_integer(in_channels, "in_channels")
        self.out_channels = positive_integer(out_channels, "out_channels")
        self.kernel_size = positive_pair(kernel_size, "kernel_size")
        self.stride = positive_pair(stride, "stride")
        self.padding = padding if isinstance(padding, str) else pair(padding, "padding")
        self.dilation = positive_pair(dilation, "dilation")
        self.groups = positive_integer(groups, "groups")
        self.padding_mode = padding_mode
        self.padding_value = float(padding_value)
        modes = ("zeros", *PAD_MODES)
        if padding_mode not in modes:
            raise self.error(
                f"padding_mode must be one of {', '.join(map(repr, modes))}, got {padding_mode!r}"
            )
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise self.error(f"{name}={getattr(self, name)} is not divisible by groups={self.groups}")
        sides = resolve_padding(padding, self.kernel_size, self.stride, self.dilation)
        # Zeros the convolution sees to itself; other padding is laid around the image first.
        self.pads = padding_mode != "zeros" and any(map(any, sides))
        self._sides = sides
        # What the ops take after their arrays; the padding of another mode is laid around by `padded`.
        self.window = (self.stride, ((0, 0), (0, 0)) if self.pads else sides, self.dilation, self.groups)

        weight_shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        bound = 1.0 / math.sqrt(math.prod(weight_shape[1:]))
        default = initializers.uniform(-bound, bound)
        self.weight = Parameter(weight_shape, weight_init or default)
        self.bias = Parameter((self.out_channels,), bias_init or default) if bias else None

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.geometry(input_shape).output_shape

    def input_span(self, span: Span, axis: int) -> Span | None:
        before = self._sides[axis][0]
        return window_span(span, self.kernel_size[axis], self.stride[axis], before, self.dilation[axis])

    @property
    def output_is_free(self) -> bool:
        return True

    def macs(self, input_shape: Shape) -> int:
        return self.geometry(input_shape).macs

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.conv2d(self.padded(x), self.weight.data, self._bias_data(), *self.window)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        return self._forward(x, input_grad, None)

    def forward_rectified(self, x: Array, training: bool, input_grad: bool) -> tuple[Array, Backprop]:
        """This layer and a ReLU behind it, which costs nothing on the way to memory."""
        return self._forward(x, input_grad, "relu")

    def _forward(self, x: Array, input_grad: bool, activation: str | None) -> tuple[Array, Backprop]:
        self.check(x)
        ops, window, weight, bias = self.ops, self.window, self.weight, self.bias
        kernel = weight.data
        padding = (x.shape, self._sides, self.padding_mode) if self.pads else None
        x = self.padded(x)
        y: Array = ops.conv2d(x, kernel, self._bias_data(), *window, activation=activation)
        input_shape = x.shape
        kept = x if weight.requires_grad else None
        output = None if activation is None else y

        def backprop(dy: Array) -> Array | None:
            dy = dy if output is None else ops.relu_backward(dy, output)
            if bias is not None and bias.requires_grad:
                bias.accumulate(ops.conv2d_backward_bias(dy))
            if kept is not None:
                weight.accumulate(ops.conv2d_backward_weight(dy, kept, kernel.shape, *window))
            if not input_grad:
                return None
            dx: Array = ops.conv2d_backward_input(dy, kernel, input_shape, *window)
            return dx if padding is None else ops.pad2d_backward(dx, *padding)

        return y, backprop

    def padded(self, x: Array) -> Array:
        """The input as the convolution takes it: with what padding other than zeros adds."""
        if not self.pads:
            return x
        padded: Array = self.ops.pad2d(x, self._sides, self.padding_mode, self.padding_value)
        return padded

    def _bias_data(self) -> Array | None:
        return None if self.bias is None else self.bias.data

    def geometry(self, input_shape: Shape) -> Conv2dGeometry:
        """The sizes of this convolution of an input of that shape.

        Raises:
            LayerError: if the layer cannot take such an input.
        """
        if len(input_shape) != 4:
            raise self.error(f"expected an input of shape (N, {self.in_channels}, H, W), got {input_shape}")
        try:
            geometry = conv2d_geometry(
                input_shape, self.weight.shape, self.stride, self._sides, self.dilation, self.groups
            )
            if self.pads:
                pad2d_sides(input_shape, self._sides, self.padding_mode)
            return geometry
        except ValueError as error:
            raise self.error(str(error)) from None
