"""The input gradient for few input channels, as after the first layer's image.

The columns of the input-gradient product are input channels; three of them would leave most lanes of every
vector idle. Here the product is turned: its columns are (kernel row, kernel column, channel), which fill the
vectors,

    z[pixel of dy, (r, s, c)] = sum over k of dy[pixel, k] * w[k, c, r, s]

and each z is then added to the input pixels that its window covers. A block of z is made and added while it
is in the cache. Each task owns rows of dx and makes every z that reaches them, so a few are made twice at the
seams and no two tasks write to one place; the order of the additions does not depend on how the rows are
dealt.

Limit: fused multiply-adds, at ``lanes used / lanes`` of the columns, and one addition for each z.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.conv.implicit_gemm import multiply_range
from nbconv_kernels.cpu.conv.packing import pack, panel_width
from nbconv_kernels.cpu.jit import kernel, num_threads, parallel_for
from nbconv_kernels.cpu.memory import Array, empty
from nbconv_kernels.cpu.microkernel import ROWS
from nbconv_kernels.cpu.simd import SIMD
from nbconv_kernels.geometry import Conv2dGeometry

_BLOCK = 8 * ROWS  # pixels of dy for which z is made before it is added


def suits(g: Conv2dGeometry, itemsize: int) -> bool:
    """Whether the input's channels would fill at most half a vector."""
    return g.groups == 1 and g.c * 2 <= SIMD.lanes(itemsize) and g.r * g.s > 1


@kernel
def _add_windows(z, stride, first, count, image, rows, window, dx):
    """Add ``count`` pixels' windows, from output pixel ``first`` of one image, to rows ``rows`` of dx.

    Neighbouring windows overlap, and a load of what was just stored in two pieces stalls. So every
    ``apart``-th window is added in one go, then the ones beside them.
    """
    q_size, r_size, s_size, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w = window
    _, _, w, c = dx.shape
    apart = ((s_size - 1) * dilation_w + stride_w) // stride_w
    for p in range(first // q_size, (first + count - 1) // q_size + 1):
        first_q, last_q = max(0, first - p * q_size), min(q_size, first + count - p * q_size)
        for r in range(r_size):
            y = p * stride_h - pad_top + r * dilation_h
            if y < rows[0] or y >= rows[1]:
                continue
            line = dx[image, y].reshape(w * c)
            for start in range(first_q, min(first_q + apart, last_q)):
                for q in range(start, last_q, apart):
                    left = q * stride_w - pad_left
                    at = (p * q_size + q - first) * stride + r * s_size * c
                    if dilation_w == 1:  # the window's row is one contiguous piece
                        begin, end = max(0, -left), min(s_size, w - left)
                        if begin >= end:  # it lies in the padding
                            continue
                        target = line[(left + begin) * c : (left + end) * c]
                        source = z[at + begin * c : at + end * c]
                        for i in range(target.size):
                            target[i] += source[i]
                        continue
                    for s in range(s_size):
                        x = left + s * dilation_w
                        if 0 <= x < w:
                            for channel in range(c):
                                line[x * c + channel] += z[at + s * c + channel]


@kernel
def _narrow_task(task, n_tasks, dy, panels, bias, window, width, taps, dx):
    q_size, r_size, _, stride_h, _, pad_top, _, dilation_h, _ = window
    n, p_size, _, k = dy.shape
    h, c = dx.shape[1], dx.shape[3]
    columns = r_size * window[2] * c
    n_panels = (columns + width - 1) // width
    z = np.empty(_BLOCK * n_panels * width, dy.dtype)
    block = z.reshape(1, 1, _BLOCK, n_panels * width)
    one, zero = np.int64(1), np.int64(0)  # literals would make another type of the tuple, and more to compile
    lines = n * h
    line, last_line = lines * task // n_tasks, lines * (task + 1) // n_tasks
    while line < last_line:
        image = line // h
        top = line - image * h
        bottom = min(h, top + last_line - line)
        dx[image, top:bottom] = 0
        reach = (r_size - 1) * dilation_h
        first_p = max(0, (top + pad_top - reach + stride_h - 1) // stride_h)
        last_p = min(p_size, (bottom - 1 + pad_top) // stride_h + 1)
        for first in range(first_p * q_size, last_p * q_size, _BLOCK):
            count = min(_BLOCK, last_p * q_size - first)
            product = (
                *(one, one, count),
                *(one, count, k, (image * p_size * q_size + first) * k, k),
                *(one, one),
                *(one, count, n_panels * width, zero, n_panels * width),
                *(one, one, zero, zero),
            )
            covering = (count + ROWS - 1) // ROWS
            multiply_range(
                product,
                (zero, covering),
                (zero, n_panels),
                covering,
                taps,
                dy,
                panels,
                zero,
                one,
                bias,
                block,
                width,
                (zero, -np.inf, np.inf),
            )
            _add_windows(z, n_panels * width, first, count, image, (top, bottom), window, dx)
        line += bottom - top


@kernel
def _narrow(dy, panels, bias, window, width, taps, dx, n_tasks):
    parallel_for(_narrow_task, n_tasks, n_tasks, (n_tasks, dy, panels, bias, window, width, taps, dx))


_ONE_TAP = np.zeros((1, 2), np.int64)
_ONE_PLACE = np.zeros(1, np.int64)


def backward_input(dy: Array, weight: Array, g: Conv2dGeometry) -> Array:
    """(N, P, Q, K), (K, C, R, S) -> (N, C, H, W) in channels-last memory."""
    dx = empty((g.n, g.h, g.w, g.c), dy.dtype)
    width = panel_width(dy.itemsize)
    columns = g.r * g.s * g.c
    # Transposed so that the columns (r, s, c) of one k lie together; a first layer's weights are few.
    rows = np.ascontiguousarray(weight.transpose(0, 2, 3, 1)).reshape(-1)
    panels = pack("weights", rows, 0, (1, columns), columns, g.k, _ONE_PLACE, width)
    bias = np.zeros(-(-columns // width) * width, dy.dtype)
    window = (g.q, g.r, g.s, g.stride_h, g.stride_w, g.pad_top, g.pad_left, g.dilation_h, g.dilation_w)
    _narrow(dy, panels, bias, window, width, _ONE_TAP, dx, num_threads())
    return dx.transpose(0, 3, 1, 2)
