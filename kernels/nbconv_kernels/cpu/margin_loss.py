"""Hinge losses of several classes: the true class t should score higher than every other, by a margin.

    multi-margin        1 / C * sum over i != t of w[t] * max(0, margin - x[t] + x[i])^p        (as PyTorch)
    multi-class hinge   max(0, 1 + max over i != t of x[i] - x[t])           (Crammer and Singer 2001)

Memory is one row of classes for each sample. Losses of rows are summed in float64. Limit: memory bandwidth;
the second compares one class after the other, about a nanosecond each.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.elementwise_loss import check_reduction, reduced, scale_of, sum_of
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float, empty
from nbconv_kernels.cpu.tasks import task_count

__all__ = ["multi_margin_loss", "multiclass_hinge_loss"]


@kernel
def _margin_task(task, n_tasks, x, labels, squared, margin, weight, scale, losses, dx):
    rows, classes = x.shape
    scratch = np.empty(classes, x.dtype)
    zero, one, two = x.dtype.type(0), x.dtype.type(1), x.dtype.type(2)
    for row in range(rows * task // n_tasks, rows * (task + 1) // n_tasks):
        values, gradient, label = x[row], dx[row], labels[row]
        least = margin - values[label]
        factor = weight[label] / classes
        slope = x.dtype.type(factor * scale)
        for c in range(classes):
            excess = least + values[c]
            excess = zero if excess <= zero else excess
            scratch[c] = excess * excess if squared else excess
            gradient[c] = slope * (two * excess if squared else (zero if excess == zero else one))
        scratch[label], gradient[label] = zero, zero
        losses[row] = factor * sum_of(scratch)
        gradient[label] = -sum_of(gradient)


@kernel
def _margin(n_tasks, x, labels, squared, margin, weight, scale, losses, dx, n_threads):
    arguments = (n_tasks, x, labels, squared, margin, weight, scale, losses, dx)
    parallel_for(_margin_task, n_tasks, n_threads, arguments)


def multi_margin_loss(
    x: Array,
    target: Array,
    p: int = 1,
    margin: float = 1.0,
    weight: Array | None = None,
    reduction: str = "mean",
) -> tuple[float | Array, Array]:
    """The mean over the classes of what they come too close, squared if p is 2, for x (N, C) and labels (N,).

    ``weight`` (C,) weighs the samples by their true class; the mean over samples counts them alike.

    Returns:
        (loss, dx). "mean" and "sum" give a float, "none" an array (N,) and the gradient of its sum. The mean
        over nothing is NaN.

    Raises:
        TypeError: if x and weight are not both float32 or both float64, or the labels are not integers.
        ValueError: if shapes or arguments do not fit, or a label is out of range.
    """
    dtype = check_float("multi_margin_loss", x, weight)
    check_reduction("multi_margin_loss", reduction)
    labels = _checked_labels("multi_margin_loss", x, target, 1)
    n, classes = x.shape
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"multi_margin_loss: expected a weight of shape ({classes},), got {weight.shape}")
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: p must be 1 or 2, got {p}")
    weights = np.ones(classes) if weight is None else weight.astype(np.float64)
    dx, losses = empty(x.shape, dtype), np.empty(n)
    settings = (p == 2, dtype.type(margin), weights, scale_of(reduction, n))
    rows = np.ascontiguousarray(x)
    _margin(task_count(x.size), rows, labels, *settings, losses, dx, get_num_threads())
    return _loss(losses, dtype, reduction), dx


@kernel
def _rival_task(task, n_tasks, x, labels, scale, losses, dx):
    rows, classes = x.shape
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for row in range(rows * task // n_tasks, rows * (task + 1) // n_tasks):
        values, gradient, label = x[row], dx[row], labels[row]
        rival = 1 if label == 0 else 0
        for c in range(rival + 1, classes):
            better = values[c] > values[rival] or (values[c] != values[c] and values[rival] == values[rival])
            rival = c if better and c != label else rival
        excess = one + values[rival] - values[label]
        met = excess <= zero
        losses[row] = zero if met else excess
        for c in range(classes):
            gradient[c] = zero
        gradient[rival] = zero if met else scale
        gradient[label] = zero if met else -scale


@kernel
def _rival(n_tasks, x, labels, scale, losses, dx, n_threads):
    parallel_for(_rival_task, n_tasks, n_threads, (n_tasks, x, labels, scale, losses, dx))


def multiclass_hinge_loss(x: Array, target: Array, reduction: str = "mean") -> tuple[float | Array, Array]:
    """What the best of the other classes comes too close, for x (N, C) and labels (N,); C is at least 2.

    Returns:
        (loss, dx) as ``multi_margin_loss``. Of equally good classes the first gets the gradient.

    Raises:
        TypeError: if x is neither float32 nor float64, or the labels are not integers.
        ValueError: if shapes or arguments do not fit, or a label is out of range.
    """
    dtype = check_float("multiclass_hinge_loss", x)
    check_reduction("multiclass_hinge_loss", reduction)
    labels = _checked_labels("multiclass_hinge_loss", x, target, 2)
    dx, losses = empty(x.shape, dtype), np.empty(len(x))
    scale = dtype.type(scale_of(reduction, len(x)))
    _rival(task_count(x.size), np.ascontiguousarray(x), labels, scale, losses, dx, get_num_threads())
    return _loss(losses, dtype, reduction), dx


def _loss(losses: Array, dtype: np.dtype, reduction: str) -> float | Array:
    if reduction == "none":
        return losses.astype(dtype)
    return reduced(float(losses.sum()), reduction, len(losses))


def _checked_labels(op: str, x: Array, target: Array, least: int) -> Array:
    """The labels as int64, if they are N integers below C for x (N, C) with at least so many classes."""
    if x.ndim != 2 or x.shape[1] < least:
        raise ValueError(f"{op}: expected scores (N, C) of {least} classes or more, got shape {x.shape}")
    if not isinstance(target, np.ndarray) or target.dtype.kind not in "iu":
        kind = target.dtype if isinstance(target, np.ndarray) else type(target).__name__
        raise TypeError(f"{op}: expected an array of integer labels, got {kind}")
    if target.shape != x.shape[:1]:
        raise ValueError(f"{op}: expected labels of shape {x.shape[:1]}, got {target.shape}")
    wrong = (target < 0) | (target >= x.shape[1])
    if wrong.any():
        place = int(wrong.argmax())
        raise ValueError(
            f"{op}: label {target[place]} at target[{place}] is out of range for {x.shape[1]} classes"
        )
    return target.astype(np.int64)
