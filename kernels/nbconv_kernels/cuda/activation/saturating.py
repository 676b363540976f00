"""Sigmoid and hyperbolic tangent, and their gradients in terms of the output.

Limit: memory bandwidth; an exponential and a division fit beside it.
"""

from __future__ import annotations

import math

from nbconv_kernels.cuda.activation.elementwise import gradient, map_elements, map_gradient, mapping
from nbconv_kernels.cuda.build import device_function
from nbconv_kernels.cuda.memory import Array
from nbconv_kernels.cuda.target import float32


@device_function
def logistic(x):
    """1 / (1 + e^-x)."""
    return float32(1) / (float32(1) + math.exp(-x))


@device_function
def _sigmoid(x, a, b):
    return logistic(x)


@device_function
def _sigmoid_slope(dy, y, a, b):
    return dy * y * (float32(1) - y)


@device_function
def _tanh(x, a, b):
    return math.tanh(x)


@device_function
def _tanh_slope(dy, y, a, b):
    return dy * (float32(1) - y * y)


_SIGMOID, _SIGMOID_SLOPE = mapping(_sigmoid), gradient(_sigmoid_slope)
_TANH, _TANH_SLOPE = mapping(_tanh), gradient(_tanh_slope)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x).

    Raises:
        TypeError: for a dtype other than float32.
    """
    return map_elements("sigmoid", _SIGMOID, x)


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """``dy * y * (1 - y)`` for the output ``y``.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ.
    """
    return map_gradient("sigmoid_backward", _SIGMOID_SLOPE, dy, y=y)


def tanh(x: Array) -> Array:
    """The hyperbolic tangent.

    Raises:
        TypeError: for a dtype other than float32.
    """
    return map_elements("tanh", _TANH, x)


def tanh_backward(dy: Array, y: Array) -> Array:
    """``dy * (1 - y^2)`` for the output ``y``.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ.
    """
    return map_gradient("tanh_backward", _TANH_SLOPE, dy, y=y)
