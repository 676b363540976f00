"""Activations, element by element, for arrays of any shape; and softmax, along one axis.

A backward function takes what the forward pass has at hand: its result y where the derivative is easily told
from that, else its argument x.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.reference.memory import Array, check_float, laid_out, quiet


@quiet
def relu(x: Array) -> Array:
    """``max(x, 0)``; NaN stays NaN."""
    check_float("relu", x)
    return laid_out(np.maximum(x, 0))


@quiet
def relu_backward(dy: Array, y: Array) -> Array:
    """``dy`` where y > 0, else 0. Where y is NaN dy passes, as in PyTorch."""
    _check_alike("relu_backward", dy, y=y)
    return laid_out(np.where(y <= 0, 0, dy))


@quiet
def relu6(x: Array) -> Array:
    """``min(max(x, 0), 6)``; NaN stays NaN (Howard et al. 2017)."""
    check_float("relu6", x)
    return laid_out(np.clip(x, 0, 6))


@quiet
def relu6_backward(dy: Array, y: Array) -> Array:
    """``dy`` where 0 < y < 6, else 0. Where y is NaN dy passes, as in PyTorch."""
    _check_alike("relu6_backward", dy, y=y)
    return laid_out(np.where((y <= 0) | (y >= 6), 0, dy))


@quiet
def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """``x`` where x > 0, else x * negative_slope."""
    check_float("leaky_relu", x)
    return laid_out(np.where(x > 0, x, x * float(negative_slope)))


@quiet
def leaky_relu_backward(dy: Array, x: Array, negative_slope: float = 0.01) -> Array:
    """``dy`` where x > 0, else dy * negative_slope."""
    _check_alike("leaky_relu_backward", dy, x=x)
    return laid_out(np.where(x > 0, dy, dy * float(negative_slope)))


@quiet
def elu(x: Array, alpha: float = 1.0) -> Array:
    """``x`` where x > 0, else alpha * (exp(x) - 1) (Clevert et al. 2016)."""
    check_float("elu", x)
    return laid_out(np.where(x > 0, x, np.expm1(x) * float(alpha)))


@quiet
def elu_backward(dy: Array, x: Array, alpha: float = 1.0) -> Array:
    """``dy`` where x > 0, else dy * alpha * exp(x)."""
    _check_alike("elu_backward", dy, x=x)
    return laid_out(np.where(x > 0, dy, dy * (np.exp(x) * float(alpha))))


@quiet
def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``."""
    check_float("sigmoid", x)
    return laid_out(1 / (1 + np.exp(-x)))


@quiet
def sigmoid_backward(dy: Array, y: Array) -> Array:
    """``dy * y * (1 - y)``."""
    _check_alike("sigmoid_backward", dy, y=y)
    return laid_out(dy * (y * (1 - y)))


@quiet
def tanh(x: Array) -> Array:
    """The hyperbolic tangent."""
    check_float("tanh", x)
    return laid_out(np.tanh(x))


@quiet
def tanh_backward(dy: Array, y: Array) -> Array:
    """``dy * (1 - y^2)``."""
    _check_alike("tanh_backward", dy, y=y)
    return laid_out(dy * (1 - y * y))


@quiet
def softmax(x: Array, axis: int = 1) -> Array:
    """exp(x) / sum of exp(x) along ``axis``, after subtracting the maximum, so that no exponential overflows.

    Raises:
        ValueError: if x has no such axis.
        TypeError: if x is neither float32 nor float64.
    """
    check_float("softmax", x)
    _check_axis("softmax", x, axis)
    if x.size == 0:
        return laid_out(x.copy())
    exponentials = np.exp(x - x.max(axis=axis, keepdims=True))
    return laid_out(exponentials / exponentials.sum(axis=axis, keepdims=True))


@quiet
def softmax_backward(dy: Array, y: Array, axis: int = 1) -> Array:
    """``y * (dy - sum of dy * y)``, the sum along ``axis``."""
    _check_alike("softmax_backward", dy, y=y)
    _check_axis("softmax_backward", y, axis)
    return laid_out(y * (dy - (dy * y).sum(axis=axis, keepdims=True)))


def _check_alike(op: str, dy: Array, **other: Array) -> None:
    """Raise unless dy and the forward pass's array share dtype and shape."""
    ((name, array),) = other.items()
    check_float(op, dy, array)
    if dy.shape != array.shape:
        raise ValueError(f"{op}: expected dy of {name}'s shape {array.shape}, got shape {dy.shape}")


def _check_axis(op: str, x: Array, axis: int) -> None:
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{op}: axis {axis} is out of range for an array of shape {x.shape}")
