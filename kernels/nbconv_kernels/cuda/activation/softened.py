"""Rectifiers with a soft bend: selu and softplus, and their gradients.

    selu        scale * x where x > 0, else scale * alpha * (e^x - 1)
    softplus    log(1 + e^s) / beta = (max(s, 0) + log1p(e^-|s|)) / beta,  s = beta * x

In the second form no exponential overflows. Limit: memory bandwidth, beside which softplus's exponential,
logarithm and division nearly fit.
"""

from __future__ import annotations

import math

from nbconv_kernels.cuda.activation.elementwise import gradient, map_elements, map_gradient, mapping
from nbconv_kernels.cuda.activation.saturating import logistic
from nbconv_kernels.cuda.build import device_function
from nbconv_kernels.cuda.memory import Array
from nbconv_kernels.cuda.target import float32

# Chosen such that normalised activations stay normalised from layer to layer (Klambauer et al. 2017).
_SCALE = 1.0507009873554804934193349852946
_SCALED_ALPHA = _SCALE * 1.6732632423543772848170429916717


@device_function
def _selu(x, scale, scaled_alpha):
    return scaled_alpha * math.expm1(x) if x <= float32(0) else scale * x


@device_function
def _selu_slope(dy, x, scale, scaled_alpha):
    return dy * (scale if x > float32(0) else scaled_alpha * math.exp(x))


@device_function
def _softplus(x, beta, threshold):
    s = beta * x
    soft = ((float32(0) if s < float32(0) else s) + math.log1p(math.exp(-abs(s)))) / beta
    return x if s > threshold else soft


@device_function
def _softplus_slope(dy, x, beta, threshold):
    s = beta * x
    return dy if s > threshold else dy * logistic(s)


_SELU, _SELU_SLOPE = mapping(_selu), gradient(_selu_slope)
_SOFTPLUS, _SOFTPLUS_SLOPE = mapping(_softplus), gradient(_softplus_slope)


def selu(x: Array) -> Array:
    """``scale * elu(x, alpha)`` with the scale and alpha of Klambauer et al. 2017.

    Raises:
        TypeError: for a dtype other than float32.
    """
    return map_elements("selu", _SELU, x, _SCALE, _SCALED_ALPHA)


def selu_backward(dy: Array, x: Array) -> Array:
    """``dy * scale`` where the input ``x`` is positive, ``dy * scale * alpha * e^x`` elsewhere.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ.
    """
    return map_gradient("selu_backward", _SELU_SLOPE, dy, _SCALE, _SCALED_ALPHA, x=x)


def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``log(1 + exp(beta * x)) / beta``; x itself where beta * x > threshold, as the two are equal there.

    Raises:
        TypeError: for a dtype other than float32.
    """
    return map_elements("softplus", _SOFTPLUS, x, beta, threshold)


def softplus_backward(dy: Array, x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``dy * sigmoid(beta * x)``; dy where beta * x > threshold, for the input ``x``.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ.
    """
    return map_gradient("softplus_backward", _SOFTPLUS_SLOPE, dy, beta, threshold, x=x)
