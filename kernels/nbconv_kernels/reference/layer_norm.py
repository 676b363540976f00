"""Layer normalisation (Ba, Kiros and Hinton 2016): the trailing axes of each sample are normalised together.

    y = (x - mean) / sqrt(var + eps) * weight + bias        weight, bias: of the shape that is normalised

With x^ = (x - mean) / sqrt(var + eps) and g = dy * weight:

    dx = (g - mean of g - x^ * mean of g * x^) / sqrt(var + eps)        the means over the trailing axes
    dweight = sum of dy * x^        dbias = sum of dy                    over the other axes
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.reference.memory import Array, check_float, check_shape, laid_out, quiet


@quiet
def layer_norm(
    x: Array,
    normalized_shape: tuple[int, ...],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalise x over its last axes, which are ``normalized_shape``; scale and shift by element of these.

    Four axes are (N, C, H, W) in this order, as everywhere: a shape (C, H, W) normalises each image.

    Returns:
        y of x's shape; channels-last if it has four axes, else C-contiguous.

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if the arrays are not all float32 or all float64.
    """
    check_float("layer_norm", x, weight, bias)
    axes = _check("layer_norm", x, normalized_shape, weight=weight, bias=bias)
    y, _ = _normalised(x, axes, eps)
    if weight is not None:
        y = y * weight
    if bias is not None:
        y = y + bias
    return laid_out(y)


@quiet
def layer_norm_backward(
    dy: Array, x: Array, normalized_shape: tuple[int, ...], weight: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """The gradients of ``layer_norm``.

    Returns:
        (dx of x's shape, dweight and dbias of ``normalized_shape``, C-contiguous).

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if the arrays are not all float32 or all float64.
    """
    check_float("layer_norm_backward", dy, x, weight)
    axes = _check("layer_norm_backward", x, normalized_shape, weight=weight)
    check_shape("layer_norm_backward", "dy", dy, x.shape)
    normalised, scale = _normalised(x, axes, eps)
    g = dy if weight is None else dy * weight
    mean, weighted = (v.mean(axis=axes, keepdims=True) for v in (g, g * normalised))
    others = tuple(range(x.ndim - len(axes)))
    dweight, dbias = (np.asarray(v.sum(axis=others), order="C") for v in (dy * normalised, dy))
    return laid_out((g - mean - normalised * weighted) * scale), dweight, dbias


def _normalised(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """x^ and 1 / sqrt(var + eps); statistics accumulate in float64."""
    deviation = x - x.mean(axis=axes, keepdims=True, dtype=np.float64)
    scale = 1 / np.sqrt((deviation * deviation).mean(axis=axes, keepdims=True) + eps)
    return (deviation * scale).astype(x.dtype), scale.astype(x.dtype)


def _check(
    op: str, x: Array, normalized_shape: tuple[int, ...], **parameters: Array | None
) -> tuple[int, ...]:
    """The axes to normalise."""
    shape = tuple(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape or 0 in shape:
        raise ValueError(f"{op}: expected an input of shape (*, {', '.join(map(str, shape))}), got {x.shape}")
    for name, parameter in parameters.items():
        check_shape(op, name, parameter, shape)
    return tuple(range(-len(shape), 0))
