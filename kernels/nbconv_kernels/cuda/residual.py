"""Where the paths of a residual block meet: the sum and its ReLU in one sweep.

    add_relu(a, b) = max(0, a + b)

The gradient of both summands is ``relu_backward(dy, y)``. Four elements a thread, in 128-bit accesses.

Limit: memory bandwidth.
"""

from __future__ import annotations

from nbconv_kernels.cuda.build import blocks, device_function, kernel
from nbconv_kernels.cuda.intrinsics import load4, store4, thread_index
from nbconv_kernels.cuda.memory import (
    Array,
    check_float,
    check_same_shape,
    check_writeable,
    empty_as,
    is_whole,
    whole,
)
from nbconv_kernels.cuda.target import f32s, float32, u32, uint32

__all__ = ["accumulate_relu", "add_relu"]

_BLOCK = 256


@device_function
def _rectified(total):
    return float32(0) if total <= float32(0) else total


@kernel(block=_BLOCK)
def _add_relu(a: f32s, b: f32s, y: f32s, n: u32):
    i = uint32(uint32(4) * thread_index())
    if uint32(i + uint32(4)) <= n:
        a0, a1, a2, a3 = load4(a, i)
        b0, b1, b2, b3 = load4(b, i)
        store4(y, i, _rectified(a0 + b0), _rectified(a1 + b1), _rectified(a2 + b2), _rectified(a3 + b3))
    else:
        while i < n:
            y[i] = _rectified(a[i] + b[i])
            i = uint32(i + uint32(1))


def add_relu(a: Array, b: Array) -> Array:
    """max(0, a + b), and NaN where the sum is NaN, for arrays of one shape.

    Raises:
        TypeError: if they are not both float32.
        ValueError: if the shapes differ.
    """
    check_float("add_relu", a, b)
    check_same_shape("add_relu", a=a, b=b)
    y = empty_as(a)
    _add_relu[blocks(a.size, 4 * _BLOCK)](whole(a), whole(b), y, a.size)
    return y


def accumulate_relu(into: Array, value: Array) -> None:
    """``into = max(0, into + value)`` in place, for arrays of one shape.

    Raises:
        TypeError: if they are not both float32.
        ValueError: if the shapes differ or ``into`` is read-only.
    """
    check_float("accumulate_relu", into, value)
    check_same_shape("accumulate_relu", into=into, value=value)
    check_writeable("accumulate_relu", into)
    if not is_whole(into):
        into[...] = add_relu(into, value)
        return
    _add_relu[blocks(into.size, 4 * _BLOCK)](into, whole(value), into, into.size)
