"""The logarithm of softmax along an axis, and its gradient.

    y = x - max - log(sum of exp(x - max))        dx = dy - exp(y) * sum of dy

Lines are the work of teams of lanes, as in ``softmax``. Limit: memory bandwidth.
"""

from __future__ import annotations

import math

from nbconv_kernels.cuda.activation.softmax import along_lines, line_exponentials, line_of
from nbconv_kernels.cuda.build import kernel
from nbconv_kernels.cuda.memory import Array
from nbconv_kernels.cuda.reduction import team_sum
from nbconv_kernels.cuda.target import f32s, float32, u32, uint32

_BLOCK = 256


@kernel(block=_BLOCK)
def _log_softmax(x: f32s, y: f32s, lines: u32, length: u32, inner: u32, shift: u32):
    exists, first, step, end = line_of(lines, length, inner, shift)
    most, total = line_exponentials(x, first, step, end, shift)
    less = math.log(total)
    if exists:
        i = first
        while i < end:
            y[i] = (x[i] - most) - less
            i = uint32(i + step)


def log_softmax(x: Array, axis: int = 1) -> Array:
    """``x - log(sum of e^x)``, the sum along ``axis``.

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: when ``x`` has no such axis.
    """
    return along_lines("log_softmax", _log_softmax, axis, x=x)


@kernel(block=_BLOCK)
def _log_softmax_backward(dy: f32s, y: f32s, dx: f32s, lines: u32, length: u32, inner: u32, shift: u32):
    exists, first, step, end = line_of(lines, length, inner, shift)
    total = float32(0)
    i = first
    while i < end:
        total += dy[i]
        i = uint32(i + step)
    total = team_sum(total, shift)
    if exists:
        i = first
        while i < end:
            dx[i] = dy[i] - math.exp(y[i]) * total
            i = uint32(i + step)


def log_softmax_backward(dy: Array, y: Array, axis: int = 1) -> Array:
    """Gradient of the input of a log softmax along ``axis`` with output ``y``.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ or there is no such axis.
    """
    return along_lines("log_softmax_backward", _log_softmax_backward, axis, dy=dy, y=y)
