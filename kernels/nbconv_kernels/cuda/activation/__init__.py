"""Activations and their gradients, any shape: single elements in one sweep, softmax along an axis."""

from __future__ import annotations

from nbconv_kernels.cuda.activation.gated import (
    gelu,
    gelu_backward,
    hardswish,
    hardswish_backward,
    silu,
    silu_backward,
)
from nbconv_kernels.cuda.activation.log_softmax import (
    log_softmax,
    log_softmax_backward,
)
from nbconv_kernels.cuda.activation.prelu import (
    prelu,
    prelu_backward,
)
from nbconv_kernels.cuda.activation.rectifiers import (
    elu,
    elu_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu6,
    relu6_backward,
    relu_backward,
)
from nbconv_kernels.cuda.activation.saturating import (
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
)
from nbconv_kernels.cuda.activation.softened import (
    selu,
    selu_backward,
    softplus,
    softplus_backward,
)
from nbconv_kernels.cuda.activation.softmax import (
    softmax,
    softmax_backward,
)

__all__ = [
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "hardswish",
    "hardswish_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "log_softmax",
    "log_softmax_backward",
    "prelu",
    "prelu_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "selu",
    "selu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
]
