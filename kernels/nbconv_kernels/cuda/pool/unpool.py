"""Unpooling: values put back to where a maximum pooling found them, and the gradient.

    y[indices] = x, zeros elsewhere        dx = dy[indices]

Memory is (N, H, W, C). Windows may overlap, so each pixel gathers, as in the gradient of the pooling, and
takes the last of the windows that name it. The gradient reads at the places named, a channel a time.

Limit: memory bandwidth.
"""

from __future__ import annotations

from typing import Any

from nbconv_kernels.cuda.build import device_function, kernel
from nbconv_kernels.cuda.memory import Array, check_float, empty_nchw, whole
from nbconv_kernels.cuda.pixels import BLOCK, first_item, grid, next_item, quads, read4, write4
from nbconv_kernels.cuda.pool.maximum import gathered
from nbconv_kernels.cuda.pool.places import check_inside, check_integers, places
from nbconv_kernels.cuda.target import cuda, f32s, float32, i32s, u32, uint32
from nbconv_kernels.geometry import nchw

__all__ = ["max_unpool2d", "max_unpool2d_backward"]


def max_unpool2d(x: Array, indices: Array, output_shape: tuple[int, ...]) -> Array:
    """Put (N, C, P, Q) at the ``indices`` of a maximum pooling's input, zeros elsewhere (Zeiler 2011).

    Where several go to one place, the last of them in row order stays.

    Returns:
        (N, C, H, W) = ``output_shape``.

    Raises:
        TypeError: for a dtype other than float32, or indices that are not integers.
        ValueError: for shapes that do not go together, or an index outside the image.
    """
    check_float("max_unpool2d", x)
    n, c, h, w = nchw(output_shape)
    check_integers("max_unpool2d", indices)
    if x.ndim != 4 or indices.shape != x.shape or x.shape[:2] != (n, c):
        raise ValueError(
            f"max_unpool2d: expected x and indices of one shape (N, C, P, Q) and output_shape (N, C, H, W), "
            f"got {x.shape}, {indices.shape} and {tuple(output_shape)}"
        )
    return gathered("max_unpool2d", x, indices, h, w, add=False)


@device_function
def _value(dy, base, at, pixels, channels) -> Any:
    inside = uint32(at) < pixels
    return dy[uint32(base + uint32(uint32(at) * channels))] if inside else float32(0)


@kernel(block=BLOCK)
def _take(dy: f32s, indices: i32s, dx: f32s, channels: u32, pixels: u32, windows: u32):
    image = uint32(cuda.blockIdx.x)
    groups = quads(channels)
    item = first_item()
    while item < uint32(windows * groups):
        window = uint32(item // groups)
        channel = uint32(uint32(item - uint32(window * groups)) << uint32(2))
        at = uint32(uint32(uint32(uint32(image * windows) + window) * channels) + channel)
        a, b, c, d = read4(indices, at, channel, channels)
        base = uint32(uint32(uint32(image * pixels) * channels) + channel)
        last = uint32(uint32(channels - uint32(1)) - channel)
        e = _value(dy, base, a, pixels, channels)
        f = _value(dy, uint32(base + min(last, uint32(1))), b, pixels, channels)
        g = _value(dy, uint32(base + min(last, uint32(2))), c, pixels, channels)
        h = _value(dy, uint32(base + min(last, uint32(3))), d, pixels, channels)
        write4(dx, at, channel, channels, e, f, g, h)
        item = next_item(item)


def max_unpool2d_backward(dy: Array, indices: Array) -> Array:
    """Gradient of the input, of the indices' shape: each element gets the dy (N, C, H, W) of its place.

    Also where several went there and one stayed, as in PyTorch.

    Raises:
        TypeError: for a dtype other than float32, or indices that are not integers.
        ValueError: for shapes that do not go together, or an index outside the image.
    """
    check_float("max_unpool2d_backward", dy)
    check_integers("max_unpool2d_backward", indices)
    if dy.ndim != 4 or indices.ndim != 4 or dy.shape[:2] != indices.shape[:2]:
        raise ValueError(
            f"max_unpool2d_backward: expected dy (N, C, H, W) and indices (N, C, P, Q), got {dy.shape} and "
            f"{indices.shape}"
        )
    n, c, h, w = dy.shape
    check_inside("max_unpool2d_backward", indices, h, w)
    dx = empty_nchw(dy, *indices.shape)
    if dx.size:
        windows = indices.shape[2] * indices.shape[3]
        _take[grid(n, windows, c)](whole(dy), places(indices, h, w), dx, c, h * w, windows)
    return dx
