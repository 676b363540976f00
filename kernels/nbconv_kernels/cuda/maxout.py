"""Maxout (Goodfellow et al. 2013): the maximum of each group of ``pieces`` consecutive channels.

    y[n, j] = max over k < pieces of x[n, j * pieces + k]        dx[n, j * pieces + which[n, j]] = dy[n, j]

Channels are the last axis of memory, so that the whole array is one row of groups, whatever its shape. A
thread has a group: a warp's reads of the groups' second elements find in the first cache what the first ones
brought. In the gradient each element of dx asks its group, so that the writes are in order.

Limit: memory bandwidth.
"""

from __future__ import annotations

import operator
import weakref

import numpy as np

from nbconv_kernels.cuda.build import blocks, kernel
from nbconv_kernels.cuda.intrinsics import thread_index
from nbconv_kernels.cuda.memory import Array, check_float, empty, empty_nchw, is_array, whole
from nbconv_kernels.cuda.target import f32s, float32, i32s, int32, u32, uint32

__all__ = ["maxout", "maxout_backward"]

_BLOCK = 256

# What ``maxout`` gave needs no look at whether it is in range, for which the host would have to wait.
_made: dict[int, tuple[weakref.ref[Array], int]] = {}


@kernel(block=_BLOCK)
def _maxout(x: f32s, y: f32s, which: i32s, n: u32, pieces: u32):
    i = thread_index()
    if i < n:
        base = uint32(i * pieces)
        best, best_at, k = x[base], uint32(0), uint32(1)
        while k < pieces:
            value = x[uint32(base + k)]
            if value > best or value != value:
                best, best_at = value, k
            k = uint32(k + uint32(1))
        y[i], which[i] = best, int32(best_at)


def maxout(x: Array, pieces: int) -> tuple[Array, Array]:
    """The maximum of every ``pieces`` consecutive channels of (N, C) or (N, C, H, W), and which it is.

    Of equal maxima the first counts; a NaN beats every number, and the last NaN counts, as in ``max_pool2d``.

    Returns:
        y (N, C / pieces) or (N, C / pieces, H, W), and which, int32 of the same shape: 0 .. pieces - 1.

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: for another shape, or channels that are no multiple of ``pieces``.
    """
    check_float("maxout", x)
    pieces = _count(pieces)
    if x.ndim not in (2, 4) or x.shape[1] == 0 or x.shape[1] % pieces:
        raise ValueError(
            f"maxout: expected (N, C) or (N, C, H, W), C a multiple of pieces={pieces}, got shape {x.shape}"
        )
    y, which = (_empty(x, x.shape[1] // pieces, kind) for kind in (np.float32, np.int32))
    _maxout[blocks(y.size, _BLOCK)](whole(x), y, which, y.size, pieces)
    _remember(which, pieces)
    return y, which


@kernel(block=_BLOCK)
def _maxout_backward(dy: f32s, which: i32s, dx: f32s, n: u32, pieces: u32):
    i = thread_index()
    if i < n:
        group = uint32(i // pieces)
        piece = int32(uint32(i - uint32(group * pieces)))
        dx[i] = dy[group] if which[group] == piece else float32(0)


def maxout_backward(dy: Array, which: Array, pieces: int) -> Array:
    """Gradient of the input, with ``pieces`` times the channels: dy where the maximum was, 0 elsewhere.

    Raises:
        TypeError: for a dtype other than float32, or ``which`` other than int32.
        ValueError: for shapes that do not go together, or ``which`` outside of 0 .. pieces - 1.
    """
    check_float("maxout_backward", dy)
    pieces = _count(pieces)
    if not is_array(which) or which.dtype != np.int32:
        kind = which.dtype if is_array(which) else type(which).__name__
        raise TypeError(f"maxout_backward: expected an int32 array of pieces, got {kind}")
    if dy.ndim not in (2, 4) or which.shape != dy.shape:
        raise ValueError(
            f"maxout_backward: expected dy and which of one shape (N, C) or (N, C, H, W), got {dy.shape} and "
            f"{which.shape}"
        )
    wrong = 0 if _is_own(which, pieces) else int(((which < 0) | (which >= pieces)).sum())
    if wrong:
        raise ValueError(f"maxout_backward: {wrong} of the pieces are not in 0 .. {pieces - 1}")
    dx = _empty(dy, dy.shape[1] * pieces, np.float32)
    _maxout_backward[blocks(dx.size, _BLOCK)](whole(dy), whole(which), dx, dx.size, pieces)
    return dx


def _remember(which: Array, pieces: int) -> None:
    """Know these as a result of ``maxout``, as long as they live."""
    key = id(which)
    _made[key] = weakref.ref(which, lambda _: _made.pop(key, None)), pieces


def _is_own(which: Array, pieces: int) -> bool:
    reference, known = _made.get(id(which), (None, 0))
    return reference is not None and reference() is which and known == pieces


def _empty(x: Array, channels: int, dtype: np.typing.DTypeLike) -> Array:
    """An array of the shape of ``x``, but with so many channels."""
    n, _, *size = x.shape
    return empty_nchw(x, n, channels, *size, dtype) if size else empty(x, (n, channels), dtype)


def _count(pieces: int) -> int:
    if operator.index(pieces) < 1:
        raise ValueError(f"maxout: pieces must be positive, got {pieces}")
    return operator.index(pieces)
