"""Losses of a difference d = x - target: absolute, and absolute with a rounded tip.

    l1        |d|
    smooth l1 d^2 / (2 beta) where |d| < beta, else |d| - beta / 2
    huber     d^2 / 2 where |d| < delta, else delta * (|d| - delta / 2): that is delta times smooth l1

All three are one kernel. Limit: memory bandwidth, two reads and a write an element.
"""

from __future__ import annotations

from nbconv_kernels.cuda.build import device_function
from nbconv_kernels.cuda.elementwise_loss import elementwise_loss, losses_of
from nbconv_kernels.cuda.loss_sums import check_reduction
from nbconv_kernels.cuda.memory import Array, check_float, check_same_shape
from nbconv_kernels.cuda.target import float32

__all__ = ["huber_loss", "l1_loss", "smooth_l1_loss"]


@device_function
def _rounded(x, target, weight, positive, beta, height):
    difference = x - target
    size = abs(difference)
    sign = float32(1) if difference > float32(0) else difference
    sign = float32(-1) if difference < float32(0) else sign
    if size < beta:  # then beta is not 0
        return height * (float32(0.5) * difference * difference / beta), height * (difference / beta)
    return height * (size - float32(0.5) * beta), height * sign


_ROUNDED = losses_of(_rounded)


def l1_loss(x: Array, target: Array, reduction: str = "mean") -> tuple[float | Array, Array]:
    """The absolute error |x - target| of arrays of one shape, and its gradient with respect to x (0 at 0).

    Returns:
        (loss, dx). "mean" and "sum" give a float, "none" an array and the gradient of its sum. The mean over
        nothing is NaN.

    Raises:
        TypeError: if the arrays are not both float32.
        ValueError: if the shapes differ or the reduction is unknown.
    """
    return _loss("l1_loss", x, target, reduction, 0.0, 1.0)


def smooth_l1_loss(
    x: Array, target: Array, reduction: str = "mean", beta: float = 1.0
) -> tuple[float | Array, Array]:
    """The absolute error, but quadratic where it is less than ``beta`` (Girshick 2015). Else as ``l1_loss``.

    Raises:
        ValueError: also if beta is negative.
    """
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    return _loss("smooth_l1_loss", x, target, reduction, beta, 1.0)


def huber_loss(
    x: Array, target: Array, reduction: str = "mean", delta: float = 1.0
) -> tuple[float | Array, Array]:
    """The squared error halved, but linear where it is ``delta`` or more (Huber 1964). Else as ``l1_loss``.

    Raises:
        ValueError: also if delta is not positive.
    """
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta}")
    return _loss("huber_loss", x, target, reduction, delta, delta)


def _loss(
    op: str, x: Array, target: Array, reduction: str, beta: float, height: float
) -> tuple[float | Array, Array]:
    """``height`` times smooth l1 with that ``beta``."""
    check_float(op, x, target)
    check_reduction(op, reduction)
    check_same_shape(op, x=x, target=target)
    return elementwise_loss(_ROUNDED, x, target, reduction, beta, height)
