"""Several paths side by side: concatenation of channels."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from nbconv.layers.base import Layer, SpanFunction, SpanTrace, Traced
from nbconv.layers.nested import (
    CALLED_TWICE,
    Container,
    Infer,
    at,
    connect,
    join,
    no_backprop,
    pass_on,
    sum_of_gradients,
)
from nbconv.layers.receptive import Span, hull
from nbconv.typing import Array, Backprop, Shape


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
        return _shape_beside(self, self._shapes(input_shape), "branch")

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
        return self._beside(outputs)

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        self.check(x)
        ops, first = self.ops, 0
        outputs: list[Array] = []
        pending: list[tuple[Backprop, int, int]] = []
        for name, branch in self.children().items():
            with at(name):
                y, through_branch = branch.forward(x, training, input_grad=input_grad)
            if input_grad or branch.is_trainable:
                pending.append((through_branch, first, y.shape[1]))
            first += y.shape[1]
            outputs.append(y)
        if not pending:
            return self._beside(outputs), no_backprop

        def backprop(dy: Array) -> Array | None:
            total: Array | None = None
            if not pending:
                raise RuntimeError(CALLED_TWICE)
            while pending:
                through_branch, first, count = pending.pop()
                part = dy if count == dy.shape[1] else ops.take_channels(dy, first, count)
                dx = through_branch(part)
                # Freed now, not when the next branch's have taken their names.
                del through_branch, part
                if dx is not None:
                    total = dx if total is None else sum_of_gradients(ops, total, dx, dy)
            return total

        return self._beside(outputs), backprop

    def _beside(self, outputs: list[Array]) -> Array:
        y: Array = outputs[0] if len(outputs) == 1 else self.ops.concat(outputs)
        return y

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
        if not self.layers:
            return x
        growing, seen = self._room_for(x), x.shape[1]
        for name, layer in self.children().items():
            with at(name):
                y = infer(layer, growing[:, :seen])
            self.ops.put_channels(growing, y, seen)
            seen += y.shape[1]
        return growing

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        self.check(x)
        if not self.layers:
            return x, pass_on if input_grad else no_backprop
        ops = self.ops
        pending: list[tuple[Backprop, int, int]] = []
        wanted = input_grad
        growing, seen = self._room_for(x), x.shape[1]
        for name, layer in self.children().items():
            with at(name):
                y, through_layer = layer.forward(growing[:, :seen], training, input_grad=wanted)
            wanted = wanted or layer.is_trainable
            if wanted:
                pending.append((through_layer, seen, y.shape[1]))
            ops.put_channels(growing, y, seen)
            seen += y.shape[1]
        if not pending:
            return growing, pass_on if input_grad else no_backprop

        def backprop(dy: Array) -> Array | None:
            if not pending:
                raise RuntimeError(CALLED_TWICE)
            gradient = dy
            while pending:
                through_layer, before, new = pending.pop()
                dx = through_layer(ops.take_channels(gradient, before, new))
                del through_layer
                if dx is None:
                    return None
                # What went past the layer joins what came through it.
                ops.accumulate_channels(dx, gradient, 0)
                gradient = dx
            return gradient if input_grad else None

        return growing, backprop

    def _room_for(self, x: Array) -> Array:
        """``x`` with the outputs' channels, which are still 0, behind its own.

        Each layer sees the first of these channels and fills the next ones: nothing is copied to grow.
        """
        grown: Array = self.ops.concat([x], self.output_shape(x.shape)[1])
        return grown

    def _shapes(self, input_shape: Shape) -> list[Shape]:
        """The shapes before, between and after the layers."""
        shapes = [tuple(input_shape)]
        for name, layer in self.children().items():
            with at(name):
                shape = layer.output_shape(shapes[-1])
            shapes.append(_shape_beside(self, [shapes[-1], shape], "layer", name))
        return shapes


def _shape_beside(container: Layer, shapes: Sequence[Shape], what: str, last: str = "") -> Shape:
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
