"""Dropout."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

import secrets

from nbconv.layers.base import Layer
from nbconv.typing import Array, Backprop, Shape


class Dropout(Layer):
    """In training, zero each element with probability ``p`` and divide the others by ``1 - p``.

    Evaluation changes nothing: the division keeps the expectation. Which elements are kept follows from
    ``seed``, which a seeded model assigns, and ``offset``, which counts the training passes.

    Args:
        p: probability of an element to be dropped.

    Raises:
        ValueError: unless 0 <= p <= 1.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = float(p)
        if not 0.0 <= self.p <= 1.0:
            raise self.error(f"p is a probability and must be in [0, 1], got {p!r}")
        self.seed = secrets.randbits(64)
        self.offset = 0

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def infer(self, x: Array) -> Array:
        self.check(x)
        return x

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        self.check(x)
        if not training or self.p == 0.0:
            return x, lambda dy: dy if input_grad else None
        ops, p, seed, offset = self.ops, self.p, self.seed, self.offset
        self.offset = offset + 1
        y: Array = ops.dropout(x, p, seed, offset)

        def backprop(dy: Array) -> Array | None:
            # The same elements are kept, so that dropout is its own gradient and no mask is stored.
            return ops.dropout(dy, p, seed, offset) if input_grad else None

        return y, backprop
