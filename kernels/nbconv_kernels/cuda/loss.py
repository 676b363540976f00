"""Losses: each gives its value and its gradient together, in one sweep over the logits.

Cross entropy of logits x against a distribution q over C classes, log p = x - max - log sum exp(x - max):

    loss = -sum over c of q[c] * log p[c]        dx[c] = p[c] * sum of q - q[c]

With s the label smoothing and w the class weights: for a class label t, q = (1 - s) * w[t] at t, plus s / C *
w[c] everywhere, and the mean divides by the sum of w[t]; for class probabilities, q = w * ((1 - s) * target +
s / C), and the mean divides by the number of samples.

Limit: memory bandwidth, for rows of classes that fit into the cache.
"""

from __future__ import annotations

import math

import numpy as np

from nbconv_kernels.cuda.build import blocks, device_function
from nbconv_kernels.cuda.elementwise_loss import elementwise_loss, losses_of
from nbconv_kernels.cuda.entropy import labelled, probable, weights_of_labels
from nbconv_kernels.cuda.loss_sums import BLOCK, MOST, check_reduction, reduced, scale_of
from nbconv_kernels.cuda.memory import (
    Array,
    check_float,
    check_same_shape,
    empty,
    empty_as,
    is_array,
    to_host,
    whole,
)
from nbconv_kernels.cuda.reduction import team_shift
from nbconv_kernels.cuda.target import float32

__all__ = ["cross_entropy", "mse_loss"]


def cross_entropy(
    logits: Array,
    targets: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[float | Array, Array]:
    """Softmax cross entropy of logits (N, C) or (N, C, H, W), as PyTorch defines it.

    Targets are integer labels (N,) or (N, H, W), of which those equal to ``ignore_index`` count for nothing,
    or class probabilities of the logits' shape. ``weight`` (C,) weighs the classes.

    Returns:
        (loss, dlogits). "mean" and "sum" give a float, "none" an array of the labels' shape and the gradient
        of its sum. The mean over nothing (an empty batch, every label ignored or of weight 0) is NaN, as in
        PyTorch; its gradient is zero.

    Raises:
        TypeError: if logits and weight are not both float32, or the targets are neither integers nor floats.
        ValueError: if shapes or arguments do not fit, or a label is out of range.
    """
    check_float("cross_entropy", logits, weight)
    check_reduction("cross_entropy", reduction)
    if not is_array(targets) or targets.dtype.kind not in "iuf":
        kind = targets.dtype if is_array(targets) else type(targets).__name__
        raise TypeError(f"cross_entropy: expected integer labels or float probabilities, got {kind}")
    if logits.ndim not in (2, 4) or logits.shape[1] == 0:
        raise ValueError(f"cross_entropy: expected logits (N, C) or (N, C, H, W), got shape {logits.shape}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must be between 0 and 1, got {label_smoothing}")
    classes = logits.shape[1]
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"cross_entropy: expected a weight of shape ({classes},), got {weight.shape}")
    _check_targets(logits, targets, ignore_index)
    shape = logits.shape[:1] + logits.shape[2:]
    rows, shift, mean = math.prod(shape), team_shift(classes), reduction == "mean"
    dlogits = empty_as(logits)
    losses = empty(logits, shape) if reduction == "none" else None
    parts = empty(logits, (min(blocks(rows << shift, BLOCK), MOST), 2))
    weights = None if weight is None else whole(weight)
    results = losses, dlogits, parts
    sizes = rows, classes, shift
    flags = weight is not None, losses is not None
    shares: Array | None = None
    if targets.dtype.kind == "f":
        probabilities = whole(targets.astype(np.float32, copy=False))
        numbers = float(label_smoothing), scale_of(reduction, rows)
        probable[len(parts)](whole(logits), probabilities, weights, *results, *sizes, *numbers, *flags)
    else:
        labels = _in_a_row(targets)
        shares = empty(logits, (min(blocks(rows, 4 * BLOCK), BLOCK), 2))
        ignore = int(ignore_index)
        weights_of_labels[len(shares)](labels, weights, shares, rows, classes, ignore, weight is not None)
        inputs = whole(logits), labels, weights, shares
        settings = len(shares), ignore, float(label_smoothing), flags[0], mean, flags[1]
        labelled[len(parts)](*inputs, *results, *sizes, *settings)
    loss, wrong = reduced(parts, rows if mean and shares is None else 1, shares, mean)
    if wrong:
        raise _out_of_range(targets, classes, ignore_index)
    return (loss if losses is None else losses), dlogits


def _check_targets(logits: Array, targets: Array, ignore_index: int) -> None:
    shape = logits.shape[:1] + logits.shape[2:]
    if targets.dtype.kind != "f":
        if targets.shape != shape:
            raise ValueError(
                f"cross_entropy: expected integer labels of shape {shape} for logits {logits.shape}, "
                f"got shape {targets.shape}"
            )
        return
    if targets.shape != logits.shape:
        raise ValueError(
            f"cross_entropy: expected class probabilities (or integer labels) of shape {logits.shape}, "
            f"got shape {targets.shape}"
        )
    if ignore_index >= 0:
        raise ValueError(
            f"cross_entropy: ignore_index={ignore_index} goes with integer labels, not probabilities"
        )


def _in_a_row(labels: Array) -> Array:
    """Labels (N,) or (N, H, W) as int64, one after another as the logits' rows are."""
    return whole(labels.reshape(-1).astype(np.int64, copy=False))


def _out_of_range(targets: Array, classes: int, ignore_index: int) -> ValueError:
    labels = to_host(targets)
    wrong = ((labels < 0) | (labels >= classes)) & (labels != ignore_index)
    place = [int(i) for i in np.argwhere(wrong)[0]]
    return ValueError(
        f"cross_entropy: label {labels[tuple(place)]} at targets{place} is out of range for "
        f"{classes} classes (and is not ignore_index={ignore_index})"
    )


@device_function
def _square(x, target, weight, positive, a, b):
    difference = x - target
    return difference * difference, float32(2) * difference


_SQUARES = losses_of(_square)


def mse_loss(x: Array, target: Array, reduction: str = "mean") -> tuple[float | Array, Array]:
    """The squared error (x - target)^2 of arrays of one shape, and its gradient with respect to x.

    Returns:
        (loss, dx). "mean" and "sum" give a float, "none" an array and the gradient of its sum. The mean over
        nothing is NaN.

    Raises:
        TypeError: if the arrays are not both float32.
        ValueError: if the shapes differ or the reduction is unknown.
    """
    check_float("mse_loss", x, target)
    check_reduction("mse_loss", reduction)
    check_same_shape("mse_loss", x=x, target=target)
    return elementwise_loss(_SQUARES, x, target, reduction)
