"""Activations, element by element, for arrays of any shape; softmax and its logarithm, along one axis.

A backward function takes what the forward pass has at hand: its result y where the derivative is easily told
from that, else its argument x.
"""

from __future__ import annotations

import math

import numpy as np

from nbconv_kernels.reference.memory import Array, check_float, check_shape, laid_out, quiet

# Chosen such that normalised activations stay normalised from layer to layer (Klambauer et al. 2017).
SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717
GELU_MODES = ("none", "tanh")


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
def prelu(x: Array, weight: Array) -> Array:
    """``x`` where x > 0, else x * weight (He et al. 2015): weight (1,), or (C,) for the channels, axis 1."""
    check_float("prelu", x, weight)
    return laid_out(np.where(x > 0, x, x * _channelwise("prelu", x, weight)))


@quiet
def prelu_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array]:
    """(dx, dweight): ``dy`` where x > 0, else dy * weight; and the sum of dy * x where x <= 0."""
    _check_alike("prelu_backward", dy, x=x)
    check_float("prelu_backward", x, weight)
    slopes = _channelwise("prelu_backward", x, weight)
    products = np.where(x > 0, 0, dy * x)
    axes = tuple(axis for axis in range(x.ndim) if weight.size == 1 or axis != 1)
    return laid_out(np.where(x > 0, dy, dy * slopes)), products.sum(axis=axes).reshape(weight.shape)


@quiet
def selu(x: Array) -> Array:
    """Scale * ``elu(x, alpha)`` with the scale and alpha of Klambauer et al. 2017."""
    check_float("selu", x)
    return laid_out(np.where(x > 0, x * SELU_SCALE, np.expm1(x) * (SELU_SCALE * SELU_ALPHA)))


@quiet
def selu_backward(dy: Array, x: Array) -> Array:
    """``dy * scale`` where x > 0, else dy * scale * alpha * exp(x)."""
    _check_alike("selu_backward", dy, x=x)
    return laid_out(dy * np.where(x > 0, SELU_SCALE, np.exp(x) * (SELU_SCALE * SELU_ALPHA)))


@quiet
def gelu(x: Array, approximate: str = "none") -> Array:
    """``x * Phi(x)``, Phi being the normal distribution's (Hendrycks and Gimpel 2016).

    Phi(x) = (1 + erf(x / sqrt 2)) / 2; "tanh" puts tanh(sqrt(2 / pi) * (x + 0.044715 x^3)) in place of erf.

    Raises:
        ValueError: for another approximation.
        TypeError: if x is neither float32 nor float64.
    """
    check_float("gelu", x)
    return laid_out(x * _gelu_gate("gelu", x, approximate)[0])


@quiet
def gelu_backward(dy: Array, x: Array, approximate: str = "none") -> Array:
    """``dy * (Phi(x) + x * Phi'(x))``."""
    _check_alike("gelu_backward", dy, x=x)
    gate, slope = _gelu_gate("gelu_backward", x, approximate)
    return laid_out(dy * (gate + x * slope))


@quiet
def silu(x: Array) -> Array:
    """``x * sigmoid(x)``, also called swish (Ramachandran et al. 2017)."""
    check_float("silu", x)
    return laid_out(x / (1 + np.exp(-x)))


@quiet
def silu_backward(dy: Array, x: Array) -> Array:
    """``dy * s * (1 + x * (1 - s))`` with s = sigmoid(x)."""
    _check_alike("silu_backward", dy, x=x)
    s = 1 / (1 + np.exp(-x))
    return laid_out(dy * (s * (1 + x * (1 - s))))


@quiet
def hardswish(x: Array) -> Array:
    """``x * min(max(x + 3, 0), 6) / 6`` (Howard et al. 2019)."""
    check_float("hardswish", x)
    return laid_out(x * np.clip(x + 3, 0, 6) / 6)


@quiet
def hardswish_backward(dy: Array, x: Array) -> Array:
    """0 up to x = -3, ``dy`` from x = 3 on, dy * (x / 3 + 1 / 2) between."""
    _check_alike("hardswish_backward", dy, x=x)
    return laid_out(np.where(x <= -3, 0, np.where(x >= 3, dy, dy * (x / 3 + 0.5))))


@quiet
def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``log(1 + exp(beta * x)) / beta``; x itself where beta * x > threshold, as the two are equal there."""
    check_float("softplus", x)
    scaled = x * float(beta)
    return laid_out(np.where(scaled > threshold, x, np.log1p(np.exp(scaled)) / float(beta)))


@quiet
def softplus_backward(dy: Array, x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``dy * sigmoid(beta * x)``; dy where beta * x > threshold."""
    _check_alike("softplus_backward", dy, x=x)
    scaled = x * float(beta)
    return laid_out(np.where(scaled > threshold, dy, dy / (1 + np.exp(-scaled))))


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


@quiet
def log_softmax(x: Array, axis: int = 1) -> Array:
    """``x - log(sum of exp(x))`` along ``axis``, after subtracting the maximum.

    Raises:
        ValueError: if x has no such axis.
        TypeError: if x is neither float32 nor float64.
    """
    check_float("log_softmax", x)
    _check_axis("log_softmax", x, axis)
    if x.size == 0:
        return laid_out(x.copy())
    shifted = x - x.max(axis=axis, keepdims=True)
    return laid_out(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


@quiet
def log_softmax_backward(dy: Array, y: Array, axis: int = 1) -> Array:
    """``dy - exp(y) * sum of dy``, the sum along ``axis``."""
    _check_alike("log_softmax_backward", dy, y=y)
    _check_axis("log_softmax_backward", y, axis)
    return laid_out(dy - np.exp(y) * dy.sum(axis=axis, keepdims=True))


def _gelu_gate(op: str, x: Array, approximate: str) -> tuple[Array, Array]:
    """Phi(x) or its approximation, and the derivative of that."""
    if approximate not in GELU_MODES:
        raise ValueError(f'{op}: approximate must be "none" or "tanh", got {approximate!r}')
    if approximate == "tanh":
        # (1 + tanh(u)) / 2 is the sigmoid of 2 u, whose derivative, s(2 u) * s(-2 u), loses no digits.
        root = 2 * math.sqrt(2 / math.pi)
        u = root * (x + 0.044715 * x**3)
        gate = 1 / (1 + np.exp(-u))
        return gate, gate / (1 + np.exp(u)) * (root * (1 + 3 * 0.044715 * x * x))
    erfc = np.vectorize(math.erfc, otypes=[x.dtype])
    return erfc(x * -math.sqrt(0.5)) / 2, np.exp(-x * x / 2) * (1 / math.sqrt(2 * math.pi))


def _channelwise(op: str, x: Array, weight: Array) -> Array:
    """``weight`` shaped to go along axis 1 of x.

    Raises:
        ValueError: if it holds neither one number nor one for each channel.
    """
    if weight.shape == (1,):
        return weight.reshape(())
    check_shape(op, "a weight (or one of shape (1,))", weight, x.shape[1:2])
    return weight.reshape(-1, *(1,) * (x.ndim - 2))


def _check_alike(op: str, dy: Array, **other: Array) -> None:
    """Raise unless dy and the forward pass's array share dtype and shape."""
    ((name, array),) = other.items()
    check_float(op, dy, array)
    if dy.shape != array.shape:
        raise ValueError(f"{op}: expected dy of {name}'s shape {array.shape}, got shape {dy.shape}")


def _check_axis(op: str, x: Array, axis: int) -> None:
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{op}: axis {axis} is out of range for an array of shape {x.shape}")
