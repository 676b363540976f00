"""Activations and their gradients, any shape: single elements in one sweep, softmax along an axis."""

from __future__ import annotations

from nbconv_kernels.cpu.activation.rectifiers import (
    elu,
    elu_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu6,
    relu6_backward,
    relu_backward,
)
from nbconv_kernels.cpu.activation.saturating import sigmoid, sigmoid_backward, tanh, tanh_backward
from nbconv_kernels.cpu.activation.softmax import softmax, softmax_backward

__all__ = [
    "elu",
    "elu_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "tanh",
    "tanh_backward",
]
