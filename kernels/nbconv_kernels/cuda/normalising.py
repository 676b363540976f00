"""The sweeps of normalisation by channel, for batches of one "image" and for groups within each image.

    y = (x - mean) * s * weight + bias        s = 1 / sqrt(var + eps)
    dx = s * (weight * dy - G / M - s^2 / M * (x - mean) * H)

where mean and var are (images, C), weight and bias (C,), and G and H the sums of dy * weight and of
dy * weight * (x - mean) over the M elements that mean and var are of.

A ReLU behind is done on the way; in the gradient it is decided from x again, by the forward pass's own
formula, so that both agree to the bit.

Limit: memory bandwidth: normalising reads and writes once, the gradients read x and dy twice and write dx
once.
"""

from __future__ import annotations

import math
from typing import Any

from nbconv_kernels.cuda.build import Kernel, blocks, device_function, kernel
from nbconv_kernels.cuda.channels import (
    BLOCK,
    Access,
    Sweep,
    for_widths,
    place_of,
    store_part,
    value_or,
)
from nbconv_kernels.cuda.intrinsics import thread_index
from nbconv_kernels.cuda.memory import Array, empty
from nbconv_kernels.cuda.reduction import fold, lane_sum
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, u32, uint32

WEIGHT, BIAS, RECTIFIED, CENTRED, GROUPED = 1, 2, 4, 8, 16  # flags: what is given, what is done


@device_function
def _normalised(x, mean, scale, shift) -> Any:
    return cuda.fma(x - mean, scale, shift)


@for_widths
def _normalise(access: Access) -> Kernel:
    width, read, write = access.width, access.read, access.write

    @kernel(block=BLOCK, constants=(width,))
    def _normalise(
        x: f32s,
        mean: f32s,
        var: f32s,
        weight: f32s,
        bias: f32s,
        y: f32s,
        channels: u32,
        rows: u32,
        pitch: u32,
        shift: u32,
        eps: f32,
        flags: u32,
    ):
        values, centres = cuda.local.array(width, float32), cuda.local.array(width, float32)
        scales, shifts = cuda.local.array(width, float32), cuda.local.array(width, float32)
        channel, row, step = place_of(shift, width)
        if channel >= channels:
            return
        image = uint32(cuda.blockIdx.x)
        for j in range(width):
            c = uint32(channel + uint32(j))
            at = uint32(uint32(image * channels) + c)
            centres[j] = value_or(mean, uint32(flags & uint32(CENTRED)), at, 0)
            scales[j] = value_or(weight, uint32(flags & uint32(WEIGHT)), c, 1) / math.sqrt(var[at] + eps)
            shifts[j] = value_or(bias, uint32(flags & uint32(BIAS)), c, 0)
        base = uint32(uint32(image * rows) + row)
        while row < rows:
            read(x, uint32(uint32(base * pitch) + channel), values)
            for j in range(width):
                value = _normalised(values[j], centres[j], scales[j], shifts[j])
                if uint32(flags & uint32(RECTIFIED)) != uint32(0):
                    value = float32(0) if value <= float32(0) else value
                values[j] = value
            write(y, uint32(uint32(base * channels) + channel), values)
            row, base = uint32(row + step), uint32(base + step)

    return _normalise


def normalise(
    x: Sweep,
    mean: Array | None,
    var: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    rectified: bool,
    y: Array,
) -> None:
    """Write the normalised ``x`` to ``y``, whole; mean and var are (images, C), in one piece."""
    flags = flags_of(weight, bias) | RECTIFIED * rectified | CENTRED * (mean is not None)
    _normalise(x.width)[x.grid](x.array, mean, var, weight, bias, y, *x.extents, eps, flags)


@for_widths
def _sums(access: Access) -> Kernel:
    width, read = access.width, access.read

    @kernel(block=BLOCK, constants=(width,))
    def _sums(
        dy: f32s,
        x: f32s,
        mean: f32s,
        var: f32s,
        weight: f32s,
        bias: f32s,
        parts: f32s,
        channels: u32,
        rows: u32,
        pitch: u32,
        shift: u32,
        eps: f32,
        flags: u32,
    ):
        values, gradients = cuda.local.array(width, float32), cuda.local.array(width, float32)
        centres, scales = cuda.local.array(width, float32), cuda.local.array(width, float32)
        shifts, sums = cuda.local.array(width, float32), cuda.local.array(width, float32)
        products = cuda.local.array(width, float32)
        channel, row, step = place_of(shift, width)
        exists = channel < channels
        image = uint32(cuda.blockIdx.x)
        rectified = uint32(flags & uint32(RECTIFIED)) != uint32(0)
        for j in range(width):
            c = uint32(channel + uint32(j)) if exists else uint32(0)
            at = uint32(uint32(image * channels) + c)
            centres[j], sums[j], products[j] = mean[at], float32(0), float32(0)
            scales[j], shifts[j] = float32(0), float32(0)
            if rectified:
                scales[j] = value_or(weight, uint32(flags & uint32(WEIGHT)), c, 1) / math.sqrt(var[at] + eps)
                shifts[j] = value_or(bias, uint32(flags & uint32(BIAS)), c, 0)
        base = uint32(uint32(image * rows) + row)
        while exists and row < rows:
            read(x, uint32(uint32(base * pitch) + channel), values)
            read(dy, uint32(uint32(base * channels) + channel), gradients)
            for j in range(width):
                gradient = gradients[j]
                if rectified:
                    stopped = _normalised(values[j], centres[j], scales[j], shifts[j]) <= float32(0)
                    gradient = float32(0) if stopped else gradient
                sums[j] += gradient
                products[j] += gradient * (values[j] - centres[j])
            row, base = uint32(row + step), uint32(base + step)
        for j in range(width):
            sums[j], products[j] = lane_sum(sums[j], shift), lane_sum(products[j], shift)
        if exists and uint32(cuda.threadIdx.x) < uint32(uint32(1) << shift):
            store_part(parts, 0, 2, channel, channels, sums, width)
            store_part(parts, 1, 2, channel, channels, products, width)

    return _sums


def gradient_sums(
    dy: Array,
    x: Sweep,
    mean: Array,
    var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 0.0,
    rectified: bool = False,
) -> Array:
    """The sums of dy and of dy * (x - mean) over each image's rows: (images, 2, C)."""
    parts = empty(x.array, (x.images, x.parts, 2, x.channels))
    flags = flags_of(weight, bias) | RECTIFIED * rectified
    _sums(x.width)[x.grid](dy, x.array, mean, var, weight, bias, parts, *x.extents, eps, flags)
    return fold(parts)


@for_widths
def _gradient(access: Access) -> Kernel:
    width, read, write = access.width, access.read, access.write

    @kernel(block=BLOCK, constants=(width,))
    def _gradient(
        dy: f32s,
        x: f32s,
        mean: f32s,
        var: f32s,
        weight: f32s,
        bias: f32s,
        sums: f32s,
        dx: f32s,
        dweight: f32s,
        channels: u32,
        rows: u32,
        pitch: u32,
        shift: u32,
        eps: f32,
        size: f32,
        flags: u32,
    ):
        values, gradients = cuda.local.array(width, float32), cuda.local.array(width, float32)
        centres, scales = cuda.local.array(width, float32), cuda.local.array(width, float32)
        shifts, offsets = cuda.local.array(width, float32), cuda.local.array(width, float32)
        slopes, factors = cuda.local.array(width, float32), cuda.local.array(width, float32)
        channel, row, step = place_of(shift, width)
        if channel >= channels:
            return
        image = uint32(cuda.blockIdx.x)
        grouped = uint32(flags & uint32(GROUPED)) != uint32(0)
        rectified = uint32(flags & uint32(RECTIFIED)) != uint32(0)
        for j in range(width):
            c = uint32(channel + uint32(j))
            at = uint32(uint32(image * channels) + c)
            factor = value_or(weight, uint32(flags & uint32(WEIGHT)), c, 1)
            root = math.sqrt(var[at] + eps)
            total = sums[uint32(at + uint32(image * channels))]
            weighted = sums[uint32(uint32(at + uint32(image * channels)) + channels)] / root
            if not grouped and row == uint32(0):
                dweight[c] = weighted
            centres[j], shifts[j] = mean[at], value_or(bias, uint32(flags & uint32(BIAS)), c, 0)
            factors[j] = factor if grouped else float32(1)
            scales[j] = (float32(1) if grouped else factor) / root
            offsets[j], slopes[j] = total / size, weighted / size / root
        base = uint32(uint32(image * rows) + row)
        while row < rows:
            read(x, uint32(uint32(base * pitch) + channel), values)
            read(dy, uint32(uint32(base * channels) + channel), gradients)
            for j in range(width):
                gradient = gradients[j]
                if rectified:
                    stopped = _normalised(values[j], centres[j], scales[j], shifts[j]) <= float32(0)
                    gradient = float32(0) if stopped else gradient
                common = (values[j] - centres[j]) * slopes[j]
                values[j] = (gradient * factors[j] - offsets[j] - common) * scales[j]
            write(dx, uint32(uint32(base * channels) + channel), values)
            row, base = uint32(row + step), uint32(base + step)

    return _gradient


def gradient(
    dy: Array,
    x: Sweep,
    mean: Array,
    var: Array,
    weight: Array | None,
    bias: Array | None,
    sums: Array,
    eps: float,
    size: int,
    dx: Array,
    dweight: Array | None = None,
    rectified: bool = False,
) -> None:
    """Write dx, whole, and dweight (C,); without it, the sums are of dy * weight over groups already."""
    flags = flags_of(weight, bias) | RECTIFIED * rectified | GROUPED * (dweight is None)
    arrays = (dy, x.array, mean, var, weight, bias, sums, dx, dweight)
    _gradient(x.width)[x.grid](*arrays, *x.extents, eps, size, flags)


def flags_of(weight: Array | None, bias: Array | None) -> int:
    """Which of the two are given."""
    return WEIGHT * (weight is not None) | BIAS * (bias is not None)


@kernel(block=BLOCK)
def _scaled(values: f32s, var: f32s, y: f32s, eps: f32, n: u32):
    i = thread_index()
    if i < n:
        y[i] = values[i] / math.sqrt(var[i] + eps)


def scaled(values: Array, var: Array, eps: float) -> Array:
    """``values / sqrt(var + eps)``, both (C,)."""
    y = empty(values, values.shape)
    _scaled[blocks(y.size, BLOCK)](values, var, y, eps, y.size)
    return y
