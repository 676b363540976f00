"""Layers made of layers: sums and concatenations of several paths.

They follow the protocol of all layers, so they nest in any way. Where gradients of several paths meet, they
are added up in place; as the gradient leaves a path, the path's activations are freed.
"""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from types import ModuleType

import numpy as np

from nbconv.layers.activation import ReLU
from nbconv.layers.base import Layer, SpanFunction, SpanTrace, Traced
from nbconv.layers.nested import (
    Container,
    Infer,
    at,
    connect,
    join,
    no_backprop,
    pass_on,
    run_forward,
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
            return _total(ops, through, past, dy)

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


class Concat(Container):
    """The outputs of several branches side by side: the channels of the first, then those of the second, ...

    Input (N, ...), what the branches take; they must agree in all of their output's shape but the channels,
    axis 1.

    Args:
        branches: at least one; each gets the whole input.

    Source: Szegedy et al., "Going deeper with convolutions", 2014.
    """

    def __init__(self, *branches: Layer) -> None:
        if not branches:
            raise self.error("expected at least one branch")
        self.branches = tuple(branches)
        self._follow(*self.branches)

    def children(self) -> dict[str, Layer]:
        """The branches, named "0", "1", ..."""
        return {str(position): branch for position, branch in enumerate(self.branches)}

    def output_shape(self, input_shape: Shape) -> Shape:
        return _beside(self, self._shapes(input_shape), "branch")

    def trace(self, input_shape: Shape, position: str = "") -> Iterator[Traced]:
        output_shape = self.output_shape(input_shape)
        for name, branch in self.children().items():
            yield from branch.trace(input_shape, join(position, name))
        yield Traced(position, self, input_shape, output_shape)

    def input_span(self, span: Span, axis: int) -> Span | None:
        return hull([branch.input_span(span, axis) for branch in self.branches])

    def trace_back(self, back: SpanFunction, position: str = "") -> Iterator[SpanTrace]:
        for name, branch in self.children().items():
            yield from branch.trace_back(back, join(position, name))
        yield SpanTrace(position, self, back)

    def evaluate(self, x: Array, infer: Infer) -> Array:
        self.check(x)
        outputs = []
        for name, branch in self.children().items():
            with at(name):
                outputs.append(infer(branch, x))
        return _concatenate(self.ops, outputs)

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        self.check(x)
        ops = self.ops
        outputs: list[Array] = []
        pending: list[Backprop] = []
        for name, branch in self.children().items():
            with at(name):
                y, through_branch = run_forward(branch, x, training, input_grad)
            outputs.append(y)
            pending.append(through_branch)
        channels = [y.shape[1] for y in outputs]
        y = _concatenate(ops, outputs)

        def backprop(dy: Array) -> Array | None:
            pieces = _split(ops, dy, channels)
            total: Array | None = None
            while pieces:
                dx = take_next(pending)(pieces.pop())
                if dx is not None:
                    total = dx if total is None else _total(ops, total, dx, dy)
            return total

        return y, backprop

    def _shapes(self, input_shape: Shape) -> list[Shape]:
        shapes = []
        for name, branch in self.children().items():
            with at(name):
                shapes.append(branch.output_shape(input_shape))
        return shapes


class DenseBlock(Container):
    """Each layer sees the input and the outputs of all layers before it, side by side.

    The output is all of these together, so that the next layer of the model sees them as well. If each layer
    gives k channels (the growth rate), layer l of an input of k0 channels sees ``k0 + k (l - 1)``. The layers
    must keep height and width.

    Args:
        layers: in the order the input meets them; each a Sequential as a rule.

    Source: Huang et al., "Densely connected convolutional networks", 2016.
    """

    def __init__(self, *layers: Layer) -> None:
        self.layers = tuple(layers)
        self._follow(*self.layers)

    def children(self) -> dict[str, Layer]:
        """The layers, named "0", "1", ..."""
        return {str(position): layer for position, layer in enumerate(self.layers)}

    def output_shape(self, input_shape: Shape) -> Shape:
        return self._shapes(input_shape)[-1]

    def trace(self, input_shape: Shape, position: str = "") -> Iterator[Traced]:
        shapes = self._shapes(input_shape)
        for (name, layer), shape in zip(self.children().items(), shapes, strict=False):
            yield from layer.trace(shape, join(position, name))
        yield Traced(position, self, shapes[0], shapes[-1])

    def input_span(self, span: Span, axis: int) -> Span | None:
        return self._input_span(len(self.layers), span, axis)

    def trace_back(self, back: SpanFunction, position: str = "") -> Iterator[SpanTrace]:
        for index, (name, layer) in enumerate(self.children().items()):
            way = connect(partial(self._input_span, index), back)
            yield from layer.trace_back(way, join(position, name))
        yield SpanTrace(position, self, back)

    def _input_span(self, count: int, span: Span, axis: int) -> Span | None:
        """The span of the input, of one of the first ``count`` layers' outputs and the input together."""
        seen: Span | None = span
        for layer in reversed(self.layers[:count]):
            if seen is not None:
                seen = hull([seen, layer.input_span(seen, axis)])
        return seen

    def evaluate(self, x: Array, infer: Infer) -> Array:
        self.check(x)
        for name, layer in self.children().items():
            with at(name):
                x = _concatenate(self.ops, [x, infer(layer, x)])
        return x

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        self.check(x)
        ops = self.ops
        pending: list[tuple[Backprop, list[int]]] = []
        wanted = input_grad
        for name, layer in self.children().items():
            with at(name):
                y, through_layer = run_forward(layer, x, training, wanted)
            wanted = wanted or layer.is_trainable
            if wanted:
                pending.append((through_layer, [x.shape[1], y.shape[1]]))
            x = _concatenate(ops, [x, y])

        def backprop(dy: Array) -> Array | None:
            gradient = dy
            while pending:
                through_layer, channels = pending.pop()
                past, new = _split(ops, gradient, channels)
                through = through_layer(new)
                if through is None:
                    return None
                gradient = _total(ops, past, through, dy)
                # Freed now, not when the next layer's have taken their names.
                del through_layer, past, new, through
            return gradient if input_grad else None

        return x, backprop

    def _shapes(self, input_shape: Shape) -> list[Shape]:
        """The shapes before, between and after the layers."""
        shapes = [tuple(input_shape)]
        for name, layer in self.children().items():
            with at(name):
                shape = layer.output_shape(shapes[-1])
            shapes.append(_beside(self, [shapes[-1], shape], "layer", name))
        return shapes


def _relu_backprop(ops: ModuleType, y: Array) -> Backprop:
    return lambda dy: ops.relu_backward(dy, y)


def _total(ops: ModuleType, a: Array, b: Array, borrowed: Array) -> Array:
    """The sum of two gradients, in the memory of one of them unless it is that of ``borrowed``.

    What a backward pass returns is new, or it is memory that the pass was given.
    """
    for into, value in ((a, b), (b, a)):
        if into.flags.writeable and not np.may_share_memory(into, borrowed):
            ops.accumulate(into, value)
            return into
    total: Array = ops.add(a, b)
    return total


def _concatenate(ops: ModuleType, arrays: Sequence[Array]) -> Array:
    y: Array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=1)
    return y


def _split(ops: ModuleType, x: Array, channels: Sequence[int]) -> list[Array]:
    ends = np.cumsum(channels)
    return [np.array(x[:, end - count : end]) for count, end in zip(channels, ends, strict=True)]


def _beside(container: Layer, shapes: Sequence[Shape], what: str, last: str = "") -> Shape:
    """The shape of arrays of these shapes side by side along axis 1."""
    first = shapes[0]
    for position, shape in enumerate(shapes):
        if len(shape) < 2 or shape[:1] + shape[2:] != first[:1] + first[2:]:
            name = last or str(position)
            raise container.error(
                f"{what} {name} gives shape {shape}, which does not fit beside {first}: "
                "all but the channels must agree"
            )
    return first[0], sum(shape[1] for shape in shapes), *first[2:]
