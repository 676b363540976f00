"""Convolution (cross-correlation, as everywhere in deep learning) and its gradients.

    y[n, k, p, q] = bias[k] + sum over c, r, s of weight[k, c, r, s] * x[n, c, h, w]
    where h = p * stride - pad + r * dilation, w = q * stride - pad + s * dilation

with zeros outside the input. With groups, output channel k sees only the input channels of its own group.
Each function below adds up one kernel tap (r, s) at a time: for a fixed tap, convolution is a matrix product
over channels.

The transposed convolution is the input gradient of a convolution, taken for a layer of its own: every element
of x spreads its products over a window of y. Its gradients are therefore that convolution and its weight
gradient, with the roles of input and output exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nbconv_kernels.geometry import (
    Conv2dGeometry,
    PaddingLike,
    PairLike,
    conv2d_geometry,
    conv_transpose2d_geometry,
)
from nbconv_kernels.reference.memory import Array, check_float, check_rank, check_shape, laid_out, quiet
from nbconv_kernels.reference.windows import pad, taps, unpad


@quiet
def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    groups: int = 1,
    activation: str | None = None,
    kept: dict[str, Any] | None = None,
) -> Array:
    """Convolve x (N, C, H, W) with weight (out, C / groups, kh, kw) and add bias (out,).

    Padding is an integer, (h, w), ((top, bottom), (left, right)), "same" or "valid". The activation is None,
    "relu" or "relu6". In ``kept``, a dict that the caller holds on to as long as weight and bias are the
    same, a backend may keep what it makes of them; this one makes nothing.

    Returns:
        (N, out, P, Q), channels-last.

    Raises:
        ValueError: if shapes and arguments do not fit.
        TypeError: if the arrays are not all float32 or all float64.
    """
    check_float("conv2d", x, weight, bias)
    g = conv2d_geometry(x.shape, weight.shape, stride, padding, dilation, groups)
    check_shape("conv2d", "a bias", bias, (g.k,))
    y = _forward(x, weight, g)
    if bias is not None:
        y += bias[:, None, None]
    return laid_out(_activated("conv2d", y, activation))


@quiet
def conv2d_onto(
    out: Array,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    groups: int = 1,
    activation: str | None = None,
    channel: int = 0,
    add: bool = False,
    kept: dict[str, Any] | None = None,
) -> None:
    """``conv2d`` into the channels of out (N, channels, P, Q) from ``channel`` on.

    With ``add`` it is added to what they hold, before the activation.

    Raises:
        ValueError: if shapes and arguments do not fit.
        TypeError: if the arrays are not all float32 or all float64.
    """
    check_float("conv2d_onto", out, x, weight, bias)
    y = conv2d(x, weight, bias, stride, padding, dilation, groups)
    n, k, p, q = y.shape
    if out.ndim != 4 or (out.shape[0], *out.shape[2:]) != (n, p, q) or not 0 <= channel <= out.shape[1] - k:
        raise ValueError(
            f"conv2d_onto: an output of shape {y.shape} does not fit into an array of shape {out.shape} "
            f"from channel {channel} on"
        )
    target = out[:, channel : channel + k]
    target[...] = _activated("conv2d_onto", target + y if add else y, activation)


@quiet
def conv2d_backward_input(
    dy: Array,
    weight: Array,
    input_shape: tuple[int, int, int, int],
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    groups: int = 1,
) -> Array:
    """The gradient of ``conv2d`` with respect to x: each tap's products go back to where they were read.

    Returns:
        dx of ``input_shape``, channels-last.

    Raises:
        ValueError: if shapes and arguments do not fit.
        TypeError: if the arrays are not all float32 or all float64.
    """
    check_float("conv2d_backward_input", dy, weight)
    g = conv2d_geometry(input_shape, weight.shape, stride, padding, dilation, groups)
    check_shape("conv2d_backward_input", "dy", dy, g.output_shape)
    return laid_out(_backward_input(dy, weight, g))


@quiet
def conv2d_backward_weight(
    dy: Array,
    x: Array,
    weight_shape: tuple[int, int, int, int],
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    groups: int = 1,
) -> Array:
    """The gradient of ``conv2d`` with respect to the weights: a sum over batch and positions.

    Returns:
        dweight of ``weight_shape``, C-contiguous.

    Raises:
        ValueError: if shapes and arguments do not fit.
        TypeError: if the arrays are not all float32 or all float64.
    """
    check_float("conv2d_backward_weight", dy, x)
    g = conv2d_geometry(x.shape, weight_shape, stride, padding, dilation, groups)
    check_shape("conv2d_backward_weight", "dy", dy, g.output_shape)
    return _backward_weight(dy, x, g)


@quiet
def conv2d_backward_bias(dy: Array) -> Array:
    """The gradient of ``conv2d`` with respect to the bias: dy (N, C, P, Q) summed to (C,)."""
    check_float("conv2d_backward_bias", dy)
    check_rank("conv2d_backward_bias", "dy", dy, "(N, C, P, Q)")
    return dy.sum(axis=(0, 2, 3))


@quiet
def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    output_padding: PairLike = 0,
    groups: int = 1,
    dilation: PairLike = 1,
) -> Array:
    """The transposed convolution of x (N, C, H, W) with weight (C, out / groups, kh, kw), plus bias (out,).

    ``padding`` rows and columns are taken off the output, ``output_padding`` are added at its end.

    Returns:
        (N, out, P, Q), channels-last.

    Raises:
        ValueError: if shapes and arguments do not fit.
        TypeError: if the arrays are not all float32 or all float64.
    """
    check_float("conv_transpose2d", x, weight, bias)
    g = conv_transpose2d_geometry(x.shape, weight.shape, stride, padding, output_padding, groups, dilation)
    check_shape("conv_transpose2d", "a bias", bias, (g.c,))
    y = _backward_input(x, weight, g)
    if bias is not None:
        y += bias[:, None, None]
    return laid_out(y)


@quiet
def conv_transpose2d_backward_input(
    dy: Array,
    weight: Array,
    input_shape: tuple[int, int, int, int],
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    output_padding: PairLike = 0,
    groups: int = 1,
    dilation: PairLike = 1,
) -> Array:
    """The gradient of ``conv_transpose2d`` with respect to x: a convolution of dy.

    Returns:
        dx of ``input_shape``, channels-last.

    Raises:
        ValueError: if shapes and arguments do not fit.
        TypeError: if the arrays are not all float32 or all float64.
    """
    check_float("conv_transpose2d_backward_input", dy, weight)
    g = conv_transpose2d_geometry(
        input_shape, weight.shape, stride, padding, output_padding, groups, dilation
    )
    check_shape("conv_transpose2d_backward_input", "dy", dy, g.input_shape)
    return laid_out(_forward(dy, weight, g))


@quiet
def conv_transpose2d_backward_weight(
    dy: Array,
    x: Array,
    weight_shape: tuple[int, int, int, int],
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    output_padding: PairLike = 0,
    groups: int = 1,
    dilation: PairLike = 1,
) -> Array:
    """The gradient of ``conv_transpose2d`` with respect to the weights.

    Returns:
        dweight of ``weight_shape``, C-contiguous.

    Raises:
        ValueError: if shapes and arguments do not fit.
        TypeError: if the arrays are not all float32 or all float64.
    """
    check_float("conv_transpose2d_backward_weight", dy, x)
    g = conv_transpose2d_geometry(x.shape, weight_shape, stride, padding, output_padding, groups, dilation)
    check_shape("conv_transpose2d_backward_weight", "dy", dy, g.input_shape)
    return _backward_weight(x, dy, g)


def _forward(x: Array, weight: Array, g: Conv2dGeometry) -> Array:
    padded = pad(x, g)
    y = np.zeros(g.output_shape, x.dtype)
    for r, s, (rows, columns) in taps(g):
        for inputs, outputs in _groups(g):
            window = padded[:, inputs, rows, columns]
            y[:, outputs] += np.einsum("ncpq,kc->nkpq", window, weight[outputs, :, r, s], optimize=True)
    return y


def _backward_input(dy: Array, weight: Array, g: Conv2dGeometry) -> Array:
    padded = pad(np.zeros(g.input_shape, dy.dtype), g)
    for r, s, (rows, columns) in taps(g):
        for inputs, outputs in _groups(g):
            products = np.einsum("nkpq,kc->ncpq", dy[:, outputs], weight[outputs, :, r, s], optimize=True)
            padded[:, inputs, rows, columns] += products
    return unpad(padded, g)


def _backward_weight(dy: Array, x: Array, g: Conv2dGeometry) -> Array:
    padded = pad(x, g)
    dweight = np.zeros(g.weight_shape, x.dtype)
    for r, s, (rows, columns) in taps(g):
        for inputs, outputs in _groups(g):
            window = padded[:, inputs, rows, columns]
            dweight[outputs, :, r, s] = np.einsum("nkpq,ncpq->kc", dy[:, outputs], window, optimize=True)
    return dweight


def _groups(g: Conv2dGeometry) -> Iterator[tuple[slice, slice]]:
    """The input and output channels of each group."""
    c, k = g.c // g.groups, g.k // g.groups
    for group in range(g.groups):
        yield slice(group * c, (group + 1) * c), slice(group * k, (group + 1) * k)


def _activated(op: str, y: Array, activation: str | None) -> Array:
    if activation is None:
        return y
    if activation == "relu":
        return np.maximum(y, 0)
    if activation == "relu6":
        return np.clip(y, 0, 6)
    raise ValueError(f'{op}: activation must be None, "relu" or "relu6", got {activation!r}')
