"""Finding the layer that a NaN or an infinity comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from nbconv import backends
from nbconv.errors import NonFiniteError
from nbconv.inspect.finite import check_finite
from nbconv.layers.base import Layer
from nbconv.layers.dropout import Dropout
from nbconv.layers.nested import infer_checked
from nbconv.parameter import Parameter
from nbconv.sequential import Sequential
from nbconv.typing import Array


def dropouts_of(model: Layer) -> list[Dropout]:
    """The layers whose passes depend on how many there were before."""
    return [layer for _, layer in model.named_layers() if isinstance(layer, Dropout)]


def explain(model: Sequential, x: Array, what: str, offsets: Sequence[int] | None = None) -> NonFiniteError:
    """The error for a loss that is not finite, naming the first layer that shows why.

    Args:
        model: as it was in the pass.
        x: its input.
        what: begins the message: which loss it was, and where in the run.
        offsets: of the dropouts in a training pass, which is done again; None for evaluation.
    """
    try:
        _look_at_parameters(model)
        check_finite(backends.to_numpy(model.prepare(x)), "the input")
        outputs: Any
        if offsets is None:
            outputs = infer_checked(model, model.prepare(x))
        else:
            for dropout, offset in zip(dropouts_of(model), offsets, strict=True):
                dropout.offset = offset
            with _checked_layers(model):
                outputs, _ = model.forward(x, training=True, input_grad=False)
    except NonFiniteError as error:
        return NonFiniteError(f"{what}: {error.message}", error.layer, error.position)
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    largest = float(np.abs(backends.to_numpy(outputs)).max(initial=0.0))
    return NonFiniteError(
        f"{what}, though all outputs are finite, the largest {largest:.3g}: "
        "is the learning rate too large, or do the targets not fit the loss?"
    )


def explain_late(model: Sequential, what: str) -> NonFiniteError:
    """The same where the model has been trained on since, so that only what became of it can be seen."""
    try:
        _look_at_parameters(model, "by now")
    except NonFiniteError as error:
        return NonFiniteError(f"{what}: {error.message}", error.layer, error.position)
    return NonFiniteError(f"{what}, though all parameters are finite: is a label none of the classes?")


def _look_at_parameters(model: Sequential, since: str = "since the step before") -> None:
    for position, layer in model.named_layers():
        for name, value in vars(layer).items():
            if not isinstance(value, Parameter) or not value.is_drawn:
                continue
            try:
                check_finite(value.numpy(), f"the {name}")
            except NonFiniteError as error:
                message = f"{error.message}, {since}: is the learning rate too large?"
                raise NonFiniteError(message, type(layer).__name__, position) from None


@contextmanager
def _checked_layers(model: Sequential) -> Iterator[None]:
    """Let every layer that has none inside look at its output."""
    watched = [(position, layer) for position, layer in model.named_layers() if not layer.children()]
    for position, layer in watched:
        _watch(layer, position)
    try:
        yield
    finally:
        for _, layer in watched:
            vars(layer).pop("forward", None)


def _watch(layer: Layer, position: str) -> None:
    forward = layer.forward

    def check(y: Any) -> None:
        for output in y if isinstance(y, tuple) else (y,):
            try:
                check_finite(backends.to_numpy(output), "the output")
            except NonFiniteError as error:
                raise _PlacedError(error.message, type(layer).__name__, position) from None

    def checked_forward(*args: Any, **kwargs: Any) -> Any:
        y, backprop = forward(*args, **kwargs)
        check(y)
        return y, backprop

    vars(layer).update(forward=checked_forward)


class _PlacedError(NonFiniteError):
    """Knows its place already; the containers it passes through must not add to it."""

    def add_position(self, outer: str) -> None:
        """Keep the place."""
