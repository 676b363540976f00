"""Activations: one function applied to every element, and softmax."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

from typing import Any, ClassVar

from nbconv import initializers
from nbconv.layers.base import Layer
from nbconv.layers.receptive import Span
from nbconv.layers.validate import positive_integer
from nbconv.parameter import Parameter
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


class PReLU(Layer):
    """x where positive, else ``weight`` * x, with a slope that is learned.

    Input and output (N, C, ...); ``weight`` is (num_parameters,).

    Args:
        num_parameters: 1 slope for all, or one for each of so many channels.
        init: the slopes to begin with.

    Source: He et al., "Delving deep into rectifiers", 2015.
    """

    lasting = ("init",)

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        self.num_parameters = positive_integer(num_parameters, "num_parameters")
        self.init = float(init)
        self.weight = Parameter((self.num_parameters,), initializers.constant(self.init))

    @property
    def output_is_free(self) -> bool:
        return True

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) < 2:
            raise self.error(f"expected an input of shape (N, C, ...), got {input_shape}")
        if self.num_parameters not in (1, input_shape[1]):
            raise self.error(
                f"expected {self.num_parameters} input channels, got {input_shape[1]} "
                f"in an input of shape {input_shape}"
            )
        return input_shape

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.prelu(x, self.weight.data)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y, ops, weight = self.infer(x), self.ops, self.weight
        slopes = weight.data

        def backprop(dy: Array) -> Array | None:
            dx, dweight = ops.prelu_backward(dy, x, slopes)
            if weight.requires_grad:
                weight.accumulate(dweight)
            return dx if input_grad else None

        return y, backprop


class Maxout(Layer):
    """The largest of every ``pieces`` consecutive channels.

    Input (N, C, H, W) or (N, C), output with C / pieces channels. Behind ``Dense(in, 2 * out)`` each output
    is ``max(w1 x + b1, w2 x + b2)``: a convex function of pieces that are learned.

    Args:
        pieces: channels of which the largest is taken.

    Source: Goodfellow et al., "Maxout networks", 2013; CS6375.
    """

    def __init__(self, pieces: int = 2) -> None:
        self.pieces = positive_integer(pieces, "pieces")

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) not in (2, 4):
            raise self.error(f"expected an input of shape (N, C, H, W) or (N, C), got {input_shape}")
        n, c, *size = input_shape
        if c % self.pieces:
            raise self.error(
                f"expected a multiple of {self.pieces} input channels, got {c} "
                f"in an input of shape {input_shape}"
            )
        return n, c // self.pieces, *size

    def infer(self, x: Array) -> Array:
        self.check(x)
        y: Array = self.ops.maxout(x, self.pieces)[0]
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        self.check(x)
        ops, pieces = self.ops, self.pieces
        y, which = ops.maxout(x, pieces)

        def backprop(dy: Array) -> Array | None:
            return ops.maxout_backward(dy, which, pieces) if input_grad else None

        return y, backprop


class SELU(Activation):
    """1.0507 * (x where positive, else 1.6733 * (exp(x) - 1)).

    From layer to layer it keeps mean 0 and variance 1.

    Source: Klambauer et al., "Self-normalizing neural networks", 2017.
    """

    op = "selu"
    keeps_input = True


class GELU(Activation):
    """x * P(Z <= x) for a standard normal Z.

    Args:
        approximate: "none", or "tanh" for an approximation by the hyperbolic tangent.

    Raises:
        ValueError: for another approximation.

    Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016.
    """

    op = "gelu"
    keeps_input = True

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate
        if approximate not in ("none", "tanh"):
            raise self.error(f'approximate must be "none" or "tanh", got {approximate!r}')
        self._arguments = (approximate,)


class SiLU(Activation):
    """x * sigmoid(x), also called swish.

    Source: Elfwing et al., "Sigmoid-weighted linear units", 2017; Ramachandran et al., "Searching for
    activation functions", 2017.
    """

    op = "silu"
    keeps_input = True


class Hardswish(Activation):
    """x * min(max(0, x + 3), 6) / 6: nearly SiLU, without an exponential.

    Source: Howard et al., "Searching for MobileNetV3", 2019.
    """

    op = "hardswish"
    keeps_input = True


class Softplus(Activation):
    """log(1 + exp(beta * x)) / beta: a ReLU without the kink.

    Args:
        beta: the larger, the nearer to a ReLU.
        threshold: where beta * x is larger than this, the output is x.
    """

    op = "softplus"
    keeps_input = True

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = float(beta)
        self.threshold = float(threshold)
        self._arguments = (self.beta, self.threshold)


class _AlongAxis(Activation):
    """Base of activations that look at all elements along one axis."""

    def __init__(self, dim: int = 1) -> None:
        self.dim = int(dim)
        self._arguments = (self.dim,)

    def output_shape(self, input_shape: Shape) -> Shape:
        if not -len(input_shape) <= self.dim < len(input_shape):
            raise self.error(f"an input of shape {input_shape} has no axis {self.dim}")
        return input_shape

    def input_span(self, span: Span, axis: int) -> Span | None:
        return span if self.dim in (1, -3) else None


class Softmax(_AlongAxis):
    """exp(x), scaled to sum 1 along axis ``dim``.

    For probabilities at the end of a model. To train, leave it out: CrossEntropyLoss takes logits.
    """

    op = "softmax"


class LogSoftmax(_AlongAxis):
    """The logarithm of the softmax along axis ``dim``, exact where the softmax itself is 0 or 1."""

    op = "log_softmax"
