"""Unpooling: values put back to where a maximum pooling found them, and the gradient.

    y[indices] = x, zeros elsewhere        dx = dy[indices]

Memory is (N, H, W, C). Windows may overlap, so a task owns an image, or some of its channels where there are
fewer images than threads, and writes in the order of the windows. The gradient is a plain gathering. Limit:
one scattered access, about a nanosecond, for each element of x, and clearing y.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float, empty_nchw
from nbconv_kernels.cpu.tasks import row_of, task_count
from nbconv_kernels.geometry import nchw

__all__ = ["max_unpool2d", "max_unpool2d_backward"]

_LINE = 16  # channels that tasks do not share: a cache line


@kernel
def _unpool_task(task, n_tasks, x, indices, y, shape, parts, wrong):
    images, channels, pixels, windows = shape
    lines = (channels + _LINE - 1) // _LINE
    zero = y.dtype.type(0)
    bad = 0
    for job in range(images * parts * task // n_tasks, images * parts * (task + 1) // n_tasks):
        image = job // parts
        part = job - image * parts
        first = min(channels, lines * part // parts * _LINE)
        last = min(channels, lines * (part + 1) // parts * _LINE)
        for pixel in range(image * pixels, (image + 1) * pixels):
            for at in range(pixel * channels + first, pixel * channels + last):
                y[at] = zero
        for window in range(image * windows, (image + 1) * windows):
            for channel in range(first, last):
                at = indices[window * channels + channel]
                if 0 <= at < pixels:
                    y[(image * pixels + at) * channels + channel] = x[window * channels + channel]
                else:
                    bad += 1
    wrong[task] = bad


@kernel
def _unpool(n_tasks, x, indices, y, shape, parts, wrong, n_threads):
    parallel_for(_unpool_task, n_tasks, n_threads, (n_tasks, x, indices, y, shape, parts, wrong))


def max_unpool2d(x: Array, indices: Array, output_shape: tuple[int, ...]) -> Array:
    """Put (N, C, P, Q) at the ``indices`` of a maximum pooling's input, zeros elsewhere (Zeiler 2011).

    Where several go to one place, the last of them in row order stays.

    Returns:
        (N, C, H, W) = ``output_shape``.

    Raises:
        TypeError: for a dtype other than float32 or float64, or indices that are not integers.
        ValueError: for shapes that do not go together, or an index outside the image.
    """
    dtype = check_float("max_unpool2d", x)
    n, c, h, w = nchw(output_shape)
    indices = _checked("max_unpool2d", indices)
    if x.ndim != 4 or indices.shape != x.shape or x.shape[:2] != (n, c):
        raise ValueError(
            f"max_unpool2d: expected x and indices of one shape (N, C, P, Q) and output_shape (N, C, H, W), "
            f"got {x.shape}, {indices.shape} and {tuple(output_shape)}"
        )
    y = empty_nchw(n, c, h, w, dtype)
    n_tasks = task_count(y.size)
    parts = 1 if n >= get_num_threads() else n_tasks
    wrong = np.zeros(n_tasks, np.int64)
    shape = (n, c, h * w, x.shape[2] * x.shape[3])
    _unpool(n_tasks, row_of(x), row_of(indices), row_of(y), shape, parts, wrong, get_num_threads())
    _raise_if_any("max_unpool2d", wrong, h, w)
    return y


@kernel
def _gather_task(task, n_tasks, dy, indices, dx, shape, wrong):
    images, channels, pixels, windows = shape
    zero = dx.dtype.type(0)
    bad = 0
    for window in range(images * windows * task // n_tasks, images * windows * (task + 1) // n_tasks):
        start = window // windows * pixels
        for channel in range(channels):
            at = indices[window * channels + channel]
            inside = 0 <= at < pixels
            bad += not inside
            dx[window * channels + channel] = dy[(start + at) * channels + channel] if inside else zero
    wrong[task] = bad


@kernel
def _gather(n_tasks, dy, indices, dx, shape, wrong, n_threads):
    parallel_for(_gather_task, n_tasks, n_threads, (n_tasks, dy, indices, dx, shape, wrong))


def max_unpool2d_backward(dy: Array, indices: Array) -> Array:
    """Gradient of the input, of the indices' shape: each element gets the dy (N, C, H, W) of its place.

    Also where several went there and one stayed, as in PyTorch.

    Raises:
        TypeError: for a dtype other than float32 or float64, or indices that are not integers.
        ValueError: for shapes that do not go together, or an index outside the image.
    """
    dtype = check_float("max_unpool2d_backward", dy)
    indices = _checked("max_unpool2d_backward", indices)
    if dy.ndim != 4 or indices.ndim != 4 or dy.shape[:2] != indices.shape[:2]:
        raise ValueError(
            f"max_unpool2d_backward: expected dy (N, C, H, W) and indices (N, C, P, Q), got {dy.shape} and "
            f"{indices.shape}"
        )
    n, c, h, w = dy.shape
    dx = empty_nchw(*indices.shape, dtype)
    n_tasks = task_count(dx.size)
    wrong = np.zeros(n_tasks, np.int64)
    shape = (n, c, h * w, indices.shape[2] * indices.shape[3])
    _gather(n_tasks, row_of(dy), row_of(indices), row_of(dx), shape, wrong, get_num_threads())
    _raise_if_any("max_unpool2d_backward", wrong, h, w)
    return dx


def _checked(op: str, indices: Array) -> Array:
    """The indices as int32, as pooling gives them, or int64: other integers would be kernels of their own."""
    if not isinstance(indices, np.ndarray) or indices.dtype.kind not in "iu":
        kind = indices.dtype if isinstance(indices, np.ndarray) else type(indices).__name__
        raise TypeError(f"{op}: expected an array of integer indices, got {kind}")
    return indices if indices.dtype == np.int32 else indices.astype(np.int64)


def _raise_if_any(op: str, wrong: Array, h: int, w: int) -> None:
    if wrong.any():
        raise ValueError(f"{op}: {wrong.sum()} indices lie outside 0 .. {h * w - 1}, the pixels of {h} x {w}")
