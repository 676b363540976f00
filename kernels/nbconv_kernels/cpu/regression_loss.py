"""Losses of a difference d = x - target: absolute, and absolute with a rounded tip.

    l1        |d|
    smooth l1 d^2 / (2 beta) where |d| < beta, else |d| - beta / 2
    huber     d^2 / 2 where |d| < delta, else delta * (|d| - delta / 2): that is delta times smooth l1

All three are one kernel. Limit: memory bandwidth, two reads and a write an element.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.elementwise_loss import BLOCK, check_reduction, elementwise_loss, sum_of
from nbconv_kernels.cpu.jit import kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.tasks import check_same_shape, row_of, share

__all__ = ["huber_loss", "l1_loss", "smooth_l1_loss"]


@kernel
def _rounded_task(task, n_tasks, x, target, beta, height, scale, losses, dx, sums):
    first, last = share(x.size, task, n_tasks)
    each = losses.size > 0
    scratch = np.empty(BLOCK, x.dtype)
    zero, one, half = x.dtype.type(0), x.dtype.type(1), x.dtype.type(0.5)
    per_beta = one / beta if beta > zero else zero
    slope = height * scale
    for start in range(first, last, BLOCK):
        stop = min(last, start + BLOCK)
        values, wanted, gradient = x[start:stop], target[start:stop], dx[start:stop]
        block = losses[start:stop] if each else scratch[: stop - start]
        for i in range(values.size):
            difference = values[i] - wanted[i]
            size = abs(difference)
            sign = one if difference > zero else (-one if difference < zero else difference)
            near = size < beta
            loss = half * difference * difference * per_beta if near else size - half * beta
            block[i] = height * loss
            gradient[i] = slope * (difference * per_beta if near else sign)
        if not each:
            sums[task] += sum_of(block)


@kernel
def _rounded(n_tasks, x, target, beta, height, scale, losses, dx, sums, n_threads):
    arguments = (n_tasks, x, target, beta, height, scale, losses, dx, sums)
    parallel_for(_rounded_task, n_tasks, n_threads, arguments)


def l1_loss(x: Array, target: Array, reduction: str = "mean") -> tuple[float | Array, Array]:
    """The absolute error |x - target| of arrays of one shape, and its gradient with respect to x (0 at 0).

    Returns:
        (loss, dx). "mean" and "sum" give a float, "none" an array and the gradient of its sum. The mean over
        nothing is NaN.

    Raises:
        TypeError: if the arrays are not both float32 or both float64.
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
    dtype = check_float(op, x, target)
    check_reduction(op, reduction)
    check_same_shape(op, x=x, target=target)
    settings = (dtype.type(beta), dtype.type(height))
    return elementwise_loss(_rounded, x, row_of(target), *settings, reduction=reduction)
