"""What both ways to a weight gradient read: tables of pixel addresses, and dy with its rows abreast."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nbconv_kernels.cpu.jit import kernel
from nbconv_kernels.cpu.microkernel import ROWS, SHORT_ROWS
from nbconv_kernels.cpu.movement import copy_vectors

_AT_ONCE = 16  # pixels
_GAP = 2 * ROWS  # elements between groups of rows: room for the vectors that copy them


class Reduction(NamedTuple):
    """The geometry of one reduction; all in elements and pixels."""

    images: int
    out_h: int
    out_w: int
    out_pixel: int  # elements from one pixel of dy to the next
    out_start: int  # first channel of dy (of a group)
    rows: int  # channels of dy
    source_h: int
    source_w: int
    source_pixel: int
    source_start: int
    step_y: int
    step_x: int
    columns: int  # contiguous source elements at each tap


@kernel
def tabulate(first, count, block, reduction, taps, base, item, zeros, limit, tail, steps):
    """Addresses of the source pixels of ``count`` pixels: ``steps[tap * block + pixel]``.

    Elements from ``limit`` on are read from the ``tail``.
    """
    _, out_h, out_w = reduction[:3]
    source_h, source_w, source_pixel, source_start, step_y, step_x = reduction[6:12]
    from_y = np.empty(block, np.int64)
    from_x = np.empty(block, np.int64)
    start = np.empty(block, np.int64)
    image = first // (out_h * out_w)
    y = (first - image * out_h * out_w) // out_w
    x = first - (image * out_h + y) * out_w
    for pixel in range(count):
        from_y[pixel] = y * step_y
        from_x[pixel] = x * step_x
        start[pixel] = ((image * source_h + y * step_y) * source_w + x * step_x) * source_pixel + source_start
        x += 1
        if x == out_w:
            x = 0
            y += 1
            if y == out_h:
                y = 0
                image += 1
    for tap in range(taps.shape[0]):
        tap_y, tap_x = taps[tap, 0], taps[tap, 1]
        shift = (tap_y * source_w + tap_x) * source_pixel
        at = tap * block
        for pixel in range(count):
            to_y = from_y[pixel] + tap_y
            to_x = from_x[pixel] + tap_x
            inside = (to_y >= 0) & (to_y < source_h) & (to_x >= 0) & (to_x < source_w)
            element = start[pixel] + shift
            where = base + element * item if element < limit else tail + (element - limit) * item
            steps[at + pixel] = where if inside else zeros


@kernel
def put_abreast(first, count, block, pixel, start, whole, first_group, last_group, gradient, abreast):
    """The channels of ``count`` pixels of dy, regrouped so that each tile's rows lie together for each pixel.

    Whole vectors are copied. What they write too much, the next copy overwrites or the gap between groups
    takes; what a last tile holds of other channels goes to sums that are dropped.
    """
    begin = abreast_at(first_group, whole, block)
    # A few pixels at a time, so that what is read and what is written stay in the L1 cache.
    for some in range(0, count, _AT_ONCE):
        last = min(count, some + _AT_ONCE)
        for group in range(first_group, last_group):
            height = ROWS if group < whole else SHORT_ROWS
            to = abreast_at(group, whole, block) - begin + some * height
            at = (first + some) * pixel + start + first_row(group, whole)
            if at + (last - some - 1) * pixel + 2 * ROWS <= gradient.size:
                for _ in range(some, last):
                    copy_vectors(gradient, at, abreast, to, height)
                    at += pixel
                    to += height
                continue
            for _ in range(some, last):  # not past the end of the array
                for i in range(height):
                    abreast[to + i] = gradient[at + i] if at + i < gradient.size else 0
                at += pixel
                to += height


@kernel
def first_row(group, whole):
    """The first row of a group: ``whole`` groups of ``ROWS`` come before those of ``SHORT_ROWS``."""
    return min(group, whole) * ROWS + max(0, group - whole) * SHORT_ROWS


@kernel
def abreast_at(group, whole, block):
    """Where a group of rows begins in ``abreast``, if group 0 begins at 0."""
    return first_row(group, whole) * block + group * _GAP
