"""Fully connected layers and the plain matrix product: convolutions of one tap over one-pixel images.

Limit: fused multiply-adds for a batch; for a batch of one, reading the weights.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.conv.implicit_gemm import Product, multiply
from nbconv_kernels.cpu.conv.packing import pack, panel_width, places_by_tap, places_in_order
from nbconv_kernels.cpu.conv.weight_gradient import Reduction, reduce
from nbconv_kernels.cpu.memory import Array, check_float, empty
from nbconv_kernels.cpu.reduction import sum_over_pixels

__all__ = ["dense", "dense_backward_bias", "dense_backward_input", "dense_backward_weight", "matmul"]

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
    if strides[0] == 1:
        places, runs = places_in_order((0,), depth, width), depth
    else:
        places, runs = places_by_tap(1, depth, width), 1
    panels = pack("weights", b.reshape(-1), 0, strides, columns, runs, places, width)
    product = Product(
        *(rows, 1, 1), *(1, 1, depth, 0, depth), *(1, 1), *(1, 1, columns, 0, columns), *(1, 1, 0, 0)
    )
    multiply(product, _ONE_TAP, a.reshape(rows, 1, 1, depth), panels, start, out.reshape(rows, 1, 1, columns))
    return out
