"""Hinge losses of several classes: the true class t should score higher than every other, by a margin.

    multi-margin        1 / C * sum over i != t of w[t] * max(0, margin - x[t] + x[i])^p        (as PyTorch)
    multi-class hinge   max(0, 1 + max over i != t of x[i] - x[t])           (Crammer and Singer 2001)

The first adds up every class that comes too close, the second takes the closest alone.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.reference.loss import check_reduction, reduced
from nbconv_kernels.reference.memory import Array, check_float, check_rank, check_shape, quiet


@quiet
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
        ValueError: if shapes or arguments do not fit, or a label is out of range.
        TypeError: if x and weight are not both float32 or both float64, or the labels are not integers.
    """
    dtype = check_float("multi_margin_loss", x, weight)
    check_reduction("multi_margin_loss", reduction)
    _check_labels("multi_margin_loss", x, target, 1)
    n, classes = x.shape
    check_shape("multi_margin_loss", "a weight", weight, (classes,))
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: p must be 1 or 2, got {p}")
    rows = np.arange(n)
    excess = float(margin) - x[rows, target][:, None] + x
    excess[rows, target] = 0
    excess = np.where(excess <= 0, 0, excess)
    scale = (1 if weight is None else weight[target][:, None]) / dtype.type(classes)
    losses = (scale * excess**p).sum(axis=1)
    dx = scale * (np.where(excess == 0, dtype.type(0), 1) if p == 1 else 2 * excess)
    dx[rows, target] = -dx.sum(axis=1)
    return reduced(losses, dx, reduction, n)


@quiet
def multiclass_hinge_loss(x: Array, target: Array, reduction: str = "mean") -> tuple[float | Array, Array]:
    """What the best of the other classes comes too close, for x (N, C) and labels (N,); C is at least 2.

    Returns:
        (loss, dx) as ``multi_margin_loss``. Of equally good classes the first gets the gradient.

    Raises:
        ValueError: if shapes or arguments do not fit, or a label is out of range.
        TypeError: if x is neither float32 nor float64, or the labels are not integers.
    """
    check_float("multiclass_hinge_loss", x)
    check_reduction("multiclass_hinge_loss", reduction)
    _check_labels("multiclass_hinge_loss", x, target, 2)
    rows = np.arange(len(x))
    others = x.copy()
    others[rows, target] = -np.inf
    rival = others.argmax(axis=1)
    excess = 1 + others[rows, rival] - x[rows, target]
    counts = ~(excess <= 0)
    dx = np.zeros_like(x)
    dx[rows, rival] += counts
    dx[rows, target] -= counts
    return reduced(np.where(counts, excess, 0), dx, reduction, len(x))


def _check_labels(op: str, x: Array, target: Array, least: int) -> None:
    """Raise unless x is (N, C) with at least that many classes, and the labels are N integers below C."""
    check_rank(op, "scores", x, "(N, C)")
    if x.shape[1] < least:
        raise ValueError(f"{op}: expected scores (N, C) of {least} classes or more, got shape {x.shape}")
    if not isinstance(target, np.ndarray) or target.dtype.kind not in "iu":
        got = getattr(target, "dtype", type(target).__name__)
        raise TypeError(f"{op}: expected an array of integer labels, got {got}")
    check_shape(op, "labels", target, x.shape[:1])
    wrong = (target < 0) | (target >= x.shape[1])
    if wrong.any():
        place = int(wrong.argmax())
        raise ValueError(
            f"{op}: label {target[place]} at target[{place}] is out of range for {x.shape[1]} classes"
        )
