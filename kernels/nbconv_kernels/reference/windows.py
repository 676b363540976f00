"""Sliding windows over a padded input, one kernel tap at a time: what convolution and pooling share.

For tap (r, s), the elements that all windows read form one strided slice of the padded input: rows
``r * dilation + stride * [0, 1, ..., P - 1]``, and columns likewise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nbconv_kernels.geometry import Conv2dGeometry, Pool2dGeometry, span
from nbconv_kernels.reference.memory import Array

Geometry = Conv2dGeometry | Pool2dGeometry
Slices = tuple[slice, slice]


def taps(g: Geometry) -> Iterator[tuple[int, int, Slices]]:
    """(r, s, (rows, columns)) for every kernel tap in row order: where the windows meet the padded input."""
    for r in range(g.r):
        for s in range(g.s):
            top, left = r * g.dilation_h, s * g.dilation_w
            rows = slice(top, top + (g.p - 1) * g.stride_h + 1, g.stride_h)
            columns = slice(left, left + (g.q - 1) * g.stride_w + 1, g.stride_w)
            yield r, s, (rows, columns)


def pad(x: Array, g: Geometry, fill: float = 0) -> Array:
    """``x`` (..., H, W) with ``fill`` around it, as far as the windows reach and no further."""
    height = (g.p - 1) * g.stride_h + span(g.r, g.dilation_h)
    width = (g.q - 1) * g.stride_w + span(g.s, g.dilation_w)
    padded = np.full((*x.shape[:-2], height, width), fill, x.dtype)
    inner = _inner(padded, g)
    inner[...] = x[..., : inner.shape[-2], : inner.shape[-1]]
    return padded


def unpad(padded: Array, g: Geometry) -> Array:
    """The gradient of ``pad``: what fell on the padding is dropped, what no window reads is zero."""
    x = np.zeros((*padded.shape[:-2], g.h, g.w), padded.dtype)
    inner = _inner(padded, g)
    x[..., : inner.shape[-2], : inner.shape[-1]] = inner
    return x


def _inner(padded: Array, g: Geometry) -> Array:
    return padded[..., g.pad_top : g.pad_top + g.h, g.pad_left : g.pad_left + g.w]
