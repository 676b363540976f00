"""The frame around elementwise functions: a formula becomes a kernel.

    @device_function
    def _leaky_relu(x, slope, unused):
        return x if x > float32(0) else x * slope

    _LEAKY_RELU = mapping(_leaky_relu)

A formula has two numbers to go by besides the element, whether it uses them or not; a gradient's formula has
the element of dy before its own. Four elements a thread, in 128-bit accesses; the last thread takes what is
left one by one.

Limit: memory bandwidth, unless a formula says otherwise.
"""

from __future__ import annotations

from typing import Any

from nbconv_kernels.cuda.build import Kernel, blocks, kernel
from nbconv_kernels.cuda.intrinsics import load4, store4, thread_index
from nbconv_kernels.cuda.memory import Array, check_float, check_same_shape, empty_as, whole
from nbconv_kernels.cuda.target import f32, f32s, u32, uint32

_BLOCK = 256


def mapping(formula: Any) -> Kernel:
    """The kernel of y = formula(x, a, b)."""

    @kernel(block=_BLOCK, constants=(formula.__name__,))
    def _map(x: f32s, y: f32s, a: f32, b: f32, n: u32):
        i = uint32(uint32(4) * thread_index())
        if uint32(i + uint32(4)) <= n:
            x0, x1, x2, x3 = load4(x, i)
            store4(y, i, formula(x0, a, b), formula(x1, a, b), formula(x2, a, b), formula(x3, a, b))
        else:
            while i < n:
                y[i] = formula(x[i], a, b)
                i = uint32(i + uint32(1))

    return _map


def gradient(formula: Any) -> Kernel:
    """The kernel of dx = formula(dy, v, a, b), v being the function's argument or its result."""

    @kernel(block=_BLOCK, constants=(formula.__name__,))
    def _gradient(dy: f32s, v: f32s, dx: f32s, a: f32, b: f32, n: u32):
        i = uint32(uint32(4) * thread_index())
        if uint32(i + uint32(4)) <= n:
            d0, d1, d2, d3 = load4(dy, i)
            v0, v1, v2, v3 = load4(v, i)
            first, second = formula(d0, v0, a, b), formula(d1, v1, a, b)
            store4(dx, i, first, second, formula(d2, v2, a, b), formula(d3, v3, a, b))
        else:
            while i < n:
                dx[i] = formula(dy[i], v[i], a, b)
                i = uint32(i + uint32(1))

    return _gradient


def map_elements(op: str, launch: Kernel, x: Array, a: float = 0.0, b: float = 0.0) -> Array:
    """A kernel of ``mapping`` over the elements of ``x``, into a new array."""
    check_float(op, x)
    y = empty_as(x)
    launch[blocks(x.size, 4 * _BLOCK)](whole(x), y, a, b, x.size)
    return y


def map_gradient(op: str, launch: Kernel, dy: Array, a: float = 0.0, b: float = 0.0, **of: Array) -> Array:
    """A kernel of ``gradient`` over the elements of ``dy`` and of the array named, into a new one."""
    ((name, value),) = of.items()
    check_float(op, dy, value)
    check_same_shape(op, dy=dy, **{name: value})
    dx = empty_as(dy)
    launch[blocks(dy.size, 4 * _BLOCK)](whole(dy), whole(value), dx, a, b, dy.size)
    return dx
