"""Activations x * gate(x) and their gradients: gelu, silu and hardswish.

    gelu        gate = Phi(x) = erfc(-x / sqrt 2) / 2
                or 1 / (1 + exp(-u)), u = 2 sqrt(2 / pi) (x + 0.044715 x^3)
    silu        gate = 1 / (1 + exp(-x))
    hardswish   gate = min(max(x + 3, 0), 6) / 6

The derivative is gate(x) + x * gate'(x). Limit: memory bandwidth; gelu's complementary error function, about
40 instructions, costs as much again.
"""

from __future__ import annotations

import math

from nbconv_kernels.cuda.activation.elementwise import gradient, map_elements, map_gradient, mapping
from nbconv_kernels.cuda.activation.saturating import logistic
from nbconv_kernels.cuda.build import device_function
from nbconv_kernels.cuda.memory import Array
from nbconv_kernels.cuda.target import float32

_DENSITY = 1 / math.sqrt(2 * math.pi)  # of the normal distribution at 0
_ROOT = 2 * math.sqrt(2 / math.pi)
_CUBE = 0.044715
_HALF_ROOT = math.sqrt(0.5)


@device_function
def _normal_cdf(x):
    return float32(0.5) * math.erfc(x * float32(-_HALF_ROOT))


@device_function
def _gelu(x, a, b):
    return x * _normal_cdf(x)


@device_function
def _gelu_slope(dy, x, density, b):
    slope = density * math.exp(float32(-0.5) * x * x)
    return dy * (_normal_cdf(x) + x * slope)


@device_function
def _gelu_tanh(x, root, cube):
    return x * logistic(root * (x + cube * x * x * x))


@device_function
def _gelu_tanh_slope(dy, x, root, cube):
    square = x * x
    u = root * (x + cube * square * x)
    # Of the sigmoid's two sides, e / (1 + e) is the small one: their product loses no digits.
    e = math.exp(-abs(u))
    large = float32(1) / (float32(1) + e)
    gate = large if u >= float32(0) else e * large
    slope = (e * large * large) * (root * (float32(1) + float32(3) * cube * square))
    return dy * (gate + x * slope)


@device_function
def _silu(x, a, b):
    return x * logistic(x)


@device_function
def _silu_slope(dy, x, a, b):
    s = logistic(x)
    return dy * (s * (float32(1) + x * (float32(1) - s)))


@device_function
def _hardswish(x, sixth, b):
    gate = x + float32(3)
    gate = float32(0) if gate < float32(0) else gate
    gate = float32(6) if gate > float32(6) else gate
    return x * gate * sixth


@device_function
def _hardswish_slope(dy, x, third, b):
    inner = dy if x >= float32(3) else dy * (x * third + float32(0.5))
    return float32(0) if x <= float32(-3) else inner


_GELU, _GELU_SLOPE = mapping(_gelu), gradient(_gelu_slope)
_GELU_TANH, _GELU_TANH_SLOPE = mapping(_gelu_tanh), gradient(_gelu_tanh_slope)
_SILU, _SILU_SLOPE = mapping(_silu), gradient(_silu_slope)
_HARDSWISH, _HARDSWISH_SLOPE = mapping(_hardswish), gradient(_hardswish_slope)


def gelu(x: Array, approximate: str = "none") -> Array:
    """``x * Phi(x)``, Phi being the normal distribution's (Hendrycks and Gimpel 2016).

    Phi(x) = (1 + erf(x / sqrt 2)) / 2; "tanh" puts tanh(sqrt(2 / pi) * (x + 0.044715 x^3)) in place of erf.

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: for another approximation.
    """
    if _is_exact("gelu", approximate):
        return map_elements("gelu", _GELU, x)
    return map_elements("gelu", _GELU_TANH, x, _ROOT, _CUBE)


def gelu_backward(dy: Array, x: Array, approximate: str = "none") -> Array:
    """``dy * (Phi(x) + x * Phi'(x))`` for the input ``x``.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ, or for another approximation.
    """
    if _is_exact("gelu_backward", approximate):
        return map_gradient("gelu_backward", _GELU_SLOPE, dy, _DENSITY, x=x)
    return map_gradient("gelu_backward", _GELU_TANH_SLOPE, dy, _ROOT, _CUBE, x=x)


def _is_exact(op: str, approximate: str) -> bool:
    if approximate not in ("none", "tanh"):
        raise ValueError(f'{op}: approximate must be "none" or "tanh", got {approximate!r}')
    return approximate == "none"


def silu(x: Array) -> Array:
    """``x * sigmoid(x)``, also called swish (Ramachandran et al. 2017).

    Raises:
        TypeError: for a dtype other than float32.
    """
    return map_elements("silu", _SILU, x)


def silu_backward(dy: Array, x: Array) -> Array:
    """``dy * s * (1 + x * (1 - s))`` with s = sigmoid(x), for the input ``x``.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ.
    """
    return map_gradient("silu_backward", _SILU_SLOPE, dy, x=x)


def hardswish(x: Array) -> Array:
    """``x * min(max(x + 3, 0), 6) / 6`` (Howard et al. 2019).

    Raises:
        TypeError: for a dtype other than float32.
    """
    return map_elements("hardswish", _HARDSWISH, x, 1 / 6)


def hardswish_backward(dy: Array, x: Array) -> Array:
    """0 up to x = -3, ``dy`` from x = 3 on, dy * (x / 3 + 1 / 2) between, for the input ``x``.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ.
    """
    return map_gradient("hardswish_backward", _HARDSWISH_SLOPE, dy, 1 / 3, x=x)
