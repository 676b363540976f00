"""Layers that change the size of images without parameters: padding and resampling."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from nbconv.layers.base import Layer
from nbconv.layers.receptive import Span
from nbconv.layers.validate import positive_pair
from nbconv.typing import Array, Backprop, Pair, Shape
from nbconv_kernels.geometry import nchw, resolve_padding
from nbconv_kernels.sampling import PAD_MODES, pad2d_sides, scale_factors, upsample2d_size


class Pad2d(Layer):
    """Rows and columns added around images.

    Input (N, C, H, W), output (N, C, top + H + bottom, left + W + right). ``abcd`` padded by two on each side
    becomes ``vv abcd vv`` in mode "constant", ``cb abcd cb`` ("reflect"), ``ba abcd dc`` ("symmetric"),
    ``aa abcd dd`` ("replicate") or ``cd abcd ab`` ("circular"). "zeros" is the constant 0.

    Args:
        padding: an integer, (height, width) or ((top, bottom), (left, right)).
        mode: one of these.
        value: the constant of mode "constant".

    Raises:
        ValueError: for arguments out of range.

    Source: EECS442.
    """

    def __init__(
        self, padding: int | Pair | tuple[Pair, Pair], mode: str = "constant", value: float = 0.0
    ) -> None:
        if isinstance(padding, str):
            raise self.error(f"padding must be integers, got {padding!r}")
        self.padding = resolve_padding(padding, 1)
        self.mode = mode
        self.value = float(value)
        modes = ("zeros", *PAD_MODES)
        if mode not in modes:
            raise self.error(f"mode must be one of {', '.join(map(repr, modes))}, got {mode!r}")
        if mode == "zeros" and self.value:
            raise self.error(f'mode "zeros" has no other value, got {value!r}')
        self._fill = "constant" if mode == "zeros" else mode

    def output_shape(self, input_shape: Shape) -> Shape:
        try:
            (top, bottom), (left, right) = pad2d_sides(input_shape, self.padding, self._fill)
        except ValueError as error:
            raise self.error(str(error)) from None
        n, c, h, w = input_shape
        return n, c, top + h + bottom, left + w + right

    def input_span(self, span: Span, axis: int) -> Span | None:
        before = self.padding[axis][0]
        return span[0] - before, span[1] - before

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.pad2d(x, self.padding, self._fill, self.value)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y, ops, input_shape, padding, mode = self.infer(x), self.ops, x.shape, self.padding, self._fill

        def backprop(dy: Array) -> Array | None:
            return ops.pad2d_backward(dy, input_shape, padding, mode) if input_grad else None

        return y, backprop


class Upsample(Layer):
    """Images resampled to another size, without parameters.

    Input (N, C, H, W), output (N, C, P, Q): of ``size``, or ``P = floor(H * scale_factor)``.

    Args:
        size: of the output; an integer or (height, width).
        scale_factor: instead of it, by how much to enlarge; a number or (vertical, horizontal).
        mode: "nearest" repeats pixels, "bilinear" blends the four nearest.
        align_corners: for "bilinear", whether the middles of the corner pixels stay in place, or the corners
            of the image do.

    Raises:
        ValueError: for arguments out of range or that contradict each other.
    """

    def __init__(
        self,
        size: int | Pair | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        if (size is None) == (scale_factor is None):
            raise self.error(f"expected either size or scale_factor, got {size!r} and {scale_factor!r}")
        self.size = None if size is None else positive_pair(size, "size")
        vertical, horizontal = scale_factors(scale_factor)
        self.scale_factor = None if vertical is None or horizontal is None else (vertical, horizontal)
        self.mode = mode
        self.align_corners = align_corners
        upsample2d_size((0, 1, 1, 1), 1, mode, bool(align_corners))

    def output_shape(self, input_shape: Shape) -> Shape:
        try:
            n, c, h, w = nchw(input_shape)
            return n, c, *upsample2d_size(input_shape, self._size(h, w), self.mode, bool(self.align_corners))
        except ValueError as error:
            raise self.error(str(error)) from None

    def input_span(self, span: Span, axis: int) -> Span | None:
        if self.scale_factor is None:
            return None  # how many pixels an output sees depends on the input's size
        step = 1 / Fraction(self.scale_factor[axis]).limit_denominator(1000)
        if self.mode == "nearest":
            return math.floor(span[0] * step), math.floor(span[1] * step)
        half = Fraction(1, 2)
        return math.floor((span[0] + half) * step - half), math.ceil((span[1] + half) * step - half)

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.upsample2d(x, self._size(*x.shape[2:]), *self._settings)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y, ops, input_shape, settings = self.infer(x), self.ops, x.shape, self._settings

        def backprop(dy: Array) -> Array | None:
            return ops.upsample2d_backward(dy, input_shape, *settings) if input_grad else None

        return y, backprop

    def _size(self, height: int, width: int) -> Pair:
        if self.scale_factor is None:
            assert self.size is not None
            return self.size
        return math.floor(height * self.scale_factor[0]), math.floor(width * self.scale_factor[1])

    @property
    def _settings(self) -> tuple[str, bool, Pair | tuple[float, float] | None]:
        """What the ops take after the sizes."""
        return self.mode, bool(self.align_corners), self.scale_factor
