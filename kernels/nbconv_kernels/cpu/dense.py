"""Fully connected layers and the plain matrix product: convolutions of one tap over one-pixel images.

Of two factors, the one that is less work to rearrange goes into panels; for a batch of one or two, neither
does (``matvec``). The weight gradient is the product of dy's transpose and x; only where the batch is much
larger than the layer is it summed in parts, as over pixels (``weight_gradient``).

Limit: fused multiply-adds for a batch; for a batch of one, reading the weights.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.conv.implicit_gemm import Product, multiply, multiply_range, tiles
from nbconv_kernels.cpu.conv.packing import pack, pack_range, panel_width, places_by_tap, places_in_order
from nbconv_kernels.cpu.conv.reduction_tables import Reduction
from nbconv_kernels.cpu.conv.weight_gradient import reduce
from nbconv_kernels.cpu.epilogue import PLAIN
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.layout import transposed
from nbconv_kernels.cpu.matvec import VECTORS_AT_ONCE, matvec
from nbconv_kernels.cpu.memory import Array, check_float, empty, scratch
from nbconv_kernels.cpu.microkernel import VECTORS
from nbconv_kernels.cpu.movement import copy_vectors
from nbconv_kernels.cpu.reduction import sum_over_pixels

__all__ = ["dense", "dense_backward_bias", "dense_backward_input", "dense_backward_weight", "matmul"]

_SMALL = 1 << 15  # multiply-adds below which a parallel region costs more than it saves
_TALL = 4  # from this many rows a column on, reading the rows in every task costs more than packing apart
_DEEP = 2  # a batch of more than so many times a layer's width is summed in parts
_ONE_TAP = np.zeros((1, 2), np.int64)


def matmul(a: Array, b: Array) -> Array:
    """The matrix product (M, K) @ (K, N) -> (M, N).

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for arrays that are not 2-D or do not fit.
    """
    check_float("matmul", a, b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"matmul: expected shapes (M, K) and (K, N), got {a.shape} and {b.shape}")
    return _multiply(a, b, (1, b.shape[1]), b.shape[1], None)


def dense(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """``x @ weight.T + bias``: (N, in), (out, in), (out,) -> (N, out).

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes that do not go together.
    """
    check_float("dense", x, weight, bias)
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[1]:
        raise ValueError(f"dense: expected shapes (N, in) and (out, in), got {x.shape} and {weight.shape}")
    if bias is not None and bias.shape != (len(weight),):
        raise ValueError(f"dense: expected a bias of shape ({len(weight)},), got {bias.shape}")
    if len(x) <= VECTORS_AT_ONCE:
        return matvec(np.ascontiguousarray(x), np.ascontiguousarray(weight), bias)
    if len(x) * sum(weight.shape) < weight.size:
        # Fewer rows of x than of the weights to rearrange: the weights are read in place, as the left factor.
        return _turned(_multiply(weight, x, (x.shape[1], 1), len(x), None), bias)
    return _multiply(x, weight, (weight.shape[1], 1), len(weight), bias)


def dense_backward_input(dy: Array, weight: Array) -> Array:
    """``dy @ weight``: (N, out), (out, in) -> (N, in).

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes that do not go together.
    """
    check_float("dense_backward_input", dy, weight)
    if dy.ndim != 2 or weight.ndim != 2 or dy.shape[1] != weight.shape[0]:
        raise ValueError(
            f"dense_backward_input: expected shapes (N, out) and (out, in), got {dy.shape} and {weight.shape}"
        )
    return _multiply(dy, weight, (1, weight.shape[1]), weight.shape[1], None)


def dense_backward_weight(dy: Array, x: Array) -> Array:
    """``dy.T @ x``: (N, out), (N, in) -> (out, in).

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for shapes that do not go together.
    """
    check_float("dense_backward_weight", dy, x)
    if dy.ndim != 2 or x.ndim != 2 or len(dy) != len(x):
        raise ValueError(
            f"dense_backward_weight: expected shapes (N, out) and (N, in), got {dy.shape} and {x.shape}"
        )
    (n, k), c = dy.shape, x.shape[1]
    if n <= _DEEP * max(k, c):
        return _multiply(transposed(np.ascontiguousarray(dy)), x, (1, c), c, None)
    gradient = np.empty((k, c), x.dtype)
    reduction = Reduction(*(n, 1, 1, k, 0, k), *(1, 1, c, 0), *(1, 1, c))
    rows, columns = np.ascontiguousarray(dy).reshape(-1), np.ascontiguousarray(x).reshape(-1)
    reduce(reduction, _ONE_TAP, rows, columns, 1, gradient.reshape(-1))
    return gradient


def dense_backward_bias(dy: Array) -> Array:
    """Gradient of the bias, (out,): the sum of ``dy`` (N, out) over the batch.

    Raises:
        TypeError: for dtypes other than float32 or float64.
        ValueError: for an array that is not 2-D.
    """
    check_float("dense_backward_bias", dy)
    if dy.ndim != 2:
        raise ValueError(f"dense_backward_bias: expected dy of shape (N, out), got {dy.shape}")
    return sum_over_pixels(np.ascontiguousarray(dy))


def _turned(product: Array, bias: Array | None) -> Array:
    """The transpose of (out, N), plus the bias, in C order."""
    y = empty(product.shape[::-1], product.dtype)
    np.copyto(y, product.T) if bias is None else np.add(product.T, bias, out=y)
    return y


def _multiply(a: Array, b: Array, strides: tuple[int, int], columns: int, bias: Array | None) -> Array:
    """(M, K) times the matrix whose element (k, column) is ``b[column * strides[0] + k * strides[1]]``."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    rows, depth = a.shape
    out = empty((rows, columns), a.dtype)
    width = panel_width(a.itemsize)
    start = np.zeros(-(-columns // width) * width, a.dtype)
    if bias is not None:
        start[:columns] = bias
    if depth == 0:  # an empty sum, which the micro-kernel does not know
        out[:] = start[:columns]
        return out
    by_rows = strides[0] == 1
    places = places_in_order((0,), depth, width) if by_rows else places_by_tap(1, depth, width)
    source, target, b = a.reshape(-1), out.reshape(-1), b.reshape(-1)
    product = Product(
        *(rows, 1, 1), *(1, 1, depth, 0, depth), *(1, 1), *(1, 1, columns, 0, columns), *(1, 1, 0, 0)
    )
    threads = get_num_threads() if rows * depth * columns > _SMALL else 1
    if threads > 1 and (start.size < threads * width or rows > _TALL * columns):
        panels = pack("weights", b, 0, strides, columns, depth if by_rows else 1, places, width)
        multiply(product, _ONE_TAP, source, panels, start, target)
    else:
        panels = scratch("weights", start.size * depth, a.dtype)
        covers = tiles(rows)
        _multiply_panels(
            *(tuple(product), covers, _ONE_TAP, source, b, strides, places, by_rows),
            *(panels, start, target, width, PLAIN, threads),
        )
    return out


@kernel
def _pack_rows(first, last, b, depth, columns, width, panels):
    """Pack panels ``first`` to ``last`` of the row-major ``b`` row by row, as it lies in memory."""
    lanes = width // VECTORS
    for k in range(depth):
        for panel in range(first, last):
            for vector in range(VECTORS):
                column = panel * width + vector * lanes
                to = (panel * depth + k) * width + vector * lanes
                if column + lanes <= columns:
                    copy_vectors(b, k * columns + column, panels, to, lanes)
                else:
                    for lane in range(lanes):
                        panels[to + lane] = b[k * columns + column + lane] if column + lane < columns else 0


@kernel
def _panels_task(
    task,
    n_tasks,
    product,
    covers,
    taps,
    source,
    b,
    strides,
    places,
    by_rows,
    panels,
    start,
    target,
    width,
    finish,
):
    depth, columns = product[7], product[14]
    n_panels = (columns + width - 1) // width
    first, last = n_panels * task // n_tasks, n_panels * (task + 1) // n_tasks
    if by_rows:
        _pack_rows(first, last, b, depth, columns, width, panels)
    else:
        pack_range(first * VECTORS, last * VECTORS, b, 0, strides, columns, 1, places, width, width, panels)
    n_tiles = covers[0] + covers[1]
    multiply_range(
        product,
        (0, n_tiles),
        (first, last),
        covers[0],
        taps,
        source,
        panels,
        0,
        1,
        start,
        target,
        width,
        finish,
    )


@kernel
def _multiply_panels(
    product, covers, taps, source, b, strides, places, by_rows, panels, start, target, width, finish, n_tasks
):
    """Every task packs its own panels and multiplies all rows by them, while they lie in its core's cache."""
    parallel_for(
        _panels_task,
        n_tasks,
        n_tasks,
        (
            n_tasks,
            product,
            covers,
            taps,
            source,
            b,
            strides,
            places,
            by_rows,
            panels,
            start,
            target,
            width,
            finish,
        ),
    )
