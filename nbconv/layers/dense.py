"""Fully connected layer."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

import math

from nbconv import initializers
from nbconv.initializers import Initializer
from nbconv.layers.base import Layer
from nbconv.layers.receptive import Span
from nbconv.layers.validate import positive_integer
from nbconv.parameter import Parameter
from nbconv.typing import Array, Backprop, Shape


class Dense(Layer):
    """``y = x @ weight.T + bias``: every output sees every input.

    Input (N, in_features), output (N, out_features); ``weight`` is (out_features, in_features).

    Args:
        in_features: values of one example.
        out_features: units, and values of one output.
        bias: whether to add a bias.
        weight_init: first values of ``weight``; by default PyTorch's, uniform in +-1 / sqrt(in_features).
        bias_init: first values of ``bias``, (out_features,); by default the same.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        weight_init: Initializer | None = None,
        bias_init: Initializer | None = None,
    ) -> None:
        self.in_features = positive_integer(in_features, "in_features")
        self.out_features = positive_integer(out_features, "out_features")
        bound = 1.0 / math.sqrt(self.in_features)
        default = initializers.uniform(-bound, bound)
        self.weight = Parameter((self.out_features, self.in_features), weight_init or default)
        self.bias = Parameter((self.out_features,), bias_init or default) if bias else None

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2:
            hint = " (is a Flatten() missing?)" if len(input_shape) > 2 else ""
            raise self.error(f"expected an input of shape (N, {self.in_features}), got {input_shape}{hint}")
        if input_shape[1] != self.in_features:
            raise self.error(
                f"expected {self.in_features} input features, got {input_shape[1]} "
                f"in an input of shape {input_shape}"
            )
        return input_shape[0], self.out_features

    def input_span(self, span: Span, axis: int) -> Span | None:
        return None

    @property
    def output_is_free(self) -> bool:
        return True

    def macs(self, input_shape: Shape) -> int:
        return self.output_shape(input_shape)[0] * self.in_features * self.out_features

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.dense(x, self.weight.data, None if self.bias is None else self.bias.data)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y = self.infer(x)
        ops, weight, bias = self.ops, self.weight, self.bias
        matrix = weight.data
        kept = x if weight.requires_grad else None

        def backprop(dy: Array) -> Array | None:
            if bias is not None and bias.requires_grad:
                bias.accumulate(ops.dense_backward_bias(dy))
            if kept is not None:
                weight.accumulate(ops.dense_backward_weight(dy, kept))
            return ops.dense_backward_input(dy, matrix) if input_grad else None

        return y, backprop
