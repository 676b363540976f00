"""Losses of a difference d = x - target: absolute, and absolute with a rounded tip.

    l1        |d|
    smooth l1 d^2 / (2 beta) where |d| < beta, else |d| - beta / 2
    huber     d^2 / 2 where |d| < delta, else delta * (|d| - delta / 2): that is delta times smooth l1

The squared error is ``mse_loss`` in ``loss``.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.reference.loss import check_reduction, reduced
from nbconv_kernels.reference.memory import Array, check_float, check_shape, quiet


def l1_loss(x: Array, target: Array, reduction: str = "mean") -> tuple[float | Array, Array]:
    """The absolute error |x - target| of arrays of one shape, and its gradient with respect to x (0 at 0).

    Returns:
        (loss, dx). "mean" and "sum" give a float, "none" an array and the gradient of its sum. The mean over
        nothing is NaN.

    Raises:
        ValueError: if the shapes differ or the reduction is unknown.
        TypeError: if the arrays are not both float32 or both float64.
    """
    return _rounded("l1_loss", x, target, reduction, 0.0, 1.0)


def smooth_l1_loss(
    x: Array, target: Array, reduction: str = "mean", beta: float = 1.0
) -> tuple[float | Array, Array]:
    """The absolute error, but quadratic where it is less than ``beta`` (Girshick 2015). Else as ``l1_loss``.

    Raises:
        ValueError: also if beta is negative.
    """
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    return _rounded("smooth_l1_loss", x, target, reduction, float(beta), 1.0)


def huber_loss(
    x: Array, target: Array, reduction: str = "mean", delta: float = 1.0
) -> tuple[float | Array, Array]:
    """The squared error halved, but linear where it is ``delta`` or more (Huber 1964). Else as ``l1_loss``.

    Raises:
        ValueError: also if delta is not positive.
    """
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta}")
    return _rounded("huber_loss", x, target, reduction, float(delta), float(delta))


@quiet
def _rounded(
    op: str, x: Array, target: Array, reduction: str, beta: float, scale: float
) -> tuple[float | Array, Array]:
    """``scale`` times smooth l1 with that ``beta``."""
    check_float(op, x, target)
    check_reduction(op, reduction)
    check_shape(op, "a target", target, x.shape)
    difference = x - target
    size = np.abs(difference)
    if beta > 0:
        losses = np.where(size < beta, difference * difference / (2 * beta), size - beta / 2)
        dx = np.where(size < beta, difference / beta, np.sign(difference))
    else:
        losses, dx = size, np.sign(difference)
    return reduced(losses * scale, dx * scale, reduction, x.size)
