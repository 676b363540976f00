"""Fully connected layers and the plain matrix product: convolutions of one tap over one-pixel images.

    y = x @ weight.T + bias        dx = dy @ weight        dweight = dy.T @ x

The products are those of ``conv.implicit_gemm`` and ``conv.weight_gradient``, with their tiles; factors are
read where they lie if their rows come in fours. Large ones take tensor cores (``conv.tensor_gemm``) where the
precision allows it. A batch of a few has few tiles, so that its terms are split among the processors.

Limit: multiply-adds for a large batch, reading the weights for a small one.
"""

from __future__ import annotations

from nbconv_kernels.cuda.column_sums import column_sums
from nbconv_kernels.cuda.conv import (
    implicit_gemm,
    tensor,
    tensor_gemm,
    tensor_weight_gradient,
    weight_gradient,
)
from nbconv_kernels.cuda.conv.finish import Target
from nbconv_kernels.cuda.conv.formats import chunks, staged
from nbconv_kernels.cuda.conv.implicit_gemm import Gather
from nbconv_kernels.cuda.conv.packing import fours, padded
from nbconv_kernels.cuda.memory import Array, check_float, empty, whole
from nbconv_kernels.geometry import conv2d_geometry

__all__ = ["dense", "dense_backward_bias", "dense_backward_input", "dense_backward_weight", "matmul"]

_MANY = 64  # rows from which on rounding the weights apart is little beside the product


def matmul(a: Array, b: Array) -> Array:
    """The matrix product (M, K) @ (K, N) -> (M, N).

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: for arrays that are not 2-D or do not fit.
    """
    check_float("matmul", a, b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"matmul: expected shapes (M, K) and (K, N), got {a.shape} and {b.shape}")
    return _multiply(a, b, None, transposed=False)


def dense(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """``x @ weight.T + bias``: (N, in), (out, in), (out,) -> (N, out).

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: for shapes that do not go together.
    """
    check_float("dense", x, weight, bias)
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[1]:
        raise ValueError(f"dense: expected shapes (N, in) and (out, in), got {x.shape} and {weight.shape}")
    if bias is not None and bias.shape != (len(weight),):
        raise ValueError(f"dense: expected a bias of shape ({len(weight)},), got {bias.shape}")
    return _multiply(x, weight, bias, transposed=True)


def dense_backward_input(dy: Array, weight: Array) -> Array:
    """``dy @ weight``: (N, out), (out, in) -> (N, in).

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: for shapes that do not go together.
    """
    check_float("dense_backward_input", dy, weight)
    if dy.ndim != 2 or weight.ndim != 2 or dy.shape[1] != weight.shape[0]:
        raise ValueError(
            f"dense_backward_input: expected shapes (N, out) and (out, in), got {dy.shape} and {weight.shape}"
        )
    return _multiply(dy, weight, None, transposed=False)


def dense_backward_weight(dy: Array, x: Array) -> Array:
    """``dy.T @ x``: (N, out), (N, in) -> (out, in).

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: for shapes that do not go together.
    """
    check_float("dense_backward_weight", dy, x)
    if dy.ndim != 2 or x.ndim != 2 or len(dy) != len(x):
        raise ValueError(
            f"dense_backward_weight: expected shapes (N, out) and (N, in), got {dy.shape} and {x.shape}"
        )
    (n, out), width = dy.shape, x.shape[1]
    if out * width == 0:
        return empty(x, (out, width))
    # The convolution's filters are neighbours in the sums, as the weights of one output are in the gradient.
    g = conv2d_geometry((n, out, 1, 1), (width, out, 1, 1))
    form = tensor.allowed(x)
    if form is not None and n >= _MANY and tensor.worthwhile(out, width, n):
        rows, columns = staged(whole(dy), form, n, out), staged(whole(x), form, n, width)
        partial = tensor_weight_gradient.partial_sums(rows, columns, g, form)
    else:
        partial = weight_gradient.partial_sums(padded(whole(dy), out), padded(whole(x), width), g)
    if partial.size == out * width:
        return partial.reshape(out, width)
    gradient = empty(x, (out, width))
    weight_gradient.collect(partial, gradient, (1, width), g)
    return gradient


def dense_backward_bias(dy: Array) -> Array:
    """Gradient of the bias, (out,): the sum of ``dy`` (N, out) over the batch.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: for an array that is not 2-D.
    """
    check_float("dense_backward_bias", dy)
    if dy.ndim != 2:
        raise ValueError(f"dense_backward_bias: expected dy of shape (N, out), got {dy.shape}")
    return column_sums(whole(dy), dy.shape[1])


def _multiply(a: Array, b: Array, bias: Array | None, transposed: bool) -> Array:
    """``a`` (M, K) times ``b`` (K, N), or the transpose of (N, K), plus the bias (N,)."""
    rows, terms = a.shape
    columns = b.shape[0] if transposed else b.shape[1]
    y = empty(a, (rows, columns))
    if terms == 0:
        y[...] = 0 if bias is None else bias
    if y.size == 0 or terms == 0:
        return y
    form = tensor.allowed(a)
    if form is not None and rows >= _MANY and tensor.worthwhile(rows, columns, terms):
        depth = chunks(terms, form)
        gather = Gather(rows, 1, 1, depth, depth, *(1,) * 8, columns, depth, depth, 0)
        turned = None if transposed else (1, columns, 0)
        filters = staged(b, form, columns, terms, turned)
        tensor_gemm.launch(staged(a, form, rows, terms), filters, bias, Target(y, columns), gather, form)
        return y
    depth, pitch = fours(terms), fours(b.shape[1])
    gather = Gather(rows, 1, 1, depth, depth, *(1,) * 8, columns, terms, pitch, 0)
    a, b = padded(whole(a), terms), padded(whole(b), b.shape[1])
    implicit_gemm.launch(a, b, bias, Target(y, columns), gather, transposed=transposed)
    return y
