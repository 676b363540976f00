"""Copies of a model to look into: taps at some layers, other layers exchanged, and no parameter touched.

A twin shares the model's arrays, so it costs no memory. Its parameters need no gradient: looking at a model
neither changes it nor disturbs a thread that trains or predicts with it.
"""

# The methods that all layers share are described in layers/base.py.
# ruff: noqa: D102

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nbconv import backends
from nbconv.errors import DataError
from nbconv.layers.activation import LogSoftmax, Softmax
from nbconv.layers.base import Layer
from nbconv.parameter import Parameter
from nbconv.typing import Array, Backprop, Shape

AnyLayer = TypeVar("AnyLayer", bound=Layer)
LayerName = str | int | Layer
Replace = Callable[[str, Layer], Layer]
"""Called with the place and the twin of every layer inside a model; gives what shall stand there."""


class Stand(Layer):
    """Base of layers that stand for another one in a twin."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.backend, self.dtype = layer.backend, layer.dtype

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.layer.output_shape(input_shape)


class Tap(Stand):
    """Keeps what comes out of a layer and the gradient that comes back to it.

    Attributes:
        output: of the last pass; a NumPy array of its own, as the gradient is.
        gradient: of the output.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        self.output: Array | None = None
        self.gradient: Array | None = None

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y, through = self.layer.forward(x, training, input_grad=input_grad)
        # Copies, because what follows may work in the memory of its input.
        self.output = np.array(backends.to_numpy(y))

        def backprop(dy: Array) -> Array | None:
            self.gradient = np.array(backends.to_numpy(dy))
            return through(dy)

        return y, backprop


class Skip(Stand):
    """Nothing at all in place of a layer."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        return x, lambda dy: dy


def twin(model: AnyLayer, replace: Replace | None = None) -> AnyLayer:
    """A copy that shares the model's arrays, and in which ``replace`` may exchange layers."""
    return _twin(model, replace or (lambda position, layer: layer), "")


def logits_twin(model: Layer, replace: Replace | None = None) -> Layer:
    """The same, without the softmax that the model may end in."""
    end, last = list(model.named_layers())[-1]

    def replace_too(position: str, layer: Layer) -> Layer:
        if position == end and isinstance(last, Softmax | LogSoftmax):
            layer = Skip(layer)
        return replace(position, layer) if replace else layer

    return twin(model, replace_too)


def tapped(positions: Iterable[str]) -> tuple[dict[str, Tap], Replace]:
    """Taps to be filled in by a pass, and what puts them at ``positions`` of a twin."""
    wanted, taps = set(positions), dict[str, Tap]()

    def replace(position: str, layer: Layer) -> Layer:
        if position not in wanted:
            return layer
        taps[position] = Tap(layer)
        return taps[position]

    return taps, replace


def find(model: Layer, layer: LayerName) -> str:
    """The place of a layer in a model, from its name in the state dict, its number or itself.

    Raises:
        LayerError: if it is not there.
    """
    places = {position: inner for position, inner in model.named_layers() if position}
    if isinstance(layer, Layer):
        for position, inner in places.items():
            if inner is layer:
                return position
        raise model.error(f"{layer!r} is no layer of the model")
    if not isinstance(layer, str):
        names = list(model.children())
        if not -len(names) <= layer < len(names):
            raise model.error(f"there is no layer {layer}, only {len(names)}")
        return names[layer]
    if layer not in places:
        raise model.error(f"there is no layer {layer!r}; there are {', '.join(places)}")
    return layer


def targets_of(logits: Array, target: npt.ArrayLike | None) -> Array:
    """The class to look at in each example: the given one, the given ones, or else the predicted ones.

    Raises:
        DataError: if there are no logits (N, classes), or a class is not among them.
    """
    if logits.ndim != 2:
        raise DataError(f"expected a model that gives logits of shape (N, classes), got {logits.shape}")
    if target is None:
        predicted: Array = logits.argmax(axis=1)
        return predicted
    classes = backends.to_numpy(target)
    if not np.issubdtype(classes.dtype, np.integer) or classes.shape not in ((), (len(logits),)):
        raise DataError(
            f"expected a class or one for each of {len(logits)} examples, got {classes.dtype} {classes.shape}"
        )
    if classes.size and not 0 <= classes.min() <= classes.max() < logits.shape[1]:
        raise DataError(f"expected classes from 0 to {logits.shape[1] - 1}, got {classes}")
    return np.broadcast_to(classes, (len(logits),))


def examples(x: npt.ArrayLike, images: bool = True) -> Array:
    """``x`` as an array of examples.

    Raises:
        DataError: unless it has the shape (N, C, H, W), or any batch's where ``images`` is False.
    """
    array = backends.to_numpy(x)
    if array.ndim < 2 or (images and array.ndim != 4):
        raise DataError(
            f"expected {'images of shape (N, C, H, W)' if images else 'examples of shape (N, ...)'}, "
            f"got {array.shape}"
        )
    return array


def logits(model: Layer, x: Array, batch_size: int) -> Array:
    """What a twin makes of ``x``, computed batch by batch, as a NumPy array."""
    return np.concatenate([backends.to_numpy(model(some)) for _, some, _ in batches(x, None, batch_size)])


def class_gradient(model: Layer, x: Array, target: npt.ArrayLike | None) -> tuple[Array, Array]:
    """(logits, gradient): of each example's logit of its class, with respect to ``x``; from a twin."""
    y, backprop = model.forward(model.prepare(x), training=False)
    given = backends.to_numpy(y)
    dy = np.zeros_like(given)
    dy[np.arange(len(given)), targets_of(given, target)] = 1
    return given, backends.to_numpy(backprop(model.prepare(dy)))


def batches(x: Array, target: npt.ArrayLike | None, size: int) -> Iterator[tuple[slice, Array, Array | None]]:
    """Places, examples and targets of one batch after another; an empty one if there are no examples.

    Raises:
        DataError: if there are several targets, but not one for each example.
        ValueError: if the size is less than 1.
    """
    if size < 1:
        raise ValueError(f"batch_size must be positive, got {size}")
    targets = None if target is None else backends.to_numpy(target)
    if targets is not None and targets.shape not in ((), (len(x),)):
        raise DataError(f"expected a class or one for each of {len(x)} examples, got shape {targets.shape}")
    for start in range(0, max(len(x), 1), size):
        here = slice(start, start + size)
        yield here, x[here], targets if targets is None or targets.ndim == 0 else targets[here]


def _twin(model: AnyLayer, replace: Replace, position: str) -> AnyLayer:
    copied = copy.copy(model)
    vars(copied).pop("_accepted", None)
    names = {id(child): name for name, child in model.children().items()}

    def inner(layer: Layer) -> Layer:
        if id(layer) not in names:  # kept, but no part of the model
            return layer
        place = f"{position}.{names[id(layer)]}" if position else names[id(layer)]
        return replace(place, _twin(layer, replace, place))

    for name, value in vars(model).items():
        if isinstance(value, Parameter):
            vars(copied)[name] = _constant(value)
        elif isinstance(value, Layer):
            vars(copied)[name] = inner(value)
        elif isinstance(value, list | tuple) and any(isinstance(item, Layer) for item in value):
            items = [inner(item) if isinstance(item, Layer) else item for item in value]
            vars(copied)[name] = type(value)(items)
    return copied


def _constant(parameter: Parameter) -> Parameter:
    constant = copy.copy(parameter)
    constant.requires_grad, constant.grad = False, None
    return constant
