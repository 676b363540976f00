"""Rectifiers and their gradients: relu, relu6, leaky_relu and elu.

NaN goes the way that PyTorch sends it: comparisons are written such that it stays or passes.

Limit: memory bandwidth.
"""

from __future__ import annotations

import math

from nbconv_kernels.cuda.activation.elementwise import gradient, map_elements, map_gradient, mapping
from nbconv_kernels.cuda.build import device_function
from nbconv_kernels.cuda.memory import Array
from nbconv_kernels.cuda.target import float32


@device_function
def _relu(x, a, b):
    return float32(0) if x <= float32(0) else x


@device_function
def _relu_slope(dy, y, a, b):
    return float32(0) if y <= float32(0) else dy


@device_function
def _relu6(x, a, b):
    return float32(0) if x <= float32(0) else (float32(6) if x >= float32(6) else x)


@device_function
def _relu6_slope(dy, y, a, b):
    return float32(0) if y <= float32(0) or y >= float32(6) else dy


@device_function
def _leaky_relu(x, slope, b):
    return x if x > float32(0) else x * slope


@device_function
def _leaky_relu_slope(dy, x, slope, b):
    return dy if x > float32(0) else dy * slope


@device_function
def _elu(x, alpha, b):
    return alpha * math.expm1(x) if x <= float32(0) else x


@device_function
def _elu_slope(dy, x, alpha, b):
    return dy if x > float32(0) else dy * alpha * math.exp(x)


_RELU, _RELU_SLOPE = mapping(_relu), gradient(_relu_slope)
_RELU6, _RELU6_SLOPE = mapping(_relu6), gradient(_relu6_slope)
_LEAKY_RELU, _LEAKY_RELU_SLOPE = mapping(_leaky_relu), gradient(_leaky_relu_slope)
_ELU, _ELU_SLOPE = mapping(_elu), gradient(_elu_slope)


def relu(x: Array) -> Array:
    """max(x, 0), and NaN where x is NaN.

    Raises:
        TypeError: for a dtype other than float32.
    """
    return map_elements("relu", _RELU, x)


def relu_backward(dy: Array, y: Array) -> Array:
    """``dy`` where the output ``y`` (or the input: the signs agree) is positive or NaN, else 0.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ.
    """
    return map_gradient("relu_backward", _RELU_SLOPE, dy, y=y)


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6), and NaN where x is NaN.

    Raises:
        TypeError: for a dtype other than float32.
    """
    return map_elements("relu6", _RELU6, x)


def relu6_backward(dy: Array, y: Array) -> Array:
    """``dy`` where the output ``y`` is between 0 and 6, or NaN, else 0.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ.
    """
    return map_gradient("relu6_backward", _RELU6_SLOPE, dy, y=y)


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """X where it is positive, ``negative_slope * x`` elsewhere.

    Raises:
        TypeError: for a dtype other than float32.
    """
    return map_elements("leaky_relu", _LEAKY_RELU, x, negative_slope)


def leaky_relu_backward(dy: Array, x: Array, negative_slope: float = 0.01) -> Array:
    """``dy`` where the input ``x`` is positive, ``negative_slope * dy`` elsewhere.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ.
    """
    return map_gradient("leaky_relu_backward", _LEAKY_RELU_SLOPE, dy, negative_slope, x=x)


def elu(x: Array, alpha: float = 1.0) -> Array:
    """X where it is positive, ``alpha * (e^x - 1)`` elsewhere.

    Raises:
        TypeError: for a dtype other than float32.
    """
    return map_elements("elu", _ELU, x, alpha)


def elu_backward(dy: Array, x: Array, alpha: float = 1.0) -> Array:
    """``dy`` where the input ``x`` is positive, ``alpha * e^x * dy`` elsewhere.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ.
    """
    return map_gradient("elu_backward", _ELU_SLOPE, dy, alpha, x=x)
