"""Two-dimensional convolution and its gradients on the CPU.

Depthwise convolutions have loops of their own (``depthwise``), and so have gray images under few filters
(``gray``); every other one can be a matrix product that reads the pixels in place (``direct``, on top of
``implicit_gemm`` and ``weight_gradient``). For 3 x 3 kernels in float32, ``winograd`` is taken where it
promises to be faster, unless the precision is set to "highest". Each of these modules offers ``forward``,
``backward_input`` and ``backward_weight``, between which the transposed convolution (``transpose``) exchanges
the roles.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from nbconv_kernels.cpu.conv import direct
from nbconv_kernels.cpu.conv.choice import algorithm
from nbconv_kernels.cpu.conv.target import Kept, Target
from nbconv_kernels.cpu.conv.transpose import (
    conv_transpose2d,
    conv_transpose2d_backward_input,
    conv_transpose2d_backward_weight,
)
from nbconv_kernels.cpu.epilogue import finish_of
from nbconv_kernels.cpu.memory import Array, check_float, empty, nhwc
from nbconv_kernels.cpu.reduction import sum_over_pixels
from nbconv_kernels.geometry import Conv2dGeometry, PaddingLike, PairLike, conv2d_geometry

__all__ = [
    "conv2d",
    "conv2d_backward_bias",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "conv2d_onto",
    "conv_transpose2d",
    "conv_transpose2d_backward_input",
    "conv_transpose2d_backward_weight",
]


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    groups: int = 1,
    activation: str | None = None,
    kept: Kept | None = None,
) -> Array:
    """Cross-correlation of (N, C, H, W) with weights (out, C / groups, kh, kw), plus a bias (out,).

    Args:
        x: the input.
        weight: the kernels.
        bias: added to each output channel.
        stride: of the kernels.
        padding: with zeros; an integer, (h, w), ((top, bottom), (left, right)), "same" or "valid".
        dilation: of the kernels.
        groups: of channels.
        activation: of the sum: None, "relu" or "relu6".
        kept: the caller's, empty at first; as long as weight and bias stay the same, what is made of them is
            kept there from call to call.

    Returns:
        (N, out, P, Q).

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes and arguments that do not go together.
    """
    check_float("conv2d", x, weight, bias)
    geometry = conv2d_geometry(x.shape, weight.shape, stride, padding, dilation, groups)
    _check_bias("conv2d", bias, geometry)
    finish = finish_of("conv2d", activation)
    target = Target(empty((geometry.n, geometry.p, geometry.q, geometry.k), x.dtype), 0, finish)
    chosen = algorithm(geometry, x.itemsize, kept=kept is not None)
    return chosen.forward(_pixels(x, chosen), weight, bias, geometry, target, kept)


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
    kept: Kept | None = None,
) -> None:
    """``conv2d`` into the channels of ``out``, (N, channels, P, Q), from ``channel`` on.

    With ``add`` it is added to what they hold, before the activation. ``out`` must not share memory with
    ``x``.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes and arguments that do not go together.
    """
    check_float("conv2d_onto", out, x, weight, bias)
    geometry = conv2d_geometry(x.shape, weight.shape, stride, padding, dilation, groups)
    _check_bias("conv2d_onto", bias, geometry)
    n, k, p, q = geometry.output_shape
    if out.ndim != 4 or (out.shape[0], *out.shape[2:]) != (n, p, q) or not 0 <= channel <= out.shape[1] - k:
        raise ValueError(
            f"conv2d_onto: an output of shape {(n, k, p, q)} does not fit into an array of shape {out.shape} "
            f"from channel {channel} on"
        )
    y = nhwc(out)
    target = Target(y, channel, finish_of("conv2d_onto", activation, add))
    chosen = algorithm(geometry, x.itemsize, kept=kept is not None)
    chosen.forward(_pixels(x, chosen), weight, bias, geometry, target, kept)
    if not np.may_share_memory(y, out):  # its memory was not channels-last
        out[...] = y.transpose(0, 3, 1, 2)


def conv2d_backward_input(
    dy: Array,
    weight: Array,
    input_shape: tuple[int, ...],
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    groups: int = 1,
) -> Array:
    """Gradient of the input, (N, C, H, W) = ``input_shape``, from that of the output, (N, out, P, Q).

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes and arguments that do not go together.
    """
    check_float("conv2d_backward_input", dy, weight)
    geometry = conv2d_geometry(input_shape, weight.shape, stride, padding, dilation, groups)
    _check_gradient("conv2d_backward_input", dy, geometry)
    return algorithm(geometry, dy.itemsize).backward_input(nhwc(dy), weight, geometry)


def conv2d_backward_weight(
    dy: Array,
    x: Array,
    weight_shape: tuple[int, ...],
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    groups: int = 1,
) -> Array:
    """Gradient of the weights, (out, C / groups, kh, kw) = ``weight_shape``, C-contiguous.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes and arguments that do not go together.
    """
    check_float("conv2d_backward_weight", dy, x)
    geometry = conv2d_geometry(x.shape, weight_shape, stride, padding, dilation, groups)
    _check_gradient("conv2d_backward_weight", dy, geometry)
    if not geometry.n:  # nothing to sum
        return np.zeros(geometry.weight_shape, dy.dtype)
    chosen = algorithm(geometry, dy.itemsize, weight_gradient=True)
    return chosen.backward_weight(nhwc(dy), _pixels(x, chosen), geometry)


def conv2d_backward_bias(dy: Array) -> Array:
    """Gradient of the bias, (out,): the sum of ``dy`` (N, out, P, Q) over images and pixels.

    Raises:
        TypeError: for dtypes other than float32 or float64.
        ValueError: for an array that is not 4-D.
    """
    check_float("conv2d_backward_bias", dy)
    if dy.ndim != 4:
        raise ValueError(f"conv2d_backward_bias: expected dy of shape (N, C, H, W), got {dy.shape}")
    return sum_over_pixels(nhwc(dy).reshape(-1, dy.shape[1]))


def _pixels(x: Array, chosen: ModuleType) -> Array:
    """``x`` (N, C, H, W) as (N, H, W, C), in memory order but for ``direct``, which sees to that itself."""
    return x.transpose(0, 2, 3, 1) if chosen is direct else nhwc(x)


def _check_bias(op: str, bias: Array | None, geometry: Conv2dGeometry) -> None:
    if bias is not None and bias.shape != (geometry.k,):
        raise ValueError(f"{op}: expected a bias of shape ({geometry.k},), got {bias.shape}")


def _check_gradient(op: str, dy: Array, geometry: Conv2dGeometry) -> None:
    if dy.shape != geometry.output_shape:
        raise ValueError(f"{op}: expected dy of shape {geometry.output_shape}, got {dy.shape}")
