"""Group normalisation (Wu and He 2018): each image's channels are normalised in groups of consecutive ones.

    y = (x - mean) / sqrt(var + eps) * weight + bias        mean, var: of one group of one image

One group is layer normalisation of (C, H, W), as many groups as channels are instance normalisation. With
x^ = (x - mean) / sqrt(var + eps) and g = dy * weight:

    dx = (g - mean of g - x^ * mean of g * x^) / sqrt(var + eps)        the means over the group
    dweight = sum of dy * x^        dbias = sum of dy                    over images and positions
"""

from __future__ import annotations

import operator

import numpy as np

from nbconv_kernels.reference.memory import Array, check_float, check_rank, check_shape, laid_out, quiet


@quiet
def group_norm(
    x: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Array:
    """Normalise each group of channels of each image of x (N, C, H, W); scale and shift by channel (C,).

    Returns:
        y of x's shape, channels-last.

    Raises:
        ValueError: if the shapes do not fit or the channels are no multiple of ``num_groups``.
        TypeError: if the arrays are not all float32 or all float64.
    """
    check_float("group_norm", x, weight, bias)
    _check("group_norm", x, num_groups, weight=weight, bias=bias)
    normalised, _ = _normalised(x, num_groups, eps)
    y = normalised.reshape(x.shape)
    if weight is not None:
        y = y * weight[:, None, None]
    if bias is not None:
        y = y + bias[:, None, None]
    return laid_out(y)


@quiet
def group_norm_backward(
    dy: Array, x: Array, num_groups: int, weight: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """The gradients of ``group_norm``.

    Returns:
        (dx of x's shape, channels-last; dweight (C,); dbias (C,)).

    Raises:
        ValueError: if the shapes do not fit or the channels are no multiple of ``num_groups``.
        TypeError: if the arrays are not all float32 or all float64.
    """
    check_float("group_norm_backward", dy, x, weight)
    _check("group_norm_backward", x, num_groups, weight=weight)
    check_shape("group_norm_backward", "dy", dy, x.shape)
    normalised, scale = _normalised(x, num_groups, eps)
    dweight = (dy * normalised.reshape(x.shape)).sum(axis=(0, 2, 3))
    g = (dy if weight is None else dy * weight[:, None, None]).reshape(normalised.shape)
    centred = g - _mean(g) - normalised * _mean(g * normalised)
    return laid_out((centred * scale).reshape(x.shape)), dweight, dy.sum(axis=(0, 2, 3))


def _normalised(x: Array, num_groups: int, eps: float) -> tuple[Array, Array]:
    """x^ as (N, groups, C / groups, H, W), and 1 / sqrt(var + eps); statistics accumulate in float64."""
    n, c, h, w = x.shape
    grouped = x.reshape(n, num_groups, c // num_groups, h, w)
    deviation = grouped - grouped.mean(axis=(2, 3, 4), keepdims=True, dtype=np.float64)
    scale = 1 / np.sqrt((deviation * deviation).mean(axis=(2, 3, 4), keepdims=True) + eps)
    return (deviation * scale).astype(x.dtype), scale.astype(x.dtype)


def _mean(x: Array) -> Array:
    return x.mean(axis=(2, 3, 4), keepdims=True)


def _check(op: str, x: Array, num_groups: int, **vectors: Array | None) -> None:
    check_rank(op, "an input", x, "(N, C, H, W)")
    channels = x.shape[1]
    if operator.index(num_groups) < 1 or channels % num_groups or 0 in x.shape[1:]:
        raise ValueError(f"{op}: cannot part an input of shape {x.shape} into num_groups={num_groups}")
    for name, vector in vectors.items():
        check_shape(op, name, vector, (channels,))
