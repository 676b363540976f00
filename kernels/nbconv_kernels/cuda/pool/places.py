"""Where maxima lie, and which windows may have theirs at a pixel.

Nothing is added at the places that indices name: each pixel gathers from the windows that may name it. Those
are a range of rows and one of columns of windows, in tables ``reach``: the first window of each row of pixels
and the one behind the last, then of each column.

For indices that ``max_pool2d`` made the tables follow from its geometry, which is remembered as long as the
indices live. Of others a kernel finds, for each row and column of windows, the lowest and the highest place
named, one block each, and whether all lie inside; that means to wait for the GPU.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np

from nbconv_kernels.cuda.build import kernel
from nbconv_kernels.cuda.memory import Array, empty, is_array, namespace, tables, to_host, upload, whole
from nbconv_kernels.cuda.target import cuda, i32s, int32, u32, uint32
from nbconv_kernels.geometry import Pool2dGeometry, span

_BLOCK = 256
_FAR = (1 << 31) - 1

_made: dict[int, tuple[weakref.ref[Array], Pool2dGeometry]] = {}


def remember(indices: Array, g: Pool2dGeometry) -> None:
    """Know these indices as those of the pooling ``g``, as long as they live."""
    key = id(indices)
    _made[key] = (weakref.ref(indices, lambda _: _made.pop(key, None)), g)


def _pooling(indices: Array, h: int, w: int) -> Pool2dGeometry | None:
    """The pooling of h x w pixels that made the indices, if one of ``max_pool2d`` did."""
    reference, g = _made.get(id(indices), (None, None))
    if reference is None or g is None or reference() is not indices or (g.h, g.w) != (h, w):
        return None
    return g


def check_integers(op: str, indices: Array) -> None:
    """Raise a TypeError for anything but an array of integers."""
    if not is_array(indices) or indices.dtype.kind not in "iu":
        kind = indices.dtype if is_array(indices) else type(indices).__name__
        raise TypeError(f"{op}: expected an array of integer indices, got {kind}")


def places(indices: Array, h: int, w: int) -> Array:
    """The indices as int32, in the layout of results; what is outside of h x w pixels stays outside."""
    if indices.dtype != np.int32:
        indices = namespace(indices).clip(indices.astype(np.int64), -1, h * w).astype(np.int32)
    return whole(indices)


@kernel(block=_BLOCK)
def _extremes(
    indices: i32s,
    lowest: i32s,
    highest: i32s,
    outside: i32s,
    images: u32,
    p_size: u32,
    q_size: u32,
    channels: u32,
    h: u32,
    w: u32,
):
    """One block for each row of windows, then for each column: extremes of the rows, or columns, named."""
    low, high, wrong = (
        cuda.shared.array(_BLOCK, int32),
        cuda.shared.array(_BLOCK, int32),
        cuda.shared.array(_BLOCK, int32),
    )
    block, thread = uint32(cuda.blockIdx.x), uint32(cuda.threadIdx.x)
    of_rows = block < p_size
    line = uint32(q_size * channels)
    # A row of windows is one run an image, a column one run a row.
    first = uint32(block * line) if of_rows else uint32(uint32(block - p_size) * channels)
    runs = images if of_rows else uint32(images * p_size)
    length, pitch = (line, uint32(p_size * line)) if of_rows else (channels, line)
    least, most, bad = int32(_FAR), int32(-1), int32(0)
    for run in range(runs):
        i = thread
        while i < length:
            at = indices[uint32(uint32(first + uint32(uint32(run) * pitch)) + i)]
            if int32(0) <= at and uint32(at) < uint32(h * w):
                row = uint32(uint32(at) // w)
                place = int32(row) if of_rows else int32(uint32(at) - uint32(row * w))
                least, most = min(least, place), max(most, place)
            else:
                bad = int32(bad + int32(1))
            i = uint32(i + uint32(_BLOCK))
    low[thread], high[thread], wrong[thread] = least, most, bad
    half = uint32(_BLOCK // 2)
    while half > uint32(0):
        cuda.syncthreads()
        if thread < half:
            other = uint32(thread + half)
            low[thread], high[thread] = min(low[thread], low[other]), max(high[thread], high[other])
            wrong[thread] = int32(wrong[thread] + wrong[other])
        half = uint32(half >> uint32(1))
    if thread == uint32(0):
        lowest[block], highest[block], outside[block] = low[thread], high[thread], wrong[thread]


def _named(op: str, indices: Array, h: int, w: int) -> tuple[Array, Array]:
    """For each row, then each column of windows: the lowest and the highest row, or column, it names.

    Raises:
        ValueError: if an index is not one of h x w pixels.
    """
    n, channels, p, q = indices.shape
    found = empty(indices, (3, p + q), np.int32)
    if not indices.size:
        found[:2], found[2] = -1, 0
    else:
        _extremes[p + q](places(indices, h, w), *found, n, p, q, channels, h, w)
    low, high, outside = to_host(found)
    wrong = int(outside[:p].sum())
    if wrong:
        raise ValueError(f"{op}: {wrong} indices lie outside 0 .. {h * w - 1}, the pixels of {h} x {w}")
    return low, high


def check_inside(op: str, indices: Array, h: int, w: int) -> None:
    """Raise a ValueError if an index is not one of h x w pixels."""
    if _pooling(indices, h, w) is None:
        _named(op, indices, h, w)


def _reach_of(g: Pool2dGeometry) -> tuple[Array]:
    ranges: list[int] = []
    for size, count, stride, before, wide in (
        (g.h, g.p, g.stride_h, g.pad_top, span(g.r, g.dilation_h)),
        (g.w, g.q, g.stride_w, g.pad_left, span(g.s, g.dilation_w)),
    ):
        ranges += [min(count, max(0, -(-(i + before - wide + 1) // stride))) for i in range(size)]
        ranges += [min(count, (i + before) // stride + 1) for i in range(size)]
    return (np.array(ranges, np.int32),)


def _around(low: Array, high: Array, size: int) -> list[Array]:
    """For each of ``size`` places: the first window that may name it, and the one behind the last."""
    place = np.arange(size)
    if not len(low):
        return [np.zeros(size)] * 2
    may = (low[:, None] <= place) & (high[:, None] >= place)
    some = may.any(axis=0)
    return [np.where(some, may.argmax(axis=0), 0), np.where(some, len(low) - may[::-1].argmax(axis=0), 0)]


def reach(op: str, indices: Array, h: int, w: int) -> Array:
    """The windows that may name each row and column of pixels.

    Raises:
        ValueError: if an index is not one of h x w pixels.
    """
    g = _pooling(indices, h, w)
    if g is not None:
        return tables(indices, _reach_of, g)[0]
    low, high = _named(op, indices, h, w)
    p = indices.shape[2]
    ranges: Sequence[Array] = _around(low[:p], high[:p], h) + _around(low[p:], high[p:], w)
    return upload(indices, np.concatenate(ranges), np.int32)
