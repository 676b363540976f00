"""Transposed convolution and its gradients: a convolution's with input and output exchanged.

    y   = input gradient of the convolution for dy = x, plus bias
    dx  = that convolution of dy
    dw  = its weight gradient, for the input dy and the output's gradient x

The bias is added by the kernel that has the sums. Limited as the convolution's algorithms are.
"""

from __future__ import annotations

from nbconv_kernels.cuda.conv.choice import algorithm
from nbconv_kernels.cuda.conv.finish import Target
from nbconv_kernels.cuda.memory import Array, check_float, empty_nchw
from nbconv_kernels.geometry import Conv2dGeometry, PaddingLike, PairLike, conv_transpose2d_geometry

__all__ = ["conv_transpose2d", "conv_transpose2d_backward_input", "conv_transpose2d_backward_weight"]


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
        TypeError: for dtypes other than float32.
        ValueError: for shapes and arguments that do not go together.
    """
    check_float("conv_transpose2d", x, weight, bias)
    g = conv_transpose2d_geometry(x.shape, weight.shape, stride, padding, output_padding, groups, dilation)
    if bias is not None and bias.shape != (g.c,):
        raise ValueError(f"conv_transpose2d: expected a bias of shape ({g.c},), got {bias.shape}")
    y: Array = algorithm(g, x).backward_input(x, weight, g, bias)
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
        TypeError: for dtypes other than float32.
        ValueError: for shapes and arguments that do not go together.
    """
    check_float("conv_transpose2d_backward_input", dy, weight)
    g = conv_transpose2d_geometry(
        input_shape, weight.shape, stride, padding, output_padding, groups, dilation
    )
    _check_gradient("conv_transpose2d_backward_input", dy, g)
    dx = empty_nchw(dy, *g.output_shape)
    algorithm(g, dy).forward(dy, weight, None, g, Target(dx, g.k), None)
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
        TypeError: for dtypes other than float32.
        ValueError: for shapes and arguments that do not go together.
    """
    check_float("conv_transpose2d_backward_weight", dy, x)
    g = conv_transpose2d_geometry(x.shape, weight_shape, stride, padding, output_padding, groups, dilation)
    _check_gradient("conv_transpose2d_backward_weight", dy, g)
    dweight: Array = algorithm(g, x).backward_weight(x, dy, g)
    return dweight


def _check_gradient(op: str, dy: Array, g: Conv2dGeometry) -> None:
    if dy.shape != g.input_shape:
        raise ValueError(f"{op}: expected dy of shape {g.input_shape}, got {dy.shape}")
