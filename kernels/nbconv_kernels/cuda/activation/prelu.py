"""Rectifier with a learned slope for each channel, or one for all (He et al. 2015), and its gradients.

    y = x where x > 0, else w * x
    dx = dy where x > 0, else w * dy        dw = sum of dy * x where x <= 0

Channels are the last axis of memory. One slope for all is the same with a single channel, and a row for each
element. The sums for dw are taken as ``channels`` says.

Limit: memory bandwidth.
"""

from __future__ import annotations

from nbconv_kernels.cuda.build import Kernel, kernel
from nbconv_kernels.cuda.channels import BLOCK, Access, Sweep, for_widths, place_of, store_part, sweep
from nbconv_kernels.cuda.memory import Array, check_float, check_same_shape, empty, empty_as, namespace, whole
from nbconv_kernels.cuda.reduction import fold, lane_sum
from nbconv_kernels.cuda.target import cuda, f32s, float32, u32, uint32


@for_widths
def _prelu(access: Access) -> Kernel:
    width, read, write = access.width, access.read, access.write

    @kernel(block=BLOCK, constants=(width,))
    def _prelu(x: f32s, weight: f32s, y: f32s, channels: u32, rows: u32, pitch: u32, shift: u32):
        values, slopes = cuda.local.array(width, float32), cuda.local.array(width, float32)
        channel, row, step = place_of(shift, width)
        if channel >= channels:
            return
        read(weight, channel, slopes)
        while row < rows:
            at = uint32(uint32(row * pitch) + channel)
            read(x, at, values)
            for j in range(width):
                values[j] = values[j] if values[j] > float32(0) else values[j] * slopes[j]
            write(y, at, values)
            row = uint32(row + step)

    return _prelu


def prelu(x: Array, weight: Array) -> Array:
    """X where it is positive, ``x * weight`` elsewhere: weight (1,), or (C,) for the channels, axis 1.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: for a weight of another shape.
    """
    check_float("prelu", x, weight)
    x = _channels_last("prelu", x, weight)
    y = empty_as(x)
    if x.size:
        over = _sweep(x, weight)
        _prelu(over.width)[over.grid](over.array, whole(weight), y, *over.extents)
    return _channels_second(y, weight)


@for_widths
def _gradients(access: Access) -> Kernel:
    width, read, write = access.width, access.read, access.write

    @kernel(block=BLOCK, constants=(width,))
    def _gradients(
        dy: f32s,
        x: f32s,
        weight: f32s,
        dx: f32s,
        parts: f32s,
        channels: u32,
        rows: u32,
        pitch: u32,
        shift: u32,
    ):
        values, slopes = cuda.local.array(width, float32), cuda.local.array(width, float32)
        gradients, sums = cuda.local.array(width, float32), cuda.local.array(width, float32)
        channel, row, step = place_of(shift, width)
        exists = channel < channels
        for j in range(width):
            sums[j] = float32(0)
        if exists:
            read(weight, channel, slopes)
        while exists and row < rows:
            at = uint32(uint32(row * pitch) + channel)
            read(x, at, values)
            read(dy, at, gradients)
            for j in range(width):
                passes = values[j] > float32(0)
                sums[j] += float32(0) if passes else gradients[j] * values[j]
                gradients[j] = gradients[j] if passes else gradients[j] * slopes[j]
            write(dx, at, gradients)
            row = uint32(row + step)
        for j in range(width):
            sums[j] = lane_sum(sums[j], shift)
        if exists and uint32(cuda.threadIdx.x) < uint32(uint32(1) << shift):
            store_part(parts, 0, 1, channel, channels, sums, width)

    return _gradients


def prelu_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array]:
    """(dx, dweight): ``dy`` where x > 0, ``dy * weight`` elsewhere; and the sum of dy * x where x <= 0.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ, or for a weight of another shape.
    """
    check_float("prelu_backward", dy, x, weight)
    check_same_shape("prelu_backward", dy=dy, x=x)
    dy, x = (whole(_channels_last("prelu_backward", array, weight)) for array in (dy, x))
    dx = empty_as(x)
    if x.size == 0:
        return _channels_second(dx, weight), namespace(x).zeros(weight.shape, weight.dtype)
    over = _sweep(x, weight)
    parts = empty(x, (1, over.parts, over.channels))
    _gradients(over.width)[over.grid](dy, x, whole(weight), dx, parts, *over.extents)
    return _channels_second(dx, weight), fold(parts)[0]


def _sweep(x: Array, weight: Array) -> Sweep:
    return sweep(whole(x), 1, weight.size)


def _channels_last(op: str, x: Array, weight: Array) -> Array:
    """``x`` such that the channels follow each other in its memory."""
    if weight.shape == (1,):
        return x
    if x.ndim < 2 or weight.shape != x.shape[1:2]:
        raise ValueError(f"{op}: expected a weight of shape (1,) or {x.shape[1:2]}, got shape {weight.shape}")
    return x if x.ndim in (2, 4) else namespace(x).moveaxis(x, 1, -1)


def _channels_second(y: Array, weight: Array) -> Array:
    """The inverse, for a result."""
    if weight.shape == (1,) or y.ndim in (2, 4):
        return y
    return whole(namespace(y).moveaxis(y, -1, 1))
