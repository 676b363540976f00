"""Preprocessing of the size of images, as layers that travel with the model."""

# The methods that all layers share are described in nbconv/layers/base.py.
# ruff: noqa: D102

from __future__ import annotations

from nbconv.layers.base import Layer
from nbconv.layers.receptive import Span
from nbconv.layers.validate import positive_integer, positive_pair
from nbconv.typing import Array, Backprop, Pair, Shape


class Resize(Layer):
    """Images resampled bilinearly; nothing is smoothed before shrinking (an ``ImageFolder`` does smooth).

    Input (N, C, H, W), output (N, C, *size).

    Args:
        size: (height, width); or an integer, to which the shorter side is brought, the proportions kept.
    """

    def __init__(self, size: int | Pair) -> None:
        self.size = positive_integer(size, "size") if isinstance(size, int) else positive_pair(size, "size")

    def output_shape(self, input_shape: Shape) -> Shape:
        _check_image(self, input_shape)
        return *input_shape[:2], *self._size(*input_shape[2:])

    def input_span(self, span: Span, axis: int) -> Span | None:
        return None  # how many pixels an output sees depends on the input's size

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.upsample2d(x, self._size(*x.shape[2:]), "bilinear", False, None)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y, ops, input_shape = self.infer(x), self.ops, x.shape

        def backprop(dy: Array) -> Array | None:
            return ops.upsample2d_backward(dy, input_shape, "bilinear", False, None) if input_grad else None

        return y, backprop

    def _size(self, height: int, width: int) -> Pair:
        if not isinstance(self.size, int):
            return self.size
        # In integers, as floats would lose a pixel now and then.
        shorter = min(height, width)
        return self.size * height // shorter, self.size * width // shorter


class CenterCrop(Layer):
    """The middle of images.

    Input (N, C, H, W), output (N, C, *size). Where the rest is odd, the side below or right loses more.

    Args:
        size: (height, width), or one integer for both.
    """

    def __init__(self, size: int | Pair) -> None:
        self.size = positive_pair(size, "size")

    def output_shape(self, input_shape: Shape) -> Shape:
        _check_image(self, input_shape)
        if input_shape[2] < self.size[0] or input_shape[3] < self.size[1]:
            raise self.error(
                f"cannot cut {self.size[0]} x {self.size[1]} out of an input of shape {input_shape}"
            )
        return *input_shape[:2], *self.size

    def input_span(self, span: Span, axis: int) -> Span | None:
        return None  # where the middle begins depends on the input's size

    def infer(self, x: Array) -> Array:
        self.check(x)
        (top, _), (left, _) = self._margins(x.shape)
        cut = x[:, :, top : top + self.size[0], left : left + self.size[1]]
        y: Array = self.ops.channels_last(cut)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y, ops, margins = self.infer(x), self.ops, self._margins(x.shape)

        def backprop(dy: Array) -> Array | None:
            return ops.pad2d(dy, margins) if input_grad else None

        return y, backprop

    def _margins(self, shape: Shape) -> tuple[Pair, Pair]:
        """What is cut off: ((top, bottom), (left, right))."""
        rest = shape[2] - self.size[0], shape[3] - self.size[1]
        top, left = rest[0] // 2, rest[1] // 2
        return (top, rest[0] - top), (left, rest[1] - left)


def _check_image(layer: Layer, shape: Shape) -> None:
    if len(shape) != 4 or 0 in shape[2:]:
        raise layer.error(f"expected images of shape (N, C, H, W), got {shape}")
