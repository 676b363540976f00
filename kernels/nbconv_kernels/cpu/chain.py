"""A whole small network in one compiled call.

Where a layer takes a few microseconds, calling it costs more than computing it. Here the layers are rows of a
table of numbers, and one kernel goes down the table: convolutions and dense layers through the micro-kernel,
or row by row for one or two images, and maximum pools. A convolution of gray images takes the pool behind it
in. Weights lie one after the other in one array, packed; activations in a workspace of two halves that take
turns. A task takes some images through the whole network, a block at a time, so that nothing leaves the cache
in between.

Limit: for one image, reading the weights from the cache and opening the call; for many, multiply-adds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbconv_kernels.cpu.conv import gray_rows
from nbconv_kernels.cpu.conv.direct import padded_bias
from nbconv_kernels.cpu.conv.implicit_gemm import multiply_range
from nbconv_kernels.cpu.conv.packing import pack, panel_width, places_by_tap
from nbconv_kernels.cpu.epilogue import ACTIVATIONS
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.matvec import VECTORS_AT_ONCE, four_sums
from nbconv_kernels.cpu.memory import Array, aligned_empty, scratch
from nbconv_kernels.cpu.microkernel import ROWS, SHORT_ROWS
from nbconv_kernels.cpu.vector import beats, choose, lanes, load, store
from nbconv_kernels.geometry import Conv2dGeometry, Pool2dGeometry

_IMAGES = 8  # in a block
_PRODUCT, _POOL, _GRAY = 0, 1, 2
_COLUMNS = 24  # of the table
_LINE = 16  # elements; what is kept apart begins at multiples of it
_SMALL = 1 << 18  # multiply-adds below which a parallel region costs more than it saves


@kernel
def _pool(count, row, source, out):
    """The largest of each window, vectors over channels; ``row`` is that of the table."""
    h, w, c, p_size, q_size, r_size, s_size = row[4], row[5], row[6], row[7], row[8], row[9], row[10]
    stride_h, stride_w, pad_top, pad_left = row[11], row[12], row[13], row[14]
    dilation_h, dilation_w = row[15], row[16]
    for pixel in range(count * p_size * q_size):
        image = pixel // (p_size * q_size)
        p = (pixel - image * p_size * q_size) // q_size
        q = pixel - (image * p_size + p) * q_size
        for channel in range(0, c, lanes(source)):
            rest = c - channel
            empty = True
            best = load(source, 0, 0)
            for r in range(r_size):
                y = p * stride_h - pad_top + r * dilation_h
                if y < 0 or y >= h:
                    continue
                for s in range(s_size):
                    x = q * stride_w - pad_left + s * dilation_w
                    if x < 0 or x >= w:
                        continue
                    value = load(source, ((image * h + y) * w + x) * c + channel, rest)
                    best = value if empty else choose(beats(value, best), value, best)
                    empty = False
            store(out, pixel * c + channel, best, rest)


@kernel
def _rows(count, depth, columns, source, weight, bias, low, high, out):
    """A dense layer for a few images: the weights row by row, padded to a multiple of four rows."""
    for n in range(count):
        for first in range(0, columns, 4):
            a, b, c, d = four_sums(source, n * depth, weight, first * depth, depth)
            for i, value in enumerate((a, b, c, d)):
                if first + i < columns:
                    total = value + bias[first + i]
                    if total < low:
                        total = out.dtype.type(low)
                    if total > high:
                        total = out.dtype.type(high)
                    out[n * columns + first + i] = total


@kernel
def _task(task, n_tasks, table, taps, constants, bounds, x, sizes, width, memory, y):
    images, size_in, size_half, size_out, size_own = sizes
    one, zero = np.int64(1), np.int64(0)
    own = memory[size_own * task : size_own * (task + 1)]
    steps = np.empty(gray_rows.MOST_TAPS, np.int64)
    last = images * (task + 1) // n_tasks
    for first in range(images * task // n_tasks, last, _IMAGES):
        count = min(_IMAGES, last - first)
        source = x[first * size_in :]
        for step in range(table.shape[0]):
            row = table[step]
            half = size_half * (step % 2)
            out = y[first * size_out :] if step == table.shape[0] - 1 else own[half : half + size_half]
            if row[0] == _POOL:
                _pool(count, row, source, out)
                source = out
                continue
            if row[0] == _GRAY:
                for image in range(count):
                    gray_rows.convolve_image(
                        source,
                        image * row[4] * row[5],
                        (row[4], row[5], row[6], row[7], row[8], row[9], row[10]),
                        (row[11], row[12]),
                        constants[row[2] :],
                        constants[row[3] :],
                        (bounds[step, 0], bounds[step, 1]),
                        row[1],
                        steps,
                        own[2 * size_half :],
                        out,
                        image * row[13],
                    )
                source = out
                continue
            depth, columns, bias = row[11], row[18], constants[row[3] :]
            low, high = bounds[step, 0], bounds[step, 1]
            if row[19] >= 0 and count <= VECTORS_AT_ONCE:
                weight = constants[row[19] :]
                _rows(count, depth, columns, source, weight, bias, low, high, out)
                source = out
                continue
            product = (
                *(count, row[4], row[5], row[6], row[7], row[8], zero, depth, row[12], row[13]),
                *(row[14], row[15], columns, zero, columns, one, one, zero, zero),
            )
            rows = count * row[4] * row[5]
            whole = rows // ROWS
            left = rows - whole * ROWS
            short = one if left > 0 else zero
            if left > SHORT_ROWS:
                whole, short = whole + 1, zero
            multiply_range(
                product,
                (zero, whole + short),
                (zero, (columns + width - 1) // width),
                whole,
                taps[row[9] : row[9] + row[10]],
                source,
                constants[row[2] :],
                zero,
                row[10],
                bias,
                out,
                width,
                (one, low, high),
            )
            source = out


@kernel
def _chain(table, taps, constants, bounds, x, sizes, width, memory, y, n_tasks):
    parallel_for(
        _task, n_tasks, n_tasks, (n_tasks, table, taps, constants, bounds, x, sizes, width, memory, y)
    )


class Chain:
    """A network of convolutions, maximum pools and dense layers, one after another, for images of one size.

    Args:
        size: elements of one image, channels-last.
        dtype: float32 or float64.
    """

    def __init__(self, size: int, dtype: np.dtype[Any]) -> None:
        self._dtype = np.dtype(dtype)
        self._width = panel_width(self._dtype.itemsize)
        self._size_in = self._size = size
        self._largest = self._work = self._scratch = 0
        self._rows: list[list[int]] = []
        self._taps: list[tuple[int, int]] = []
        self._pieces: list[Array] = []
        self._length = 0
        self._bounds: list[tuple[float, float]] = []
        self._ready: tuple[Array, ...] = ()

    def convolution(
        self, weight: Array, bias: Array | None, g: Conv2dGeometry, activation: str | None
    ) -> None:
        """Add a convolution without groups, (K, C, R, S), and an activation: None, "relu" or "relu6"."""
        if gray_rows.suits(g, self._dtype.itemsize):
            weights = self._put(gray_rows.filters(np.ascontiguousarray(weight, self._dtype)))
            start = self._put(padded_bias(bias, 0, g.k, self._dtype))
            size = g.p * g.q * g.k
            row = [_GRAY, 0, weights, start, g.h, g.w, g.p, g.q, g.k, g.r, g.s, g.pad_top, g.pad_left, size]
            self._scratch = max(self._scratch, gray_rows.scratch_size(g, self._dtype.itemsize))
            self._work += size * g.r * g.s
            self._add(row, size, ACTIVATIONS[activation])
            return
        across = g.s if g.dilation_w == 1 and g.pad_left == g.pad_right == 0 else 1
        columns = [0] if across > 1 else [s * g.dilation_w - g.pad_left for s in range(g.s)]
        taps = [(r * g.dilation_h - g.pad_top, x) for r in range(g.r) for x in columns]
        grid, source = (g.p, g.q), (g.h, g.w, g.c)
        self._product(
            weight, bias, activation, grid, source, taps, across * g.c, (g.stride_h, g.stride_w), -1
        )

    def dense(self, weight: Array, bias: Array | None, activation: str | None) -> None:
        """Add a dense layer (out, in); its inputs come in the order they lie in memory."""
        outputs, depth = weight.shape
        by_rows = np.zeros((-(-outputs // 4) * 4, depth), self._dtype)
        by_rows[:outputs] = weight
        at = self._put(by_rows.reshape(-1))
        matrix = weight.reshape(outputs, depth, 1, 1)
        self._product(matrix, bias, activation, (1, 1), (1, 1, depth), [(0, 0)], depth, (1, 1), at)

    def max_pool(self, g: Pool2dGeometry) -> None:
        """Add a maximum pool."""
        if self._rows and self._rows[-1][:2] == [_GRAY, 0] and gray_rows.pools(g):
            self._size = g.p * g.q * g.c
            self._rows[-1][1], self._rows[-1][13] = 1, self._size
            return
        row = [_POOL, 0, 0, 0, g.h, g.w, g.c, g.p, g.q, g.r, g.s]
        row += [g.stride_h, g.stride_w, g.pad_top, g.pad_left, g.dilation_h, g.dilation_w]
        self._add(row, g.p * g.q * g.c, (0.0, 0.0))

    def run(self, x: Array, y: Array) -> None:
        """From ``x``, (images * size) elements, to ``y``, both C-contiguous and 1-D."""
        if not self._ready:
            self._finish()
        images = x.size // self._size_in
        if not x.flags.writeable:  # which would be another type to compile for
            x = x.copy()
        threads = max(1, min(get_num_threads(), images)) if images * self._work > _SMALL else 1
        half = -(-self._largest * min(_IMAGES, max(1, images)) // _LINE) * _LINE
        own = 2 * half + -(-self._scratch // _LINE) * _LINE
        memory = scratch("chain", threads * own, self._dtype)
        sizes = (images, self._size_in, half, self._size, own)
        _chain(*self._ready, x, sizes, self._width, memory, y, threads)

    def _product(
        self,
        weight: Array,
        bias: Array | None,
        activation: str | None,
        grid: tuple[int, int],
        source: tuple[int, int, int],
        taps: list[tuple[int, int]],
        depth: int,
        stride: tuple[int, int],
        by_rows: int,
    ) -> None:
        k, c, r, s = weight.shape
        flat = np.ascontiguousarray(weight, self._dtype).reshape(-1)
        places = places_by_tap(r * s, c, self._width)
        panels = self._put(pack("weights", flat, 0, (c * r * s, 0), k, 1, places, 0))
        start = self._put(padded_bias(bias, 0, k, self._dtype))
        row = [_PRODUCT, 0, panels, start, *grid, *source, len(self._taps), len(taps), depth, *stride]
        self._taps += taps
        self._work += grid[0] * grid[1] * weight.size
        self._add([*row, *grid, 0, 0, k, by_rows], grid[0] * grid[1] * k, ACTIVATIONS[activation])

    def _add(self, row: list[int], size: int, bounds: tuple[float, float]) -> None:
        self._rows.append(row + [0] * (_COLUMNS - len(row)))
        self._bounds.append(bounds)
        self._largest, self._size = max(self._largest, size), size

    def _put(self, piece: Array) -> int:
        """Where among the constants a copy of ``piece`` begins, on a cache line."""
        at = self._length
        padded = np.zeros(-(-piece.size // _LINE) * _LINE, self._dtype)
        padded[: piece.size] = piece
        self._pieces.append(padded)
        self._length += padded.size
        return at

    def _finish(self) -> None:
        constants = aligned_empty(self._length, self._dtype)
        np.concatenate(self._pieces, out=constants)
        taps = np.array(self._taps, np.int64).reshape(-1, 2)
        # The pieces stay: another thread may be about to do the same.
        self._ready = np.array(self._rows, np.int64), taps, constants, np.array(self._bounds)


def fits(weights: int, activations: int, itemsize: int) -> bool:
    """Whether a network is small: so many weights, so many elements in the largest output of an image."""
    return weights * itemsize <= 1 << 20 and math.ceil(activations * itemsize * _IMAGES) <= 1 << 20
