"""First values of parameters: functions of a shape and a random generator.

Weights are (out, in, ...): a unit has ``fan_in = in * kernel area`` inputs and its input feeds
``fan_out = out * kernel area`` units. The Kaiming and Glorot rules pick the spread of the weights so that the
variance of activations (or of gradients) stays the same from layer to layer.

Sources: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010;
He et al., "Delving deep into rectifiers", 2015.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nbconv.typing import Array, Shape

Initializer = Callable[[Shape, np.random.Generator], Array]


def constant(value: float) -> Initializer:
    """Every element is ``value``."""
    return lambda shape, rng: np.full(shape, value, np.float32)


def zeros() -> Initializer:
    """Every element is 0."""
    return constant(0.0)


def ones() -> Initializer:
    """Every element is 1."""
    return constant(1.0)


def uniform(low: float = 0.0, high: float = 1.0) -> Initializer:
    """Uniform in [low, high)."""

    def draw(shape: Shape, rng: np.random.Generator) -> Array:
        values: Array = rng.random(shape, np.float32)
        values *= np.float32(high - low)
        values += np.float32(low)
        return values

    return draw


def normal(mean: float = 0.0, std: float = 1.0) -> Initializer:
    """Normally distributed."""

    def draw(shape: Shape, rng: np.random.Generator) -> Array:
        values: Array = rng.standard_normal(shape, np.float32)
        values *= np.float32(std)
        values += np.float32(mean)
        return values

    return draw


def kaiming_uniform(a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Initializer:
    """Uniform in +-gain * sqrt(3 / fan); ``a`` is the negative slope of a leaky ReLU."""
    return lambda shape, rng: _uniform(math.sqrt(3.0) * _kaiming_std(shape, a, mode, nonlinearity))(
        shape, rng
    )


def kaiming_normal(a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Initializer:
    """Normal with standard deviation gain / sqrt(fan); ``a`` is the negative slope of a leaky ReLU."""
    return lambda shape, rng: normal(0.0, _kaiming_std(shape, a, mode, nonlinearity))(shape, rng)


def xavier_uniform(gain: float = 1.0) -> Initializer:
    """Uniform in +-gain * sqrt(6 / (fan_in + fan_out)): Glorot's rule."""
    return lambda shape, rng: _uniform(math.sqrt(3.0) * _xavier_std(shape, gain))(shape, rng)


def xavier_normal(gain: float = 1.0) -> Initializer:
    """Normal with standard deviation gain * sqrt(2 / (fan_in + fan_out)): Glorot's rule."""
    return lambda shape, rng: normal(0.0, _xavier_std(shape, gain))(shape, rng)


glorot_uniform = xavier_uniform
glorot_normal = xavier_normal


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of weights of shape (out, in, ...).

    Raises:
        ValueError: if the shape has fewer than two axes.
    """
    if len(shape) < 2:
        raise ValueError(f"fan_in and fan_out need weights of at least two axes, got shape {shape}")
    area = math.prod(shape[2:])
    return shape[1] * area, shape[0] * area


def calculate_gain(nonlinearity: str, a: float = 0.01) -> float:
    """By how much weights must grow to make up for what an activation takes from the variance.

    Raises:
        ValueError: for an unknown activation.
    """
    gains = {
        "linear": 1.0,
        "conv2d": 1.0,
        "sigmoid": 1.0,
        "tanh": 5.0 / 3.0,
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1.0 + a * a)),
        "selu": 0.75,
    }
    if nonlinearity not in gains:
        raise ValueError(f"unknown nonlinearity {nonlinearity!r}; there are {', '.join(gains)}")
    return gains[nonlinearity]


def _uniform(bound: float) -> Initializer:
    return uniform(-bound, bound)


def _kaiming_std(shape: Shape, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'mode must be "fan_in" or "fan_out", got {mode!r}')
    fan_in, fan_out = fans(shape)
    fan = fan_in if mode == "fan_in" else fan_out
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def _xavier_std(shape: Shape, gain: float) -> float:
    return gain * math.sqrt(2.0 / sum(fans(shape)))
