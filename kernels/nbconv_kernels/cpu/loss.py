"""Losses: each gives its value and its gradient together, in one sweep over the logits.

Cross entropy of logits x against a distribution q over C classes, log p = x - max - log sum exp(x - max):

    loss = -sum over c of q[c] * log p[c]        dx[c] = p[c] * sum of q - q[c]

With s the label smoothing and w the class weights: for a class label t, q = (1 - s) * w[t] at t, plus s / C *
w[c] everywhere, and the mean divides by the sum of w[t]; for class probabilities, q = w * ((1 - s) * target +
s / C), and the mean divides by the number of samples.

Memory is one row of classes for each sample or pixel. As many rows as stay in the first cache together go all
the way from their maxima to their gradients before the next ones come. Losses are summed in float64.

Limit: the exponentials, about 20 vector multiply-adds a logit; for a squared error, memory bandwidth.
"""

from __future__ import annotations

from math import log, nan

import numpy as np

from nbconv_kernels.cpu.activation.softmax import exponentials, rows_at_once
from nbconv_kernels.cpu.elementwise_loss import BLOCK, check_reduction, elementwise_loss, sum_of
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float, nhwc
from nbconv_kernels.cpu.tasks import check_same_shape, empty_as, row_of, share, task_count
from nbconv_kernels.cpu.vector import fill, lanes, load, minus, store, times

__all__ = ["cross_entropy", "mse_loss"]


@kernel
def _labels_task(task, n_tasks, step, x, labels, weight, mass, ignore_index, smoothing, scale, losses, dx):
    rows, classes = labels.size, weight.size
    maxima, sums = np.empty(step, x.dtype), np.empty(step, x.dtype)
    everywhere = smoothing / classes
    spread = fill(x, x.dtype.type(everywhere * scale))
    end = rows * (task + 1) // n_tasks
    for first in range(rows * task // n_tasks, end, step):
        last = min(end, first + step)
        exponentials(x, dx, first, last, classes, maxima, sums)
        for row in range(first, last):
            start, label = row * classes, labels[row]
            ignored = label == ignore_index
            own = 0.0 if ignored else (1 - smoothing) * weight[label]
            log_sum, maximum = log(sums[row - first]), maxima[row - first]
            # minus() is never reassociated: log_sum + maximum would lose the logarithm's digits.
            loss = 0.0 if ignored else own * minus(log_sum, minus(x[start + label], maximum))
            if smoothing > 0 and not ignored:  # without smoothing a logit of -inf elsewhere costs nothing
                for c in range(classes):
                    loss += everywhere * weight[c] * minus(log_sum, minus(x[start + c], maximum))
            losses[row] = loss
            factor = fill(x, x.dtype.type((own + everywhere * mass) * scale / sums[row - first]))
            for c in range(0, classes, lanes(x)):
                p, q = load(dx, start + c, classes - c), times(load(weight, c, classes - c), spread)
                gradient = fill(x, x.dtype.type(0)) if ignored else minus(times(p, factor), q)
                store(dx, start + c, gradient, classes - c)
            if not ignored:
                dx[start + label] -= own * scale


@kernel
def _labels(n_tasks, step, x, labels, weight, mass, ignore_index, smoothing, scale, losses, dx, n_threads):
    arguments = (n_tasks, step, x, labels, weight, mass, ignore_index, smoothing, scale, losses, dx)
    parallel_for(_labels_task, n_tasks, n_threads, arguments)


@kernel
def _probabilities_task(task, n_tasks, step, x, targets, weight, smoothing, scale, losses, dx):
    rows, classes = losses.size, weight.size
    maxima, sums = np.empty(step, x.dtype), np.empty(step, x.dtype)
    everywhere = smoothing / classes
    end = rows * (task + 1) // n_tasks
    for first in range(rows * task // n_tasks, end, step):
        last = min(end, first + step)
        exponentials(x, dx, first, last, classes, maxima, sums)
        for row in range(first, last):
            start = row * classes
            log_sum, maximum = log(sums[row - first]), maxima[row - first]
            loss, mass = 0.0, 0.0
            for c in range(classes):
                q = ((1 - smoothing) * targets[start + c] + everywhere) * weight[c]
                loss += q * minus(log_sum, minus(x[start + c], maximum))
                mass += q
            losses[row] = loss
            factor = mass * scale / sums[row - first]
            for c in range(classes):
                q = ((1 - smoothing) * targets[start + c] + everywhere) * weight[c]
                dx[start + c] = dx[start + c] * factor - q * scale


@kernel
def _probabilities(n_tasks, step, x, targets, weight, smoothing, scale, losses, dx, n_threads):
    arguments = (n_tasks, step, x, targets, weight, smoothing, scale, losses, dx)
    parallel_for(_probabilities_task, n_tasks, n_threads, arguments)


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
        TypeError: if logits and weight are not both float32 or both float64, or the targets are neither
            integers nor floats.
        ValueError: if shapes or arguments do not fit, or a label is out of range.
    """
    dtype = check_float("cross_entropy", logits, weight)
    check_reduction("cross_entropy", reduction)
    if not isinstance(targets, np.ndarray) or targets.dtype.kind not in "iuf":
        kind = targets.dtype if isinstance(targets, np.ndarray) else type(targets).__name__
        raise TypeError(f"cross_entropy: expected integer labels or float probabilities, got {kind}")
    if logits.ndim not in (2, 4) or logits.shape[1] == 0:
        raise ValueError(f"cross_entropy: expected logits (N, C) or (N, C, H, W), got shape {logits.shape}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must be between 0 and 1, got {label_smoothing}")
    classes = logits.shape[1]
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"cross_entropy: expected a weight of shape ({classes},), got {weight.shape}")
    weights = np.ones(classes, dtype) if weight is None else np.ascontiguousarray(weight)
    shape = logits.shape[:1] + logits.shape[2:]
    dlogits, losses = empty_as(logits), np.empty(shape)
    x, dx = row_of(logits), row_of(dlogits)
    n_tasks, step, smoothing = task_count(x.size), rows_at_once(classes), float(label_smoothing)
    if targets.dtype.kind == "f":
        rows = _probability_row(logits, targets, ignore_index)
        divisor = losses.size
        scale = _scale(divisor, reduction)
        out = (losses.reshape(-1), dx)
        _probabilities(n_tasks, step, x, rows, weights, smoothing, scale, *out, get_num_threads())
    else:
        labels, divisor = _checked_labels(logits, targets, weights, ignore_index)
        scale = _scale(divisor, reduction)
        mass = float(weights.sum(dtype=np.float64))
        settings = (weights, mass, int(ignore_index), smoothing, scale)
        _labels(n_tasks, step, x, labels, *settings, losses.reshape(-1), dx, get_num_threads())
    if reduction == "none":
        return losses.astype(dtype), dlogits
    total = float(losses.sum())
    if reduction == "sum":
        return total, dlogits
    return (total / divisor if divisor else nan), dlogits


def _scale(divisor: float, reduction: str) -> float:
    """What the gradient of the sum is multiplied by."""
    if reduction != "mean":
        return 1.0
    return 1.0 / divisor if divisor else 0.0


def _checked_labels(logits: Array, targets: Array, weights: Array, ignore_index: int) -> tuple[Array, float]:
    """The labels in a row as int64, and the sum of the weights of those that count."""
    shape, classes = logits.shape[:1] + logits.shape[2:], logits.shape[1]
    if targets.shape != shape:
        raise ValueError(
            f"cross_entropy: expected integer labels of shape {shape} for logits {logits.shape}, "
            f"got shape {targets.shape}"
        )
    labels = np.ascontiguousarray(targets, np.int64).reshape(-1)
    counts = labels != ignore_index
    counted = labels if counts.all() else labels[counts]
    if counted.size and (counted.min() < 0 or counted.max() >= classes):
        wrong = np.flatnonzero(counts & ((labels < 0) | (labels >= classes)))[0]
        place = [int(i) for i in np.unravel_index(wrong, shape)]
        raise ValueError(
            f"cross_entropy: label {targets[tuple(place)]} at targets{place} is out of range for "
            f"{classes} classes (and is not ignore_index={ignore_index})"
        )
    return labels, float(weights[counted].sum(dtype=np.float64))


def _probability_row(logits: Array, targets: Array, ignore_index: int) -> Array:
    """The class probabilities as ``row_of`` has the logits, in their dtype."""
    if targets.shape != logits.shape:
        raise ValueError(
            f"cross_entropy: expected class probabilities (or integer labels) of shape {logits.shape}, "
            f"got shape {targets.shape}"
        )
    if ignore_index >= 0:
        raise ValueError(
            f"cross_entropy: ignore_index={ignore_index} goes with integer labels, not probabilities"
        )
    rows = nhwc(targets) if targets.ndim == 4 else targets
    return np.ascontiguousarray(rows, logits.dtype).reshape(-1)


@kernel
def _squares_task(task, n_tasks, x, target, scale, losses, dx, sums):
    first, last = share(x.size, task, n_tasks)
    each = losses.size > 0
    scratch = np.empty(BLOCK, x.dtype)
    slope = x.dtype.type(2) * scale
    for start in range(first, last, BLOCK):
        stop = min(last, start + BLOCK)
        values, wanted, gradient = x[start:stop], target[start:stop], dx[start:stop]
        block = losses[start:stop] if each else scratch[: stop - start]
        for i in range(values.size):
            difference = values[i] - wanted[i]
            block[i] = difference * difference
            gradient[i] = difference * slope
        if not each:
            sums[task] += sum_of(block)


@kernel
def _squares(n_tasks, x, target, scale, losses, dx, sums, n_threads):
    parallel_for(_squares_task, n_tasks, n_threads, (n_tasks, x, target, scale, losses, dx, sums))


def mse_loss(x: Array, target: Array, reduction: str = "mean") -> tuple[float | Array, Array]:
    """The squared error (x - target)^2 of arrays of one shape, and its gradient with respect to x.

    Returns:
        (loss, dx). "mean" and "sum" give a float, "none" an array and the gradient of its sum. The mean over
        nothing is NaN.

    Raises:
        TypeError: if the arrays are not both float32 or both float64.
        ValueError: if the shapes differ or the reduction is unknown.
    """
    check_float("mse_loss", x, target)
    check_reduction("mse_loss", reduction)
    check_same_shape("mse_loss", x=x, target=target)
    return elementwise_loss(_squares, x, row_of(target), reduction=reduction)
