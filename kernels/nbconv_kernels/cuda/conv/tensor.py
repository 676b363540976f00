"""Convolution on tensor cores, in TF32 or bf16 with sums in float32: what the precision in force allows.

The products are those of ``tensor_gemm`` and ``tensor_weight_gradient``; here their operands are rounded and
laid out (``formats``).
"""

from __future__ import annotations

import functools

import numpy as np

from nbconv_kernels import precision
from nbconv_kernels.cuda.conv import tensor_gemm, tensor_weight_gradient
from nbconv_kernels.cuda.conv.finish import Kept, Target
from nbconv_kernels.cuda.conv.formats import BF16, TF32, Format, chunks, staged
from nbconv_kernels.cuda.conv.implicit_gemm import Gather
from nbconv_kernels.cuda.conv.phases import backward_input_plan, forward_plan
from nbconv_kernels.cuda.conv.weight_gradient import collect
from nbconv_kernels.cuda.memory import Array, empty, empty_nchw, whole
from nbconv_kernels.geometry import Conv2dGeometry

__all__ = ["allowed", "backward_input", "backward_weight", "forward", "suits"]

_FORMATS = {"highest": None, "high": TF32, "medium": BF16}
_SMALL = 1 << 20  # multiply-adds below which a launch costs more than the product
_LEAST = 16  # results of a pixel and terms of a result below which tiles would be mostly margin


def allowed(x: Array) -> Format | None:
    """The format that the precision in force allows where ``x`` is; None for float32."""
    form = _FORMATS[precision.get_precision()]
    if form is None or isinstance(x, np.ndarray) or _computes_short(x.device.id):
        return form
    return None


@functools.lru_cache
def _computes_short(device: int) -> bool:
    import cupy

    return int(cupy.cuda.Device(device).compute_capability) >= 80


def worthwhile(rows: int, columns: int, terms: int) -> bool:
    """Whether tensor cores are worth their larger tiles for a product of that size."""
    return min(columns, terms) >= _LEAST and rows * columns * terms >= _SMALL


def suits(g: Conv2dGeometry) -> bool:
    """Whether a convolution is large enough."""
    return worthwhile(g.n * g.p * g.q * g.groups, g.k // g.groups, g.c // g.groups * g.r * g.s)


def _form(x: Array) -> Format:
    form = allowed(x)
    assert form is not None
    return form


def _in_chunks(gather: Gather, form: Format, terms: int, taps: int, groups: int) -> Gather:
    """A gathering product with its terms counted in chunks and its filters' terms side by side."""
    channels = chunks(terms, form)
    depth = channels * taps
    return gather._replace(
        pitch=groups * channels,
        channels=channels,
        filter_terms=depth,
        filter_pitch=depth,
        filter_group=gather.columns * depth,
    )


def forward(
    x: Array, weight: Array, bias: Array | None, g: Conv2dGeometry, to: Target, kept: Kept | None
) -> None:
    """From x (N, C, H, W), weight (K, C / groups, R, S), bias (K,) into the target."""
    form, channels, filters, taps = _form(x), g.c // g.groups, g.k // g.groups, g.r * g.s
    gather, phases, order = forward_plan(g)
    packed = None if kept is None else kept.get(form.name)
    if packed is None:
        steps = (channels * taps, taps, filters * channels * taps)
        packed = staged(weight.reshape(-1), form, filters, channels, steps, order, g.groups)
        if kept is not None:
            kept[form.name] = packed
    source = staged(whole(x), form, g.n * g.h * g.w * g.groups, channels)
    gather = _in_chunks(gather, form, channels, taps, g.groups)
    tensor_gemm.launch(source, packed, bias, to, gather, form, phases, g.groups)


def backward_input(dy: Array, weight: Array, g: Conv2dGeometry, bias: Array | None = None) -> Array:
    """From dy (N, K, P, Q) to dx (N, C, H, W), with a bias (C,) for the transposed convolution."""
    form, channels, filters, taps = _form(dy), g.c // g.groups, g.k // g.groups, g.r * g.s
    gather, phases, order = backward_input_plan(g)
    dx = empty_nchw(dy, g.n, g.c, g.h, g.w)
    steps = (taps, channels * taps, filters * channels * taps)
    packed = staged(weight.reshape(-1), form, channels, filters, steps, order, g.groups)
    source = staged(whole(dy), form, g.n * g.p * g.q * g.groups, filters)
    gather = _in_chunks(gather, form, filters, taps, g.groups)
    tensor_gemm.launch(source, packed, bias, Target(dx, g.c), gather, form, phases, g.groups)
    return dx


def backward_weight(dy: Array, x: Array, g: Conv2dGeometry) -> Array:
    """From dy (N, K, P, Q) and x (N, C, H, W) to dweight (K, C / groups, R, S)."""
    form, taps = _form(x), g.r * g.s
    dweight = empty(x, g.weight_shape)
    gradient = staged(whole(dy), form, g.n * g.p * g.q * g.groups, g.k // g.groups)
    source = staged(whole(x), form, g.n * g.h * g.w * g.groups, g.c // g.groups)
    partial = tensor_weight_gradient.partial_sums(source, gradient, g, form)
    collect(partial, dweight, (g.c // g.groups * taps, taps), g)
    return dweight
