"""Activations: one function applied to every element, and softmax."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

from typing import Any, ClassVar

from nbconv.layers.base import Layer
from nbconv.layers.receptive import Span
from nbconv.typing import Array, Backprop, Shape


class Activation(Layer):
    """Base of layers that keep the shape and are one op: ``op(x, *arguments)``.

    Its gradient is ``op_backward(dy, kept, *arguments)``, where what is kept is the input or the output.
    Keeping the output costs no memory where the next layer keeps the same array as its input.

    Attributes:
        op: name of the function in a backend.
        keeps_input: whether the gradient needs the input instead of the output.
    """

    op: ClassVar[str]
    keeps_input: ClassVar[bool] = False
    _arguments: tuple[Any, ...] = ()

    @property
    def output_is_free(self) -> bool:
        return self.keeps_input

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = getattr(self.ops, self.op)(x, *self._arguments)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y = self.infer(x)
        kept = x if self.keeps_input else y
        backward, arguments = getattr(self.ops, self.op + "_backward"), self._arguments

        def backprop(dy: Array) -> Array | None:
            return backward(dy, kept, *arguments) if input_grad else None

        return y, backprop


class ReLU(Activation):
    """max(0, x); the gradient at 0 is 0."""

    op = "relu"


class ReLU6(Activation):
    """min(max(0, x), 6); the gradient is 0 outside of (0, 6).

    Source: Howard et al., "MobileNets", 2017.
    """

    op = "relu6"


class LeakyReLU(Activation):
    """x where positive, else ``negative_slope`` * x."""

    op = "leaky_relu"
    keeps_input = True

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = float(negative_slope)
        self._arguments = (self.negative_slope,)


class ELU(Activation):
    """x where positive, else ``alpha`` * (exp(x) - 1).

    Source: Clevert et al., "Fast and accurate deep network learning by exponential linear units", 2015.
    """

    op = "elu"
    keeps_input = True

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = float(alpha)
        self._arguments = (self.alpha,)


class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    op = "sigmoid"


class Tanh(Activation):
    """The hyperbolic tangent."""

    op = "tanh"


class Softmax(Activation):
    """exp(x), scaled to sum 1 along axis ``dim``.

    For probabilities at the end of a model. To train, leave it out: CrossEntropyLoss takes logits.
    """

    op = "softmax"

    def __init__(self, dim: int = 1) -> None:
        self.dim = int(dim)
        self._arguments = (self.dim,)

    def output_shape(self, input_shape: Shape) -> Shape:
        if not -len(input_shape) <= self.dim < len(input_shape):
            raise self.error(f"an input of shape {input_shape} has no axis {self.dim}")
        return input_shape

    def input_span(self, span: Span, axis: int) -> Span | None:
        return span if self.dim in (1, -3) else None
