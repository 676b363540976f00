"""Convolution as a matrix product on CUDA cores, in float32: any stride, padding, dilation and groups.

The products are those of ``implicit_gemm`` and ``weight_gradient``; here their operands are prepared.
"""

from __future__ import annotations

from nbconv_kernels.cuda.conv import implicit_gemm, weight_gradient
from nbconv_kernels.cuda.conv.finish import Kept, Target
from nbconv_kernels.cuda.conv.packing import pack_filters, padded
from nbconv_kernels.cuda.conv.phases import backward_input_plan, forward_plan
from nbconv_kernels.cuda.memory import Array, empty, empty_nchw, whole
from nbconv_kernels.geometry import Conv2dGeometry

__all__ = ["backward_input", "backward_weight", "forward"]


def forward(
    x: Array, weight: Array, bias: Array | None, g: Conv2dGeometry, to: Target, kept: Kept | None
) -> None:
    """From x (N, C, H, W), weight (K, C / groups, R, S), bias (K,) into the target."""
    gather, phases, order = forward_plan(g)
    filters = None if kept is None else kept.get("direct")
    if filters is None:
        filters = pack_filters(weight, g, order, turned=False)
        if kept is not None:
            kept["direct"] = filters
    implicit_gemm.launch(padded(whole(x), g.c // g.groups), filters, bias, to, gather, phases, g.groups)


def backward_input(dy: Array, weight: Array, g: Conv2dGeometry, bias: Array | None = None) -> Array:
    """From dy (N, K, P, Q) to dx (N, C, H, W), with a bias (C,) for the transposed convolution."""
    gather, phases, order = backward_input_plan(g)
    dx = empty_nchw(dy, g.n, g.c, g.h, g.w)
    filters = pack_filters(weight, g, order, turned=True)
    dy = padded(whole(dy), g.k // g.groups)
    implicit_gemm.launch(dy, filters, bias, Target(dx, g.c), gather, phases, g.groups)
    return dx


def backward_weight(dy: Array, x: Array, g: Conv2dGeometry) -> Array:
    """From dy (N, K, P, Q) and x (N, C, H, W) to dweight (K, C / groups, R, S)."""
    dweight = empty(x, g.weight_shape)
    dy, x = padded(whole(dy), g.k // g.groups), padded(whole(x), g.c // g.groups)
    partial = weight_gradient.partial_sums(x, dy, g)
    weight_gradient.collect(partial, dweight, (g.c // g.groups * g.r * g.s, g.r * g.s), g)
    return dweight
