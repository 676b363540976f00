"""Transposed convolution and its gradients: a convolution's with input and output exchanged.

    y   = input gradient of the convolution for dy = x, plus bias
    dx  = that convolution of dy
    dw  = its weight gradient, for the input dy and the output's gradient x

The bias is added in a sweep of its own, bound by memory bandwidth; all else is done by the algorithms of the
convolution and limited as they are.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.conv.choice import algorithm
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float, nhwc
from nbconv_kernels.cpu.tasks import row_of, task_count
from nbconv_kernels.geometry import Conv2dGeometry, PaddingLike, PairLike, conv_transpose2d_geometry


@kernel
def _add_bias_task(task, n_tasks, y, bias):
    channels = bias.size
    pixels = y.size // channels
    for pixel in range(pixels * task // n_tasks, pixels * (task + 1) // n_tasks):
        out = y[pixel * channels : (pixel + 1) * channels]
        for c in range(channels):
            out[c] += bias[c]


@kernel
def _add_bias(n_tasks, y, bias, n_threads):
    parallel_for(_add_bias_task, n_tasks, n_threads, (n_tasks, y, bias))


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
    """The transposed convolution of (N, C, H, W) with weights (C, out / groups, kh, kw), plus a bias (out,).

    ``padding`` rows and columns are taken off the output, ``output_padding`` are added at its end.

    Returns:
        (N, out, P, Q).

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes and arguments that do not go together.
    """
    check_float("conv_transpose2d", x, weight, bias)
    g = conv_transpose2d_geometry(x.shape, weight.shape, stride, padding, output_padding, groups, dilation)
    if bias is not None and bias.shape != (g.c,):
        raise ValueError(f"conv_transpose2d: expected a bias of shape ({g.c},), got {bias.shape}")
    y: Array = algorithm(g, x.itemsize).backward_input(nhwc(x), weight, g)
    if bias is not None:
        _add_bias(task_count(y.size), row_of(y), np.ascontiguousarray(bias), get_num_threads())
    return y


def conv_transpose2d_backward_input(
    dy: Array,
    weight: Array,
    input_shape: tuple[int, ...],
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    output_padding: PairLike = 0,
    groups: int = 1,
    dilation: PairLike = 1,
) -> Array:
    """Gradient of the input, (N, C, H, W) = ``input_shape``, from that of the output, (N, out, P, Q).

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes and arguments that do not go together.
    """
    check_float("conv_transpose2d_backward_input", dy, weight)
    g = conv_transpose2d_geometry(
        input_shape, weight.shape, stride, padding, output_padding, groups, dilation
    )
    _check_gradient("conv_transpose2d_backward_input", dy, g)
    dx: Array = algorithm(g, dy.itemsize).forward(nhwc(dy), weight, None, g)
    return dx


def conv_transpose2d_backward_weight(
    dy: Array,
    x: Array,
    weight_shape: tuple[int, ...],
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    output_padding: PairLike = 0,
    groups: int = 1,
    dilation: PairLike = 1,
) -> Array:
    """Gradient of the weights, (C, out / groups, kh, kw) = ``weight_shape``, C-contiguous.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes and arguments that do not go together.
    """
    check_float("conv_transpose2d_backward_weight", dy, x)
    g = conv_transpose2d_geometry(x.shape, weight_shape, stride, padding, output_padding, groups, dilation)
    _check_gradient("conv_transpose2d_backward_weight", dy, g)
    if not g.n:  # nothing to sum
        return np.zeros(g.weight_shape, dy.dtype)
    chosen = algorithm(g, dy.itemsize, weight_gradient=True)
    dweight: Array = chosen.backward_weight(nhwc(x), nhwc(dy), g)
    return dweight


def _check_gradient(op: str, dy: Array, g: Conv2dGeometry) -> None:
    if dy.shape != g.input_shape:
        raise ValueError(f"{op}: expected dy of shape {g.input_shape}, got {dy.shape}")
