"""Layers that only rearrange."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

import math

from nbconv.layers.base import Layer
from nbconv.layers.receptive import Span
from nbconv.typing import Array, Backprop, Shape


class Flatten(Layer):
    """(N, C, H, W) to (N, C * H * W), in the order channel, row, column; (N, F) stays as it is."""

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) not in (2, 4):
            raise self.error(f"expected an input of shape (N, C, H, W) or (N, F), got {input_shape}")
        return input_shape[0], math.prod(input_shape[1:])

    def input_span(self, span: Span, axis: int) -> Span | None:
        return None

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.flatten(x) if x.ndim == 4 else x
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y, ops, input_shape = self.infer(x), self.ops, x.shape

        def backprop(dy: Array) -> Array | None:
            if not input_grad:
                return None
            return ops.unflatten(dy, input_shape) if len(input_shape) == 4 else dy

        return y, backprop
