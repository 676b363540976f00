"""Bilinear sampling of images along an affine map.

For each pixel of the result: its place in the input, in float64, so that mirror images and whole steps are
exact; the four pixels around that place; their sum with weights (1 - f) and f along each axis.

A task copies an image into a frame one pixel wide (two below and on the right, for a place on the very edge),
of whatever lies beyond the edge. Then nothing depends on where a place is: the places of a row are computed
in vectors, one channel gathers a vector of pixels, and of several channels a pixel's lie side by side.

Memory is (N, H, W, C). Tasks share the rows of the results. Limit: reading four pixels for one.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.augmentation import AFFINE_PADDINGS, affine_size
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float, empty_nchw
from nbconv_kernels.cpu.tasks import row_of, task_count
from nbconv_kernels.cpu.vector import fill, lanes, load, plus, store, times
from nbconv_kernels.geometry import PairLike

__all__ = ["affine_sample"]

_ZEROS, _BORDER, _REFLECTION = range(len(AFFINE_PADDINGS))
_FRAME = 3  # pixels that the frame adds to each axis, one of them in front


@kernel
def _framed(x, height, width, channels, value, frame):
    """Copy an image into the middle of ``frame``, and write ``value`` around it."""
    line, wide = width * channels, (width + _FRAME) * channels
    for i in range(frame.size):
        frame[i] = value
    for row in range(height):
        values = x[row * line : (row + 1) * line]
        out = frame[(row + 1) * wide + channels : (row + 1) * wide + channels + line]
        for i in range(line):
            out[i] = values[i]


@kernel
def _places(slope, start, size, mode, places):
    """Fill ``places`` with ``slope * column + start``, as places in the frame of an axis of ``size``."""
    middle = (places.size - 1) * 0.5
    for q in range(places.size):
        places[q] = slope * (q - middle) + start
    if mode == _REFLECTION:
        for q in range(places.size):
            distance = abs(places[q] + 0.5)
            turns = np.floor(distance / size)
            rest = distance - turns * size
            odd = turns - 2.0 * np.floor(turns * 0.5)
            places[q] = (rest if odd == 0.0 else size - rest) - 0.5
    low, high = (-1.0, float(size)) if mode == _ZEROS else (0.0, size - 1.0)
    for q in range(places.size):
        place = places[q] if places[q] > low else low  # NaN, which matrices near overflow give, is low
        places[q] = (place if place < high else high) + 1.0


@kernel
def _row_of_one(frame, wide, across, down, out):
    """Pixels of one channel at the places (across, down)."""
    number, one = frame.dtype.type, frame.dtype.type(1)
    for q in range(out.size):
        left, top = np.int32(across[q]), np.int32(down[q])
        right_share, lower_share = number(across[q] - left), number(down[q] - top)
        at = np.int64(top) * wide + left
        upper = (one - right_share) * frame[at] + right_share * frame[at + 1]
        lower = (one - right_share) * frame[at + wide] + right_share * frame[at + wide + 1]
        out[q] = (one - lower_share) * upper + lower_share * lower


@kernel
def _row_of_many(frame, wide, channels, across, down, out):
    """Pixels of several channels at the places (across, down)."""
    number, one = frame.dtype.type, frame.dtype.type(1)
    step = lanes(frame)
    for q in range(across.size):
        left, top = int(across[q]), int(down[q])
        right_share, lower_share = number(across[q] - left), number(down[q] - top)
        at = top * wide + left * channels
        a, b = fill(frame, one - right_share), fill(frame, right_share)
        c, d = fill(frame, one - lower_share), fill(frame, lower_share)
        for k in range(0, channels, step):
            rest = channels - k
            here, below = at + k, at + wide + k
            upper = plus(times(a, load(frame, here, rest)), times(b, load(frame, here + channels, rest)))
            lower = plus(times(a, load(frame, below, rest)), times(b, load(frame, below + channels, rest)))
            store(out, q * channels + k, plus(times(c, upper), times(d, lower)), rest)


@kernel
def _affine_task(task, n_tasks, x, matrices, y, shape, mode, value):
    images, channels, height, width, out_height, out_width = shape
    size, wide = x.size // images, (width + _FRAME) * channels
    frame = np.empty((height + _FRAME) * wide, x.dtype)
    across, down = np.empty(out_width), np.empty(out_width)
    framed = -1
    for job in range(images * out_height * task // n_tasks, images * out_height * (task + 1) // n_tasks):
        image = job // out_height
        if image != framed:
            _framed(x[image * size : (image + 1) * size], height, width, channels, value, frame)
            framed = image
        row = job - image * out_height - (out_height - 1) * 0.5
        m = matrices[6 * image : 6 * image + 6]
        _places(m[0], m[1] * row + m[2] + (width - 1) * 0.5, width, mode, across)
        _places(m[3], m[4] * row + m[5] + (height - 1) * 0.5, height, mode, down)
        out = y[job * out_width * channels : (job + 1) * out_width * channels]
        if channels == 1:
            _row_of_one(frame, wide, across, down, out)
        else:
            _row_of_many(frame, wide, channels, across, down, out)


@kernel
def _affine(n_tasks, x, matrices, y, shape, mode, value, n_threads):
    parallel_for(_affine_task, n_tasks, n_threads, (n_tasks, x, matrices, y, shape, mode, value))


def affine_sample(
    x: Array,
    matrices: Array,
    output_size: PairLike | None = None,
    padding_mode: str = "zeros",
    fill: float = 0.0,
) -> Array:
    """Sample each image of (N, C, H, W) at the places where an affine map sends the pixels of the result.

    Places are (column, row) in pixels from the middle of the image, ``matrices`` (N, 2, 3), float:

        place in x = matrix[:, :2] @ (place in y) + matrix[:, 2]

    Beyond the edge there is ``fill`` ("zeros"), the pixel at the edge ("border"), or the mirror image, which
    repeats the pixel at the edge ("reflection").

    Returns:
        (N, C, P, Q), with (P, Q) = ``output_size`` or else (H, W).

    Raises:
        ValueError: if shapes and arguments do not fit, or matrices are not finite.
        TypeError: if x is neither float32 nor float64, or matrices are no floats.
    """
    dtype = check_float("affine_sample", x)
    size = affine_size(x.shape, matrices, output_size, padding_mode)
    y = empty_nchw(*x.shape[:2], *size, dtype)
    if y.size:
        maps = np.ascontiguousarray(matrices, np.float64).reshape(-1)
        mode = AFFINE_PADDINGS.index(padding_mode)
        shape = (*x.shape, *size)
        settings = shape, mode, dtype.type(fill), get_num_threads()
        _affine(task_count(y.size), row_of(x), maps, row_of(y), *settings)
    return y
