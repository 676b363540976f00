"""Losses of two classes.

Binary cross entropy of a logit x against a probability t, with weights w and, of the positive class, v:

    loss = w * ((1 - t) * x + u * log(1 + exp(-x)))        u = 1 + (v - 1) * t
    dx = w * ((1 - t) - u / (1 + exp(x)))

where log(1 + exp(-x)) = max(-x, 0) + log1p(e) and 1 / (1 + exp(x)) = (e if x >= 0 else 1) / (1 + e) with
e = exp(-|x|), which cannot overflow. Hinge loss of a score x against a sign t: max(0, 1 - t * x).

Limit: an exponential and a logarithm, about 40 vector multiply-adds an element; for the hinge, memory
bandwidth.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu import vecmath
from nbconv_kernels.cpu.elementwise_loss import BLOCK, check_reduction, elementwise_loss, sum_of
from nbconv_kernels.cpu.jit import kernel, parallel_for
from nbconv_kernels.cpu.logarithm import log1p
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.tasks import check_same_shape, row_of, share

__all__ = ["binary_cross_entropy_with_logits", "hinge_loss"]


@kernel
def _logits_task(task, n_tasks, x, target, weight, positive, scale, losses, dx, sums):
    """Without weights, these are empty."""
    first, last = share(x.size, task, n_tasks)
    each, weighted = losses.size > 0, weight.size > 0
    scratch = np.empty(BLOCK, x.dtype)
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for start in range(first, last, BLOCK):
        stop = min(last, start + BLOCK)
        values, wanted, gradient = x[start:stop], target[start:stop], dx[start:stop]
        block = losses[start:stop] if each else scratch[: stop - start]
        for i in range(values.size):
            e = vecmath.exp(-abs(values[i]))
            block[i] = (zero if values[i] > zero else -values[i]) + log1p(e)
            gradient[i] = (e if values[i] >= zero else one) / (one + e)
        if weighted:
            factor, ratio = weight[start:stop], positive[start:stop]
            for i in range(values.size):
                inverse, u = one - wanted[i], one + (ratio[i] - one) * wanted[i]
                block[i] = factor[i] * (inverse * values[i] + u * block[i])
                gradient[i] = scale * factor[i] * (inverse - u * gradient[i])
        else:
            for i in range(values.size):
                inverse = one - wanted[i]
                block[i] = inverse * values[i] + block[i]
                gradient[i] = scale * (inverse - gradient[i])
        if not each:
            sums[task] += sum_of(block)


@kernel
def _logits(n_tasks, x, target, weight, positive, scale, losses, dx, sums, n_threads):
    arguments = (n_tasks, x, target, weight, positive, scale, losses, dx, sums)
    parallel_for(_logits_task, n_tasks, n_threads, arguments)


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
        TypeError: if the arrays are not all float32 or all float64.
        ValueError: if the shapes do not fit or the reduction is unknown.
    """
    op = "binary_cross_entropy_with_logits"
    dtype = check_float(op, x, target, weight, pos_weight)
    check_reduction(op, reduction)
    check_same_shape(op, x=x, target=target)
    if weight is None and pos_weight is None:
        weights = (np.empty(0, dtype), np.empty(0, dtype))
    else:
        weights = _spread(op, weight, x), _spread(op, pos_weight, x)
    return elementwise_loss(_logits, x, row_of(target), *weights, reduction=reduction)


def _spread(op: str, weight: Array | None, x: Array) -> Array:
    """``weight`` for each element of x, in memory order; ones without it."""
    if weight is None:
        return np.ones(x.size, x.dtype)
    try:
        return row_of(np.broadcast_to(weight, x.shape))
    except ValueError:
        raise ValueError(f"{op}: a weight of shape {weight.shape} does not broadcast to {x.shape}") from None


@kernel
def _hinge_task(task, n_tasks, x, sign, scale, losses, dx, sums):
    first, last = share(x.size, task, n_tasks)
    each = losses.size > 0
    scratch = np.empty(BLOCK, x.dtype)
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for start in range(first, last, BLOCK):
        stop = min(last, start + BLOCK)
        values, wanted, gradient = x[start:stop], sign[start:stop], dx[start:stop]
        block = losses[start:stop] if each else scratch[: stop - start]
        for i in range(values.size):
            shortfall = one - wanted[i] * values[i]
            block[i] = zero if shortfall <= zero else shortfall
            gradient[i] = zero if shortfall <= zero else -wanted[i] * scale
        if not each:
            sums[task] += sum_of(block)


@kernel
def _hinge(n_tasks, x, sign, scale, losses, dx, sums, n_threads):
    parallel_for(_hinge_task, n_tasks, n_threads, (n_tasks, x, sign, scale, losses, dx, sums))


def hinge_loss(x: Array, target: Array, reduction: str = "mean") -> tuple[float | Array, Array]:
    """``max(0, 1 - target * x)`` for scores x and targets -1 or 1 of x's shape, integers or floats.

    Returns:
        (loss, dx), dx being 0 where the margin is met. Reductions as above.

    Raises:
        TypeError: if x is neither float32 nor float64.
        ValueError: if the shapes differ, the reduction is unknown, or a target is neither -1 nor 1.
    """
    dtype = check_float("hinge_loss", x)
    check_reduction("hinge_loss", reduction)
    sign = np.asarray(target)
    check_same_shape("hinge_loss", x=x, target=sign)
    wrong = (sign != 1) & (sign != -1)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"hinge_loss: targets are -1 or 1, got {sign[place]} at target{list(place)}")
    return elementwise_loss(_hinge, x, row_of(sign.astype(dtype)), reduction=reduction)
