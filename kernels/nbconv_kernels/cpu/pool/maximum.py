"""Maximum pooling, and its gradient at the stored places.

    y[n, p, q, c] = max over r, s of x[n, p * stride - pad + r * dilation, q * stride - pad + s * dilation, c]

Memory is (N, H, W, C). Forward: for each output pixel, a vector of channels goes through the window, with the
best value and its place in registers. Each input is read once for every window it is in, from the first
cache; a task has a range of output rows, over all images.

Backward: dx[indices] += dy, from the indices alone. A task owns an image, or some of its channels where there
are fewer images than threads, and adds in the order of the outputs: the same bits each time. Most windows are
tiles of the image, of as many pixels as the sizes suggest. So the image is first written as if they were: for
each tile, a vector of channels at a time, the gradient where the index says and zero elsewhere. Where an
index lies outside its tile, all is done again for windows that may overlap: clear the image, then add element
by element.

Windows of 2 x 2 pixels, the usual ones, are spelt out (``two_by_two``).

Limit: memory bandwidth; with overlapping windows one scattered addition, about 2 ns, an output.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float, empty_nchw
from nbconv_kernels.cpu.pool.two_by_two import pool_by_two, tile_by_two
from nbconv_kernels.cpu.tasks import row_of, task_count
from nbconv_kernels.cpu.vector import (
    beats,
    choose,
    count,
    equal,
    fill,
    lanes,
    load,
    load_places,
    store,
)
from nbconv_kernels.geometry import PaddingLike, PairLike, nchw, pool2d_geometry, require_int32_places

__all__ = ["max_pool2d", "max_pool2d_backward"]

_LINE = 16  # channels that tasks do not share: a cache line


@kernel
def taps_inside(start, dilation, taps, size):
    """(first, last) of a window's taps that fall into 0 .. ``size`` when tap 0 falls on ``start``."""
    first = (dilation - 1 - start) // dilation if start < 0 else 0
    return first, min(taps, (size - start + dilation - 1) // dilation)


@kernel
def _max_pool_task(task, n_tasks, x, y, indices, geometry):
    (n, c, h, w, r_size, s_size, p_size, q_size) = geometry[:8]
    (stride_h, stride_w, pad_top, _, pad_left, _, dilation_h, dilation_w) = geometry[8:]
    step = lanes(x)
    by_two = r_size == s_size == 2 and dilation_h == dilation_w == 1
    for row in range(n * p_size * task // n_tasks, n * p_size * (task + 1) // n_tasks):
        image = row // p_size
        top = (row - image * p_size) * stride_h - pad_top
        r_first, r_last = taps_inside(top, dilation_h, r_size, h)
        done = 0
        if by_two and pad_left == 0 and r_first == 0 and r_last == 2:
            done = min(q_size, (w - 2) // stride_w + 1)
            pool_by_two(x, y, indices, (image * h * w, top * w, stride_w, w, c), row * q_size * c, done)
        for q in range(done, q_size):
            left = q * stride_w - pad_left
            s_first, s_last = taps_inside(left, dilation_w, s_size, w)
            start = (top + r_first * dilation_h) * w + left + s_first * dilation_w
            for channel in range(0, c, step):
                rest = c - channel
                source = image * h * w * c + channel
                best = load(x, source + start * c, rest)
                best_at = fill(best, start)
                for r in range(r_first, r_last):
                    at = (top + r * dilation_h) * w + left + s_first * dilation_w
                    for _ in range(s_first, s_last):
                        value = load(x, source + at * c, rest)
                        better = beats(value, best)
                        best = choose(better, value, best)
                        best_at = choose(better, fill(best, at), best_at)
                        at += dilation_w
                out = (row * q_size + q) * c + channel
                store(y, out, best, rest)
                store(indices, out, best_at, rest)


@kernel
def _max_pool(n_tasks, x, y, indices, geometry, n_threads):
    parallel_for(_max_pool_task, n_tasks, n_threads, (n_tasks, x, y, indices, geometry))


def max_pool2d(
    x: Array,
    kernel_size: PairLike,
    stride: PairLike | None = None,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """The maximum of each window of (N, C, H, W), and where it lies.

    Returns:
        y and indices, both (N, C, P, Q). Indices are int32, ``h * W + w`` of the maximum in its image: of
        equal ones the first in row order, of NaNs (each beats every number) the last, as in PyTorch.

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: for shapes and arguments that do not go together.
    """
    dtype = check_float("max_pool2d", x)
    g = pool2d_geometry(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    require_int32_places("max_pool2d", g)
    y = empty_nchw(*g.output_shape, dtype)
    indices = empty_nchw(*g.output_shape, np.int32)
    _max_pool(task_count(x.size), row_of(x), row_of(y), row_of(indices), tuple(g), get_num_threads())
    return y, indices


@kernel
def _channels_of(part, parts, channels):
    """(first, last) of a part of the channels, in whole cache lines."""
    lines = (channels + _LINE - 1) // _LINE
    return min(channels, lines * part // parts * _LINE), min(channels, lines * (part + 1) // parts * _LINE)


@kernel
def _tiles_task(task, n_tasks, dy, indices, dx, shape, parts, outside):
    images, channels, h, w, p_size, q_size = shape
    tile_h, tile_w = h // p_size, w // q_size
    by_two = tile_h == tile_w == 2 and w == 2 * q_size
    zero = fill(dy, dy.dtype.type(0))
    for job in range(images * parts * task // n_tasks, images * parts * (task + 1) // n_tasks):
        image = job // parts
        first, last = _channels_of(job - image * parts, parts, channels)
        found = 0
        for p in range(p_size if by_two else 0):
            for q in range(q_size):
                source = ((image * p_size + p) * q_size + q) * channels
                number = 2 * p * w + 2 * q
                for channel in range(first, last, lanes(dy)):
                    at = (image * h * w + number) * channels + channel
                    places = (at, number, w, channels)
                    found += tile_by_two(dy, indices, dx, places, source + channel, last - channel)
            if found != (p + 1) * q_size * (last - first):
                outside[task] = 1
                return
        for y in range(2 * p_size if by_two else 0, h):
            p = y // tile_h
            for q in range(q_size + 1):  # behind the last tile there may be pixels in no window
                inside = p < p_size and q < q_size
                source = ((image * p_size + p) * q_size + q) * channels
                for x in range(q * tile_w, (q + 1) * tile_w if q < q_size else w):
                    target = ((image * h + y) * w + x) * channels
                    for channel in range(first, last, lanes(dy)):
                        value = zero
                        if inside:
                            place = load_places(indices, source + channel, last - channel, -1, dy)
                            here = equal(place, fill(place, y * w + x))
                            value = choose(here, load(dy, source + channel, last - channel), zero)
                            found += count(here)
                        store(dx, target + channel, value, last - channel)
            if y + 1 == (p + 1) * tile_h and p < p_size and found != (p + 1) * q_size * (last - first):
                outside[task] = 1
                return


@kernel
def _tiles(n_tasks, dy, indices, dx, shape, parts, outside, n_threads):
    parallel_for(_tiles_task, n_tasks, n_threads, (n_tasks, dy, indices, dx, shape, parts, outside))


@kernel
def _scatter_task(task, n_tasks, dy, indices, dx, shape, parts, outside):
    images, channels, h, w, p_size, q_size = shape
    zero = dx.dtype.type(0)
    for job in range(images * parts * task // n_tasks, images * parts * (task + 1) // n_tasks):
        image = job // parts
        first, last = _channels_of(job - image * parts, parts, channels)
        for pixel in range(image * h * w, (image + 1) * h * w):
            for at in range(pixel * channels + first, pixel * channels + last):
                dx[at] = zero
        for pixel in range(image * p_size * q_size, (image + 1) * p_size * q_size):
            for source in range(pixel * channels + first, pixel * channels + last):
                at = indices[source]
                if 0 <= at < h * w:
                    dx[(image * h * w + at - pixel) * channels + source] += dy[source]
                else:
                    outside[task] += 1


@kernel
def _scatter(n_tasks, dy, indices, dx, shape, parts, outside, n_threads):
    parallel_for(_scatter_task, n_tasks, n_threads, (n_tasks, dy, indices, dx, shape, parts, outside))


def max_pool2d_backward(dy: Array, indices: Array, input_shape: tuple[int, int, int, int]) -> Array:
    """Gradient of the input, (N, C, H, W) = ``input_shape``: each output's goes to the place in ``indices``.

    Raises:
        TypeError: for a dtype other than float32 or float64, or indices that are not integers.
        ValueError: for shapes that do not go together, or an index outside the image.
    """
    dtype = check_float("max_pool2d_backward", dy)
    if not isinstance(indices, np.ndarray) or indices.dtype.kind not in "iu":
        kind = indices.dtype if isinstance(indices, np.ndarray) else type(indices).__name__
        raise TypeError(f"max_pool2d_backward: expected an array of integer indices, got {kind}")
    n, c, h, w = nchw(input_shape)
    if dy.ndim != 4 or indices.shape != dy.shape or dy.shape[:2] != (n, c):
        raise ValueError(
            f"max_pool2d_backward: expected dy and indices of one shape ({n}, {c}, P, Q) for input_shape "
            f"{tuple(input_shape)}, got shapes {dy.shape} and {indices.shape}"
        )
    if indices.dtype != np.int32:
        # Out of int32's range is out of the image's as well, and must stay so.
        indices = np.clip(indices.astype(np.int64), -1, h * w).astype(np.int32)
    dx = empty_nchw(n, c, h, w, dtype)
    n_tasks = task_count(dx.size)
    parts = 1 if n >= get_num_threads() else n_tasks
    p, q = dy.shape[2:]
    outside = np.zeros(n_tasks, np.int64)
    rows, sizes = (row_of(dy), row_of(indices), row_of(dx)), (n, c, h, w, p, q)
    arguments = (*rows, sizes, parts, outside, get_num_threads())
    if 0 < p <= h and 0 < q <= w:
        _tiles(n_tasks, *arguments)
        if not outside.any():
            return dx
        outside[:] = 0
    _scatter(n_tasks, *arguments)
    if outside.any():
        raise ValueError(f"max_pool2d_backward: {outside.sum()} indices lie outside an input of {h} x {w}")
    return dx
