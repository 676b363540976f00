"""Depthwise convolution: every channel has one filter of its own.

    y[n, p, q, c] = bias[c] + sum over r, s of x[n, y(p, r), x(q, s), c] * w[c, r, s]

There is nothing to reuse across channels, so this is no matrix product. A thread has four channels of one
pixel at a time (``pixels``); the weights are transposed to (r, s, channel) first. In the input gradient a
thread looks up which windows its pixel was in. In the weight gradient a block has one tap, 128 channels and
a share of the image rows, eight pixels at a time; a second launch adds up partial sums in a fixed order.

Limit: memory bandwidth, as far as the caches hold the rows that neighbouring windows share. Only one filter a
channel is handled here; others are rare and go the general way.
"""

from __future__ import annotations

from nbconv_kernels.cuda.build import blocks, device_function, kernel
from nbconv_kernels.cuda.conv.finish import PLAIN, Kept, Target, finished
from nbconv_kernels.cuda.conv.packing import fours
from nbconv_kernels.cuda.conv.weight_gradient import collect
from nbconv_kernels.cuda.intrinsics import load4, store4
from nbconv_kernels.cuda.memory import Array, address, empty, empty_nchw, whole
from nbconv_kernels.cuda.pixels import BLOCK, first_item, grid, next_item, quads, read4
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, i32, int32, u32, uint32
from nbconv_kernels.geometry import Conv2dGeometry

__all__ = ["backward_input", "backward_weight", "forward", "suits"]

_QUADS, _LANES = 32, 8  # of channels and of pixels that a block of the weight gradient has at a time
_THREADS, _CHANNELS = _QUADS * _LANES, 4 * _QUADS
_SUMS = 4 * _THREADS
_WANTED = 1024  # blocks of a weight gradient


def suits(g: Conv2dGeometry) -> bool:
    """Whether this convolution has one filter for each channel."""
    return g.groups == g.c == g.k and g.groups > 1


@device_function
def _start(bias, has_bias, channel, channels):
    if has_bias != 0:
        return read4(bias, channel, channel, channels)
    return float32(0), float32(0), float32(0), float32(0)


@device_function
def _put(y, at, channel, channels, vectors, adding, low, high, a, b, c, d):
    """Four results to their place, as far as there are channels."""
    if vectors != 0:
        if adding != 0:
            e, f, g, h = load4(y, at)
            a, b, c, d = a + e, b + f, c + g, d + h
        store4(
            y,
            at,
            finished(a, low, high),
            finished(b, low, high),
            finished(c, low, high),
            finished(d, low, high),
        )
    else:
        _put_one(y, at, adding, low, high, a)
        if uint32(channel + uint32(1)) < channels:
            _put_one(y, uint32(at + uint32(1)), adding, low, high, b)
        if uint32(channel + uint32(2)) < channels:
            _put_one(y, uint32(at + uint32(2)), adding, low, high, c)
        if uint32(channel + uint32(3)) < channels:
            _put_one(y, uint32(at + uint32(3)), adding, low, high, d)


@device_function
def _put_one(y, at, adding, low, high, value):
    if adding != 0:
        value += y[at]
    y[at] = finished(value, low, high)


@kernel(block=BLOCK, max_registers=80)
def _forward(
    x: f32s,
    weight: f32s,
    bias: f32s,
    y: f32s,
    lines: u32,
    height: i32,
    width: i32,
    channels: u32,
    out_height: u32,
    out_width: u32,
    taps_h: i32,
    taps_w: i32,
    stride_h: i32,
    stride_w: i32,
    pad_top: i32,
    pad_left: i32,
    dilation_h: i32,
    dilation_w: i32,
    pitch: u32,
    first: u32,
    has_bias: i32,
    vectors: i32,
    adding: i32,
    low: f32,
    high: f32,
):
    line = uint32(cuda.blockIdx.x)
    if line < lines:
        image = uint32(line // out_height)
        top = int32(int32(line - image * out_height) * stride_h - pad_top)
        item, count = first_item(), quads(channels)
        while item < uint32(out_width * count):
            q = uint32(item // count)
            channel = uint32(uint32(item - q * count) * uint32(4))
            left = int32(int32(q) * stride_w - pad_left)
            s0, s1, s2, s3 = _start(bias, has_bias, channel, channels)
            tap = channel
            for r in range(taps_h):
                row = int32(top + int32(r) * dilation_h)
                for s in range(taps_w):
                    column = int32(left + int32(s) * dilation_w)
                    if uint32(row) < uint32(height) and uint32(column) < uint32(width):
                        pixel = uint32((int32(image) * height + row) * width + column)
                        a, b, c, d = read4(x, uint32(pixel * channels + channel), channel, channels)
                        e, f, g, h = read4(weight, tap, channel, channels)
                        s0, s1, s2, s3 = s0 + a * e, s1 + b * f, s2 + c * g, s3 + d * h
                    tap = uint32(tap + channels)
            at = uint32(uint32(uint32(line * out_width) + q) * pitch + first + channel)
            _put(y, at, channel, channels, vectors, adding, low, high, s0, s1, s2, s3)
            item = next_item(item)


@device_function
def _window(distance, stride):
    """Which window begins so far behind the first one, or -1."""
    index = int32(uint32(distance) // uint32(stride))
    return index if distance >= 0 and int32(index * stride) == distance else int32(-1)


@kernel(block=BLOCK, max_registers=80)
def _backward_input(
    dy: f32s,
    weight: f32s,
    bias: f32s,
    dx: f32s,
    lines: u32,
    height: u32,
    width: u32,
    channels: u32,
    out_height: i32,
    out_width: i32,
    taps_h: i32,
    taps_w: i32,
    stride_h: i32,
    stride_w: i32,
    pad_top: i32,
    pad_left: i32,
    dilation_h: i32,
    dilation_w: i32,
    has_bias: i32,
    vectors: i32,
    low: f32,
    high: f32,
):
    line = uint32(cuda.blockIdx.x)
    if line < lines:
        image = uint32(line // height)
        top = int32(int32(line - image * height) + pad_top)
        item, count = first_item(), quads(channels)
        while item < uint32(width * count):
            column = uint32(item // count)
            channel = uint32(uint32(item - column * count) * uint32(4))
            left = int32(int32(column) + pad_left)
            s0, s1, s2, s3 = _start(bias, has_bias, channel, channels)
            tap = channel
            for r in range(taps_h):
                p = _window(int32(top - int32(r) * dilation_h), stride_h)
                for s in range(taps_w):
                    q = _window(int32(left - int32(s) * dilation_w), stride_w)
                    if uint32(p) < uint32(out_height) and uint32(q) < uint32(out_width):
                        pixel = uint32((int32(image) * out_height + p) * out_width + q)
                        a, b, c, d = read4(dy, uint32(pixel * channels + channel), channel, channels)
                        e, f, g, h = read4(weight, tap, channel, channels)
                        s0, s1, s2, s3 = s0 + a * e, s1 + b * f, s2 + c * g, s3 + d * h
                    tap = uint32(tap + channels)
            at = uint32(uint32(uint32(line * width) + column) * channels + channel)
            _put(dx, at, channel, channels, vectors, int32(0), low, high, s0, s1, s2, s3)
            item = next_item(item)


@kernel(block=_THREADS)
def _backward_weight(
    dy: f32s,
    x: f32s,
    partial: f32s,
    lines: u32,
    share: u32,
    height: i32,
    width: i32,
    channels: u32,
    padded_channels: u32,
    out_height: u32,
    out_width: i32,
    taps: u32,
    taps_w: u32,
    stride_h: i32,
    stride_w: i32,
    pad_top: i32,
    pad_left: i32,
    dilation_h: i32,
    dilation_w: i32,
):
    sums = cuda.shared.array(_SUMS, float32, alignment=16)
    thread = uint32(cuda.threadIdx.x)
    lane = uint32(thread // uint32(_QUADS))
    channel = uint32(
        uint32(cuda.blockIdx.x) * uint32(_CHANNELS) + uint32(thread % uint32(_QUADS)) * uint32(4)
    )
    tap, split = uint32(cuda.blockIdx.y), uint32(cuda.blockIdx.z)
    r = uint32(tap // taps_w)
    down, across = int32(int32(r) * dilation_h), int32(int32(tap - r * taps_w) * dilation_w)
    line = uint32(split * share)
    end = uint32(min(lines, uint32(line + share)))
    s0, s1, s2, s3 = float32(0), float32(0), float32(0), float32(0)
    if channel < channels:
        while line < end:
            image = uint32(line // out_height)
            row = int32(int32(line - image * out_height) * stride_h - pad_top + down)
            if uint32(row) < uint32(height):
                q = int32(lane)
                while q < out_width:
                    column = int32(q * stride_w - pad_left + across)
                    if uint32(column) < uint32(width):
                        pixel = uint32((int32(image) * height + row) * width + column)
                        a, b, c, d = read4(x, uint32(pixel * channels + channel), channel, channels)
                        pixel = uint32(int32(line) * out_width + q)
                        e, f, g, h = read4(dy, uint32(pixel * channels + channel), channel, channels)
                        s0, s1, s2, s3 = s0 + a * e, s1 + b * f, s2 + c * g, s3 + d * h
                    q = int32(q + int32(_LANES))
            line = uint32(line + uint32(1))
    store4(sums, uint32(thread * uint32(4)), s0, s1, s2, s3)
    cuda.syncthreads()
    if lane == uint32(0) and channel < channels:
        for i in range(uint32(1), uint32(_LANES)):
            at = uint32(uint32(thread + uint32(i) * uint32(_QUADS)) * uint32(4))
            a, b, c, d = load4(sums, at)
            s0, s1, s2, s3 = s0 + a, s1 + b, s2 + c, s3 + d
        to = uint32(uint32(uint32(split * taps) + tap) * padded_channels + channel)
        store4(partial, to, s0, s1, s2, s3)


def forward(
    x: Array, weight: Array, bias: Array | None, g: Conv2dGeometry, to: Target, kept: Kept | None
) -> None:
    """From x (N, C, H, W), weight (C, 1, R, S), bias (C,) into the target."""
    packed = None if kept is None else kept.get("depthwise")
    if packed is None:
        packed = _by_channel(weight)
        if kept is not None:
            kept["depthwise"] = packed
    low, high, adding = to.finish
    vectors = g.c % 4 == to.pitch % 4 == to.channel % 4 == 0 and address(to.y) % 16 == 0
    _forward[grid(g.n * g.p, g.q, g.c)](
        *(whole(x), packed, None if bias is None else whole(bias), to.y, g.n * g.p, g.h, g.w, g.c, g.p, g.q),
        *(g.r, g.s, g.stride_h, g.stride_w, g.pad_top, g.pad_left, g.dilation_h, g.dilation_w),
        *(to.pitch, to.channel, bias is not None, vectors, adding, low, high),
    )


def backward_input(dy: Array, weight: Array, g: Conv2dGeometry, bias: Array | None = None) -> Array:
    """From dy (N, C, P, Q) to dx (N, C, H, W), with a bias (C,) for the transposed convolution."""
    dx = empty_nchw(dy, g.n, g.c, g.h, g.w)
    bias = None if bias is None else whole(bias)
    _backward_input[grid(g.n * g.h, g.w, g.c)](
        *(whole(dy), _by_channel(weight), bias, dx, g.n * g.h, g.h, g.w, g.c, g.p, g.q),
        *(g.r, g.s, g.stride_h, g.stride_w, g.pad_top, g.pad_left, g.dilation_h, g.dilation_w),
        *(bias is not None, g.c % 4 == 0, PLAIN.low, PLAIN.high),
    )
    return dx


def backward_weight(dy: Array, x: Array, g: Conv2dGeometry) -> Array:
    """From dy (N, C, P, Q) and x (N, C, H, W) to dweight (C, 1, R, S)."""
    lines, taps, padded_channels = g.n * g.p, g.r * g.s, fours(g.c)
    across = blocks(g.c, _CHANNELS)
    splits = max(1, min(lines, _WANTED // (across * taps)))
    share = -(-lines // splits)
    partial, dweight = empty(x, (splits, 1, taps, padded_channels, 1)), empty(x, g.weight_shape)
    _backward_weight[across, taps, splits](
        *(whole(dy), whole(x), partial, lines, share, g.h, g.w, g.c, padded_channels, g.p, g.q, taps, g.s),
        *(g.stride_h, g.stride_w, g.pad_top, g.pad_left, g.dilation_h, g.dilation_w),
    )
    collect(partial, dweight, (0, taps), g._replace(k=1, groups=1))
    return dweight


def _by_channel(weight: Array) -> Array:
    """(C, 1, R, S) to (R * S, C)."""
    flat = weight.reshape(len(weight), -1).T
    packed = empty(weight, flat.shape)
    packed[...] = flat
    return packed
