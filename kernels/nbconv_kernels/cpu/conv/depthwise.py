"""Depthwise convolution: every channel has filters of its own, ``multiplier`` of them.

    y[n, p, q, c * multiplier + m] = bias + sum over r, s of x[n, y(p, r), x(q, s), c] * w[c * multiplier + m,
    r, s]

There is nothing to reuse across channels, so this is no matrix product: vectors hold channels, the weights
are transposed to (r, s, channel) first. 3 x 3 kernels go the way of ``depthwise_tile``; the loops here take
all others. Forward, four neighbouring outputs of a row are summed at once in registers, so that each weight
is read once for four multiply-adds. Limit: reading, from the caches at best: five loads for four
multiply-adds. Only multiplier 1 is handled here; others are rare and go the general way.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.conv import depthwise_tile, depthwise_weight
from nbconv_kernels.cpu.conv.target import Kept, Target, target_of
from nbconv_kernels.cpu.epilogue import PLAIN
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, empty
from nbconv_kernels.cpu.vector import fill, lanes, larger, load, plus, smaller, store, times
from nbconv_kernels.geometry import Conv2dGeometry

_SMALL = 1 << 15  # multiply-adds below which a parallel region costs more than it saves


def suits(g: Conv2dGeometry) -> bool:
    """Whether this convolution has one filter for each channel."""
    return g.groups == g.c == g.k and g.groups > 1


@kernel
def _finish(value, y, at, rest, finish):
    """Store a vector of sums after its finish (``epilogue``)."""
    if finish[0] > 1:
        value = plus(load(y, at, rest), value)
    value = larger(fill(value, finish[1]), value)
    store(y, at, smaller(fill(value, finish[2]), value), rest)


@kernel
def _forward_task(task, n_tasks, x, weight, bias, sizes, strides, y, channel, finish):
    stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w = strides
    h, w, c, r_size, s_size = sizes
    _, p_size, q_size, y_channels = y.shape
    lines = y.shape[0] * p_size
    y = y.reshape(-1)
    step = lanes(x)
    blocks = (c + step - 1) // step
    for unit in range(lines * blocks * task // n_tasks, lines * blocks * (task + 1) // n_tasks):
        line = unit // blocks
        first = (unit - line * blocks) * step
        rest = c - first
        image = line // p_size
        top = (line - image * p_size) * stride_h - pad_top
        to = line * q_size * y_channels + channel + first
        start = load(bias, first, rest)
        across, reach = stride_w * c, 3 * stride_w + (s_size - 1) * dilation_w
        q = 0
        while q < q_size:
            left = q * stride_w - pad_left
            a0, a1, a2, a3 = start, start, start, start
            four = left >= 0 and q + 4 <= q_size and left + reach < w
            for r in range(r_size):
                from_y = top + r * dilation_h
                if from_y < 0 or from_y >= h:
                    continue
                row = ((image * h + from_y) * w + left) * c + first
                if four:
                    for s in range(s_size):
                        tap = load(weight, (r * s_size + s) * c + first, rest)
                        at = row + s * dilation_w * c
                        a0 = plus(a0, times(load(x, at, rest), tap))
                        a1 = plus(a1, times(load(x, at + across, rest), tap))
                        a2 = plus(a2, times(load(x, at + 2 * across, rest), tap))
                        a3 = plus(a3, times(load(x, at + 3 * across, rest), tap))
                    continue
                for s in range(s_size):
                    from_x = left + s * dilation_w
                    if 0 <= from_x < w:
                        tap = load(weight, (r * s_size + s) * c + first, rest)
                        a0 = plus(a0, times(load(x, row + s * dilation_w * c, rest), tap))
            _finish(a0, y, to, rest, finish)
            if four:
                _finish(a1, y, to + y_channels, rest, finish)
                _finish(a2, y, to + 2 * y_channels, rest, finish)
                _finish(a3, y, to + 3 * y_channels, rest, finish)
            taken = 4 if four else 1
            q += taken
            to += taken * y_channels


@kernel
def _forward(x, weight, bias, sizes, strides, y, channel, finish, n_tasks):
    parallel_for(
        _forward_task, n_tasks, n_tasks, (n_tasks, x, weight, bias, sizes, strides, y, channel, finish)
    )


@kernel
def _backward_input_task(task, n_tasks, dy, weight, strides, dx):
    stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w = strides
    n, h, w, c = dx.shape
    _, p_size, q_size, _ = dy.shape
    r_size, s_size, _ = weight.shape
    for line in range(n * h * task // n_tasks, n * h * (task + 1) // n_tasks):
        image = line // h
        y = line - image * h
        for x in range(w):
            out = dx[image, y, x]
            out[:] = 0
            for r in range(r_size):
                p = y + pad_top - r * dilation_h
                if p < 0 or p % stride_h != 0 or p // stride_h >= p_size:
                    continue
                for s in range(s_size):
                    q = x + pad_left - s * dilation_w
                    if q < 0 or q % stride_w != 0 or q // stride_w >= q_size:
                        continue
                    row = dy[image, p // stride_h, q // stride_w]
                    for channel in range(c):
                        out[channel] += row[channel] * weight[r, s, channel]


@kernel
def _backward_input(dy, weight, strides, dx, n_tasks):
    parallel_for(_backward_input_task, n_tasks, n_tasks, (n_tasks, dy, weight, strides, dx))


@kernel
def _backward_weight_task(task, n_tasks, dy, x, strides, partial):
    stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w = strides
    n, h, w, c = x.shape
    _, p_size, q_size, _ = dy.shape
    _, r_size, s_size, _ = partial.shape
    total = partial[task]
    total[:] = 0
    line_sum = np.empty((r_size, s_size, c), x.dtype)
    for line in range(n * p_size * task // n_tasks, n * p_size * (task + 1) // n_tasks):
        image = line // p_size
        p = line - image * p_size
        line_sum[:] = 0
        for r in range(r_size):
            from_y = p * stride_h - pad_top + r * dilation_h
            if from_y < 0 or from_y >= h:
                continue
            for q in range(q_size):
                for s in range(s_size):
                    from_x = q * stride_w - pad_left + s * dilation_w
                    if from_x < 0 or from_x >= w:
                        continue
                    for channel in range(c):
                        line_sum[r, s, channel] += (
                            dy[image, p, q, channel] * x[image, from_y, from_x, channel]
                        )
        for r in range(r_size):
            for s in range(s_size):
                for channel in range(c):
                    total[r, s, channel] += line_sum[r, s, channel]


@kernel
def _backward_weight(dy, x, strides, partial, n_tasks, n_threads):
    parallel_for(_backward_weight_task, n_tasks, n_threads, (n_tasks, dy, x, strides, partial))
    for task in range(1, n_tasks):
        partial[0] += partial[task]


def forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    g: Conv2dGeometry,
    target: Target | None = None,
    kept: Kept | None = None,
) -> Array:
    """(N, H, W, C), (C, 1, R, S), (C,) -> (N, C, P, Q) in channels-last memory."""
    y, channel, finish = target_of(target, g, x.dtype)
    ready = prepared(weight, bias, g, kept)
    if depthwise_tile.suits(g):
        pads = g.pad_top, g.pad_left
        depthwise_tile.convolve(x, *ready, g.stride_h, pads, Target(y, channel, finish))
        return y.transpose(0, 3, 1, 2)
    sizes = (g.h, g.w, g.c, g.r, g.s)
    threads = get_num_threads() if y.size * g.r * g.s > _SMALL else 1
    _forward(x.reshape(-1), *ready, sizes, _strides(g), y, channel, finish, threads)
    return y.transpose(0, 3, 1, 2)


def prepared(weight: Array, bias: Array | None, g: Conv2dGeometry, kept: Kept | None) -> tuple[Array, Array]:
    """Weights by channel, 1-D, and a bias, from ``kept`` where there is one."""
    if kept is not None and "depthwise" in kept:
        known: tuple[Array, Array] = kept["depthwise"]
        return known
    ready = _by_channel(weight).reshape(-1), np.zeros(g.k, weight.dtype)
    if bias is not None:
        ready[1][:] = bias
    if kept is not None:
        kept["depthwise"] = ready
    return ready


def backward_input(dy: Array, weight: Array, g: Conv2dGeometry) -> Array:
    """(N, P, Q, C), (C, 1, R, S) -> (N, C, H, W) in channels-last memory."""
    dx = empty((g.n, g.h, g.w, g.c), dy.dtype)
    if depthwise_tile.suits(g) and g.stride_h == 1:  # the same with the kernels turned half round
        turned = _by_channel(weight)[::-1, ::-1].reshape(-1)
        pads = 2 - g.pad_top, 2 - g.pad_left
        nothing = np.zeros(g.c, dy.dtype)
        depthwise_tile.convolve(dy, turned, nothing, 1, pads, Target(dx, 0, PLAIN))
        return dx.transpose(0, 3, 1, 2)
    _backward_input(dy, _by_channel(weight), _strides(g), dx, get_num_threads())
    return dx.transpose(0, 3, 1, 2)


def backward_weight(dy: Array, x: Array, g: Conv2dGeometry) -> Array:
    """(N, P, Q, C), (N, H, W, C) -> (C, 1, R, S)."""
    if depthwise_tile.suits(g):
        return depthwise_weight.backward_weight(dy, x, g)
    partial = np.empty((get_num_threads(), g.r, g.s, g.c), x.dtype)
    _backward_weight(dy, x, _strides(g), partial, len(partial), get_num_threads())
    return np.ascontiguousarray(partial[0].transpose(2, 0, 1)).reshape(g.weight_shape)


def _by_channel(weight: Array) -> Array:
    return np.ascontiguousarray(weight[:, 0].transpose(1, 2, 0))


def _strides(g: Conv2dGeometry) -> tuple[int, int, int, int, int, int]:
    return g.stride_h, g.stride_w, g.pad_top, g.pad_left, g.dilation_h, g.dilation_w
