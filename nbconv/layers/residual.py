"""The sum of two paths."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from nbconv.layers.activation import ReLU
from nbconv.layers.base import Layer, SpanFunction, SpanTrace, Traced
from nbconv.layers.nested import (
    Container,
    Infer,
    at,
    join,
    no_backprop,
    pass_on,
    run_forward,
    sum_of_gradients,
    take_next,
)
from nbconv.layers.receptive import Span, hull
from nbconv.typing import Array, Backprop, Shape

# Only says what the default is: each Residual makes its own.
_RELU = ReLU()


class Residual(Container):
    """``activation(body(x) + shortcut(x))``: the body learns what to add to its input.

    Args:
        body: the layers that the shortcut leads around.
        shortcut: gives the body's shape to the input where they differ; None adds the input itself.
        activation: of the sum; None for none. A ReLU and the sum are one op.

    Source: He et al., "Deep residual learning for image recognition", 2015.
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None, activation: Layer | None = _RELU) -> None:
        self.body = body
        self.shortcut = shortcut
        self.activation = ReLU() if activation is _RELU else activation
        self._follow(body, *(layer for layer in (shortcut, self.activation) if layer is not None))

    @property
    def output_is_free(self) -> bool:
        return self.activation is None or self.activation.output_is_free

    def output_shape(self, input_shape: Shape) -> Shape:
        with at("body"):
            shape = self.body.output_shape(input_shape)
        other = tuple(input_shape)
        if self.shortcut is not None:
            with at("shortcut"):
                other = self.shortcut.output_shape(input_shape)
        if shape != other:
            name, hint = (
                ("shortcut", "")
                if self.shortcut is not None
                else ("input", "; a shortcut must give it that shape")
            )
            raise self.error(f"cannot add the {name} of shape {other} to the body's output of {shape}{hint}")
        if self.activation is None:
            return shape
        with at("activation"):
            return self.activation.output_shape(shape)

    def trace(self, input_shape: Shape, position: str = "") -> Iterator[Traced]:
        output_shape = self.output_shape(input_shape)
        for name, path in (("body", self.body), ("shortcut", self.shortcut)):
            if path is not None:
                yield from path.trace(input_shape, join(position, name))
        yield Traced(position, self, input_shape, output_shape)

    def input_span(self, span: Span, axis: int) -> Span | None:
        paths = (self.body, self.shortcut)
        return hull([span if path is None else path.input_span(span, axis) for path in paths])

    def trace_back(self, back: SpanFunction, position: str = "") -> Iterator[SpanTrace]:
        for name, path in (("body", self.body), ("shortcut", self.shortcut)):
            if path is not None:
                yield from path.trace_back(back, join(position, name))
        yield SpanTrace(position, self, back)

    def evaluate(self, x: Array, infer: Infer) -> Array:
        self.check(x)
        with at("body"):
            y = infer(self.body, x)
        other = x
        if self.shortcut is not None:
            with at("shortcut"):
                other = infer(self.shortcut, x)
        y = self._sum(y, other)
        if self.activation is None or self._is_fused:
            return y
        with at("activation"):
            return infer(self.activation, y)

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        self.check(x)
        ops = self.ops
        with at("body"):
            y, through_body = run_forward(self.body, x, training, input_grad)
        around: Backprop = pass_on
        other = x
        if self.shortcut is not None:
            with at("shortcut"):
                other, around = run_forward(self.shortcut, x, training, input_grad)
        y = self._sum(y, other)
        after: Backprop = pass_on
        if self._is_fused:
            after = _relu_backprop(ops, y)
        elif self.activation is not None:
            with at("activation"):
                y, after = self.activation.forward(y, training)
        if not (input_grad or self.is_trainable):
            return y, no_backprop
        pending = [around, through_body, after]

        def backprop(dy: Array) -> Array | None:
            # Popped, each closure and the activations in it are freed as soon as it has run.
            gradient = take_next(pending)(dy)
            assert gradient is not None
            through, past = take_next(pending)(gradient), take_next(pending)(gradient)
            if not input_grad:
                return None
            assert through is not None
            assert past is not None
            return sum_of_gradients(ops, through, past, dy)

        return y, backprop

    @property
    def _is_fused(self) -> bool:
        return type(self.activation) is ReLU

    def _sum(self, y: Array, other: Array) -> Array:
        """The sum, after its ReLU if that is fused; in the memory of ``y`` if it may be."""
        ops, fused = self.ops, self._is_fused
        if self.body.output_is_free:
            (ops.accumulate_relu if fused else ops.accumulate)(y, other)
            return y
        total: Array = (ops.add_relu if fused else ops.add)(y, other)
        return total


def _relu_backprop(ops: ModuleType, y: Array) -> Backprop:
    return lambda dy: ops.relu_backward(dy, y)
