"""Checks a layer's backward pass against finite differences of its forward pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nbconv.layers.base import Layer
from nbconv.typing import Array


class GradientError(AssertionError):
    """A gradient differs from the finite differences."""


def check_gradients(
    layer: Layer,
    x: Array,
    *,
    training: bool = True,
    step: float = 1e-5,
    tolerance: float = 1e-6,
    rng: np.random.Generator | None = None,
) -> None:
    """Compare the gradients of the input and of every parameter, element by element.

    The scalar differentiated is the sum of the output weighted by random numbers. Only float64 is exact
    enough: move the layer there by ``layer.to(dtype="float64")``. Where a function has a kink (ReLU at 0, a
    maximum of two equal values), keep ``x`` away from it by more than ``step``.

    Args:
        layer: any layer whose output depends on nothing but its input.
        x: float64, of a few hundred elements at most: each costs two forward passes.
        training: the mode to check.
        step: by which an element is moved up and down.
        tolerance: largest difference allowed, relative to the largest element of the gradient (at least 1).
        rng: for the weights of the output.

    Raises:
        GradientError: naming the first gradient that differs, where and by how much.
        ValueError: unless layer and input are float64.
    """
    if layer.dtype != np.float64 or x.dtype != np.float64:
        raise ValueError(f"gradients are checked in float64, got a {layer.dtype} layer and a {x.dtype} input")
    x = np.array(x)
    for parameter in layer.parameters():
        parameter.grad = None
    y, backprop = layer.forward(x, training)
    weights = (rng or np.random.default_rng(0)).standard_normal(y.shape)
    dx = backprop(layer.prepare(weights))

    def loss() -> float:
        return float(np.sum(np.asarray(layer.forward(x, training)[0]) * weights))

    assert dx is not None
    _compare("the input", dx, _differences(loss, x, step), tolerance)
    for name, parameter in layer.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} got no gradient"
            _compare(name, parameter.grad, _differences(loss, parameter.data, step), tolerance)


def _differences(loss: Callable[[], float], values: Array, step: float) -> Array:
    """Central differences of ``loss`` as each element of ``values`` moves, in place."""
    gradient = np.empty(values.shape)
    for index in np.ndindex(values.shape):
        value = values[index]
        values[index] = value + step
        above = loss()
        values[index] = value - step
        gradient[index] = (above - loss()) / (2 * step)
        values[index] = value
    return gradient


def _compare(name: str, gradient: Array, expected: Array, tolerance: float) -> None:
    if gradient.shape != expected.shape:
        raise GradientError(f"the gradient of {name} has shape {gradient.shape}, not {expected.shape}")
    if not expected.size:
        return
    difference = np.abs(gradient - expected)
    worst = np.unravel_index(np.argmax(difference), expected.shape)
    allowed = tolerance * max(1.0, float(np.abs(expected).max()))
    if not difference[worst] <= allowed:
        place = tuple(int(i) for i in worst)
        raise GradientError(
            f"the gradient of {name} at {place} is {gradient[worst]:.9g}, finite differences give "
            f"{expected[worst]:.9g}; allowed is a difference of {allowed:.2g}"
        )
