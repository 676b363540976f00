"""Unpooling: maxima back to where they were."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt

from nbconv.layers.base import Layer
from nbconv.layers.receptive import Span, transposed_span
from nbconv.layers.validate import positive_pair
from nbconv.typing import Array, Backprop, Pair, Shape
from nbconv_kernels.geometry import nchw, pair


class MaxUnpool2d(Layer):
    """The reverse of a max pooling: each value goes to where the maximum was, all else is 0.

    It takes the pooling's indices at the call, so it stands in no Sequential:

        y, indices, backprop = pool.forward_with_indices(x)
        image = unpool(y, indices, output_size=x.shape)

    Input (N, C, P, Q), output (N, C, H, W) with ``H = (P - 1) stride - 2 padding + kernel_size``, or the
    output size given.

    Args:
        kernel_size: the pooling's; an integer or (height, width), like the others.
        stride: the pooling's; by default the window's size.
        padding: the pooling's.

    Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013.
    """

    def __init__(
        self, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
    ) -> None:
        self.kernel_size = positive_pair(kernel_size, "kernel_size")
        self.stride = self.kernel_size if stride is None else positive_pair(stride, "stride")
        self.padding = pair(padding, "padding")

    def output_shape(self, input_shape: Shape, output_size: Sequence[int] | None = None) -> Shape:
        """The shape that an input of ``input_shape`` gives, if no size is given.

        Raises:
            LayerError: for another rank, or a size that the pooling cannot have had as input.
        """
        try:
            n, c, *size = nchw(input_shape)
        except ValueError as error:
            raise self.error(str(error)) from None
        sizes = [
            (length - 1) * stride - 2 * padding + kernel
            for length, stride, padding, kernel in zip(
                size, self.stride, self.padding, self.kernel_size, strict=True
            )
        ]
        if output_size is not None:
            given = tuple(output_size)[-2:]
            if len(given) != 2 or any(
                abs(wanted - length) >= stride
                for wanted, length, stride in zip(given, sizes, self.stride, strict=True)
            ):
                raise self.error(
                    f"expected an output size less than the stride {self.stride} away from {tuple(sizes)}, "
                    f"got {tuple(output_size)}"
                )
            sizes = list(given)
        if min(sizes) < 1:
            raise self.error(f"an input of shape {input_shape} leaves nothing of the output: {tuple(sizes)}")
        return n, c, *sizes

    def input_span(self, span: Span, axis: int) -> Span | None:
        return transposed_span(span, self.kernel_size[axis], self.stride[axis], self.padding[axis])

    def __call__(
        self,
        x: npt.ArrayLike,
        indices: Array | None = None,
        output_size: Sequence[int] | None = None,
    ) -> Array:
        """The output; see :meth:`forward`."""
        return self.forward(self.prepare(x), indices=indices, output_size=output_size)[0]

    def forward(
        self,
        x: Array,
        training: bool = False,
        *,
        input_grad: bool = True,
        indices: Array | None = None,
        output_size: Sequence[int] | None = None,
    ) -> tuple[Array, Backprop]:
        """Compute the output, and the function that takes the gradient back.

        Args:
            x: (N, C, P, Q).
            training: makes no difference.
            input_grad: whether the gradient of ``x`` will be wanted.
            indices: from :meth:`nbconv.MaxPool2d.forward_with_indices`.
            output_size: (H, W) or (N, C, H, W) of the pooling's input, where the default is not it.

        Raises:
            LayerError: if the shapes do not fit, an index lies outside of the output, or there are none.
            DTypeError: if the dtype is not the layer's.
        """
        if indices is None:
            raise self.error("needs the indices of a MaxPool2d, from its forward_with_indices")
        # Not the default's: it may leave nothing where the size that is given leaves something.
        ops, shape = self.ops, self.output_shape(x.shape, output_size)
        if x.dtype != self.dtype:
            raise self._wrong_dtype(x, str(self.dtype))
        try:
            y: Array = ops.max_unpool2d(x, indices, shape)
        except ValueError as error:
            raise self.error(str(error)) from None

        def backprop(dy: Array) -> Array | None:
            return ops.max_unpool2d_backward(dy, indices) if input_grad else None

        return y, backprop
