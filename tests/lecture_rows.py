"""The table that the rows of the lectures' worked numbers enter themselves in, and what they share."""

from collections.abc import Callable

import numpy as np

import nbconv as nb

FACTS: dict[str, Callable[[str], None]] = {}
"""By the row's id, a function of a backend's name that checks what the row states."""


def row(name):
    def register(fact):
        FACTS[name] = fact
        return fact

    return register


def conv(backend, kernels, bias=None, **arguments):
    """A convolution with the given kernels (out, in, height, width)."""
    kernels = np.asarray(kernels, np.float32)
    out_channels, in_channels, *size = kernels.shape
    layer = nb.Conv2d(in_channels, out_channels, tuple(size), bias=bias is not None, **arguments).to(backend)
    layer.weight.data = kernels
    if bias is not None:
        layer.bias.data = bias
    return layer


def image(*rows):
    """One image of one channel."""
    return np.array(rows, np.float32)[np.newaxis, np.newaxis]


def zeros(*shape):
    return np.zeros(shape, np.float32)


def count(model):
    return sum(parameter.size for parameter in model.parameters())


def shapes(model, input_shape):
    """The shapes, without the batch, that an input of (C, H, W) takes on its way, by running every layer."""
    x = zeros(1, *input_shape)
    result = []
    for layer in model:
        expected = layer.output_shape(x.shape)
        x = layer(x)
        assert x.shape == expected
        result.append(x.shape[1:])
    return result
