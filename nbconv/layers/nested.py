"""What layers made of layers share.

They follow the protocol of all layers, so they nest in any way. Where gradients of several paths meet, they
are added up in place; as the gradient leaves a path, the path's activations are freed.
"""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from nbconv.errors import NonFiniteError, PlacedError
from nbconv.inspect.finite import check_finite
from nbconv.layers.base import Layer, SpanFunction
from nbconv.layers.receptive import Span
from nbconv.typing import Array, Backprop, Shape

Infer = Callable[[Layer, Array], Array]

CALLED_TWICE = "backprop can be called once; run forward again"
"""What a backward pass says whose activations are gone."""


class Container(Layer):
    """Base of layers made of layers."""

    def evaluate(self, x: Array, infer: Infer) -> Array:
        """The output in evaluation mode, where ``infer(layer, x)`` gives that of an inner layer."""
        raise NotImplementedError

    def infer(self, x: Array) -> Array:
        return self.evaluate(x, _infer)

    def macs(self, input_shape: Shape) -> int:
        return sum(step.macs for step in self.trace(input_shape))

    def __repr__(self) -> str:
        lines = []
        for name, layer in self.children().items():
            inner = repr(layer).replace("\n", "\n  ")
            lines.append(f"  ({name}): {inner}\n")
        return f"{type(self).__name__}(\n{''.join(lines)})" if lines else f"{type(self).__name__}()"

    def _require_layer(self, layer: Any) -> Layer:
        if not isinstance(layer, Layer):
            hint = " (a class: are the brackets missing?)" if isinstance(layer, type) else ""
            raise TypeError(f"a {type(self).__name__} holds layers, got {layer!r}{hint}")
        return layer

    def _follow(self, *layers: Layer) -> None:
        """Bring the container and all inside to the backend and dtype of the first layer."""
        for layer in layers:
            self._require_layer(layer)
        for layer in layers[:1]:
            self.to(layer.backend, dtype=layer.dtype)


@contextmanager
def at(position: str) -> Iterator[None]:
    """Tell an error that comes out of an inner layer where in the container it is."""
    try:
        yield
    except PlacedError as error:
        error.add_position(position)
        raise


def join(outer: str, inner: str) -> str:
    """The position of a layer inside a layer at ``outer``."""
    return f"{outer}.{inner}" if outer else inner


def connect(inner: SpanFunction, outer: SpanFunction) -> SpanFunction:
    """The way back through ``inner``, then through ``outer``."""

    def both(span: Span, axis: int) -> Span | None:
        seen = inner(span, axis)
        return None if seen is None else outer(seen, axis)

    return both


def infer_checked(layer: Layer, x: Array) -> Array:
    """``layer.infer(x)``, but look for NaN and infinity behind every layer inside.

    Raises:
        NonFiniteError: if there are some, naming the layer.
    """
    y = layer.evaluate(x, infer_checked) if isinstance(layer, Container) else layer.infer(x)
    try:
        check_finite(layer.ops.to_numpy(y), "the output")
    except NonFiniteError as error:
        error.layer = type(layer).__name__
        raise
    return y


def infer_plain(layer: Layer, x: Array) -> Array:
    """``layer.infer(x)``, but every layer inside by itself."""
    return layer.evaluate(x, infer_plain) if isinstance(layer, Container) else layer.infer(x)


def _infer(layer: Layer, x: Array) -> Array:
    return layer.infer(x)


def run_forward(layer: Layer, x: Array, training: bool, input_grad: bool) -> tuple[Array, Backprop]:
    """``layer.forward``, with a backward pass that does nothing where no gradient is wanted from it."""
    y, backprop = layer.forward(x, training, input_grad=input_grad)
    return y, backprop if input_grad or layer.is_trainable else no_backprop


def no_backprop(dy: Array) -> Array | None:
    """The backward pass of a path whose gradient nobody wants."""
    return None


def pass_on(dy: Array) -> Array | None:
    """The backward pass of a path that changes nothing."""
    return dy


def take_next(pending: list[Backprop]) -> Backprop:
    """The last one, taken out of the list so that it is freed, with the activations in it, once it has run.

    Raises:
        RuntimeError: if there is none left.
    """
    if not pending:
        raise RuntimeError(CALLED_TWICE)
    return pending.pop()


def sum_of_gradients(ops: ModuleType, a: Array, b: Array, borrowed: Array) -> Array:
    """The sum of two gradients, in the memory of one of them unless it is that of ``borrowed``.

    What a backward pass returns is new, or it is memory that the pass was given.
    """
    for into, value in ((a, b), (b, a)):
        if getattr(into.flags, "writeable", True) and not _share_memory(into, borrowed):
            ops.accumulate(into, value)
            return into
    total: Array = ops.add(a, b)
    return total


def _share_memory(a: Any, b: Any) -> bool:
    """Whether two arrays may have an element in common; arrays on a device whether they are of one memory."""
    if isinstance(a, np.ndarray):
        return np.may_share_memory(a, b)
    return _owner(a) is _owner(b)


def _owner(array: Array) -> Array:
    return array if array.base is None else _owner(array.base)
