"""Matrix products: y = x @ weight.T + bias, with x (N, in), weight (out, in), bias (out,), and its gradients.

dx = dy @ weight        dweight = dy.T @ x        dbias = sum of dy over the batch
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.reference.memory import Array, check_float, check_rank, check_shape, quiet


@quiet
def matmul(a: Array, b: Array) -> Array:
    """``a @ b`` for matrices (M, K) and (K, N).

    Raises:
        ValueError: if they are not matrices that can be multiplied.
        TypeError: if they are not both float32 or both float64.
    """
    check_float("matmul", a, b)
    check_rank("matmul", "a", a, "(M, K)")
    check_rank("matmul", "b", b, "(K, N)")
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"matmul: cannot multiply shapes {a.shape} and {b.shape}")
    return np.matmul(a, b)


@quiet
def dense(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """``x @ weight.T + bias``: x (N, in), weight (out, in), bias (out,) give (N, out).

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if the arrays are not all float32 or all float64.
    """
    check_float("dense", x, weight, bias)
    check_rank("dense", "an input", x, "(N, in)")
    check_rank("dense", "a weight", weight, "(out, in)")
    if x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"dense: expected {weight.shape[1]} features, got {x.shape[1]} in an input of shape {x.shape}"
        )
    check_shape("dense", "a bias", bias, weight.shape[:1])
    y = x @ weight.T
    return y if bias is None else y + bias


@quiet
def dense_backward_input(dy: Array, weight: Array) -> Array:
    """The gradient dx (N, in) of ``dense`` from dy (N, out) and weight (out, in).

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if the arrays are not both float32 or both float64.
    """
    check_float("dense_backward_input", dy, weight)
    check_rank("dense_backward_input", "dy", dy, "(N, out)")
    check_rank("dense_backward_input", "a weight", weight, "(out, in)")
    check_shape("dense_backward_input", "dy", dy, (dy.shape[0], weight.shape[0]))
    return np.matmul(dy, weight)


@quiet
def dense_backward_weight(dy: Array, x: Array) -> Array:
    """The gradient dweight (out, in) of ``dense`` from dy (N, out) and x (N, in).

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if the arrays are not both float32 or both float64.
    """
    check_float("dense_backward_weight", dy, x)
    check_rank("dense_backward_weight", "dy", dy, "(N, out)")
    check_rank("dense_backward_weight", "an input", x, "(N, in)")
    check_shape("dense_backward_weight", "dy", dy, (x.shape[0], dy.shape[1]))
    return np.ascontiguousarray(dy.T @ x)


@quiet
def dense_backward_bias(dy: Array) -> Array:
    """The gradient dbias (out,) of ``dense``: dy (N, out) summed over the batch."""
    check_float("dense_backward_bias", dy)
    check_rank("dense_backward_bias", "dy", dy, "(N, out)")
    return dy.sum(axis=0)
