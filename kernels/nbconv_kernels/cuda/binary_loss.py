"""Losses of two classes.

Binary cross entropy of a logit x against a probability t, with weights w and, of the positive class, v:

    loss = w * ((1 - t) * x + u * log(1 + exp(-x)))        u = 1 + (v - 1) * t
    dx = w * ((1 - t) - u / (1 + exp(x)))

where log(1 + exp(-x)) = max(-x, 0) + log1p(e) and 1 / (1 + exp(x)) = (e if x >= 0 else 1) / (1 + e) with
e = exp(-|x|), which cannot overflow. Hinge loss of a score x against a sign t: max(0, 1 - t * x).

Limit: memory bandwidth, beside which the exponential, the logarithm and the division nearly fit.
"""

from __future__ import annotations

import math

import numpy as np

from nbconv_kernels.cuda.build import device_function
from nbconv_kernels.cuda.elementwise_loss import elementwise_loss, losses_of
from nbconv_kernels.cuda.loss_sums import check_reduction
from nbconv_kernels.cuda.memory import (
    Array,
    check_float,
    check_same_shape,
    is_array,
    is_deferred,
    namespace,
    to_host,
)
from nbconv_kernels.cuda.target import float32

__all__ = ["binary_cross_entropy_with_logits", "hinge_loss"]


@device_function
def _logits(x, target, weight, positive, a, b):
    zero, one = float32(0), float32(1)
    e = math.exp(-abs(x))
    soft = (zero if x > zero else -x) + math.log1p(e)
    inverse, u = one - target, one + (positive - one) * target
    chance = (e if x >= zero else one) / (one + e)
    return weight * (inverse * x + u * soft), weight * (inverse - u * chance)


@device_function
def _hinge(x, sign, weight, positive, a, b):
    shortfall = float32(1) - sign * x
    if shortfall <= float32(0):
        return float32(0), float32(0)
    return shortfall, -sign


_LOGITS, _HINGE = losses_of(_logits), losses_of(_hinge)


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
        TypeError: if the arrays are not all float32.
        ValueError: if the shapes do not fit or the reduction is unknown.
    """
    op = "binary_cross_entropy_with_logits"
    check_float(op, x, target, weight, pos_weight)
    check_reduction(op, reduction)
    check_same_shape(op, x=x, target=target)
    weights = None
    if weight is not None or pos_weight is not None:
        weights = _spread(op, weight, x), _spread(op, pos_weight, x)
    return elementwise_loss(_LOGITS, x, target, reduction, weights=weights)


def _spread(op: str, weight: Array | None, x: Array) -> Array:
    """``weight`` in x's shape; ones without it."""
    if weight is None:
        return namespace(x).ones_like(x)
    try:
        return namespace(x).broadcast_to(weight, x.shape)
    except ValueError:
        raise ValueError(f"{op}: a weight of shape {weight.shape} does not broadcast to {x.shape}") from None


def hinge_loss(x: Array, target: Array, reduction: str = "mean") -> tuple[float | Array, Array]:
    """``max(0, 1 - target * x)`` for scores x and targets -1 or 1 of x's shape, integers or floats.

    Returns:
        (loss, dx), dx being 0 where the margin is met. Reductions as above.

    Raises:
        TypeError: if x is not float32.
        ValueError: if the shapes differ, the reduction is unknown, or a target is neither -1 nor 1.
    """
    check_float("hinge_loss", x)
    check_reduction("hinge_loss", reduction)
    sign = target if is_array(target) else namespace(x).asarray(target)
    check_same_shape("hinge_loss", x=x, target=sign)
    wrong = (sign != 1) & (sign != -1)
    if not is_deferred() and wrong.any():
        place = tuple(int(i) for i in np.argwhere(to_host(wrong))[0])
        raise ValueError(f"hinge_loss: targets are -1 or 1, got {sign[place]} at target{list(place)}")
    return elementwise_loss(_HINGE, x, sign.astype(np.float32), reduction)
