"""Losses of two classes.

Binary cross entropy of a logit x against a probability t, with weights w and, of the positive class, v:

    loss = -w * (v * t * log p + (1 - t) * log(1 - p))        p = sigmoid(x)
         = w * ((1 - t) * x + u * log(1 + exp(-x)))           u = 1 + (v - 1) * t
    dx = w * ((1 - t) - u * (1 - p))

Hinge loss of a score x against a sign t: max(0, 1 - t * x), zero from a margin of 1 on.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.reference.loss import check_reduction, reduced
from nbconv_kernels.reference.memory import Array, check_float, check_shape, quiet


@quiet
def binary_cross_entropy_with_logits(
    x: Array,
    target: Array,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: str = "mean",
) -> tuple[float | Array, Array]:
    """Cross entropy of sigmoid(x) against the probabilities ``target``, of one shape, as PyTorch defines it.

    ``weight`` and ``pos_weight`` are of a shape that broadcasts to that of x: (C, 1, 1) is one number for
    each channel of (N, C, H, W).

    Returns:
        (loss, dx). "mean" and "sum" give a float, "none" an array and the gradient of its sum. The mean is
        over all elements, whatever their weights, and NaN over none.

    Raises:
        ValueError: if the shapes do not fit or the reduction is unknown.
        TypeError: if the arrays are not all float32 or all float64.
    """
    op = "binary_cross_entropy_with_logits"
    check_float(op, x, target, weight, pos_weight)
    check_reduction(op, reduction)
    check_shape(op, "a target", target, x.shape)
    weight, pos_weight = (_spread(op, w, x) for w in (weight, pos_weight))
    inverse, u = 1 - target, 1 + (pos_weight - 1) * target
    # log(1 + exp(-x)), such that the exponential cannot overflow.
    softplus = np.maximum(-x, 0) + np.log1p(np.exp(-np.abs(x)))
    losses = weight * (inverse * x + u * softplus)
    dx = weight * (inverse - u / (1 + np.exp(x)))
    return reduced(losses, dx, reduction, x.size)


@quiet
def hinge_loss(x: Array, target: Array, reduction: str = "mean") -> tuple[float | Array, Array]:
    """``max(0, 1 - target * x)`` for scores x and targets -1 or 1 of x's shape, integers or floats.

    Returns:
        (loss, dx), dx being 0 where the margin is met. Reductions as above.

    Raises:
        ValueError: if the shapes differ, the reduction is unknown, or a target is neither -1 nor 1.
        TypeError: if x is neither float32 nor float64.
    """
    dtype = check_float("hinge_loss", x)
    check_reduction("hinge_loss", reduction)
    sign = np.asarray(target)
    check_shape("hinge_loss", "a target", sign, x.shape)
    wrong = np.abs(sign.astype(np.float64)) != 1
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"hinge_loss: targets are -1 or 1, got {sign[place]} at target{list(place)}")
    sign = sign.astype(dtype)
    shortfall = 1 - sign * x
    losses = np.where(shortfall <= 0, 0, shortfall)
    return reduced(losses, np.where(shortfall <= 0, 0, -sign), reduction, x.size)


def _spread(op: str, weight: Array | None, x: Array) -> Array:
    """``weight`` in x's shape, ones without it."""
    if weight is None:
        return np.ones_like(x)
    try:
        return np.broadcast_to(weight, x.shape)
    except ValueError:
        raise ValueError(f"{op}: a weight of shape {weight.shape} does not broadcast to {x.shape}") from None
