"""Losses: each gives its value and its gradient together.

Cross entropy of logits x against a distribution q over C classes, with log p = x - log sum exp x:

    loss = -sum over c of q[c] * log p[c]        dx[c] = p[c] * sum of q - q[c]

With s the label smoothing and w the class weights: for a class label t, q = (1 - s) * w[t] at t, plus
s / C * w[c] everywhere, and the mean divides by the sum of w[t]; for class probabilities,
q = w * ((1 - s) * target + s / C), and the mean divides by the number of samples.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.reference.memory import Array, check_float, check_shape, laid_out, quiet


@quiet
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
        ValueError: if shapes or arguments do not fit, or a label is out of range.
        TypeError: if logits and weight are not both float32 or both float64, or the targets are neither
            integers nor floats.
    """
    dtype = check_float("cross_entropy", logits, weight)
    check_reduction("cross_entropy", reduction)
    if not isinstance(targets, np.ndarray):
        raise TypeError(f"cross_entropy: expected targets in a NumPy array, got {type(targets).__name__}")
    if logits.ndim not in (2, 4):
        raise ValueError(f"cross_entropy: expected logits (N, C) or (N, C, H, W), got shape {logits.shape}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must be between 0 and 1, got {label_smoothing}")
    classes = logits.shape[1]
    check_shape("cross_entropy", "a weight", weight, (classes,))
    smoothing = float(label_smoothing)
    weights = np.ones(classes, dtype) if weight is None else weight

    # One row for each sample and position, classes last.
    x = np.moveaxis(logits, 1, -1)
    shape = x.shape[:-1]
    x = x.reshape(-1, classes)
    log_p = _log_softmax(x)
    if targets.dtype.kind in "iu":
        check_labels(logits, targets, ignore_index)
        labels = targets.reshape(-1)
        counts = labels != ignore_index
        labels = np.where(counts, labels, 0).astype(np.intp)
        rows = np.arange(labels.size)
        q = np.zeros_like(x)
        q[rows, labels] = (1 - smoothing) * weights[labels]
        # The other classes stay out of the sum unless smoothed: a logit of -inf elsewhere costs nothing.
        losses = -q[rows, labels] * log_p[rows, labels]
        if smoothing > 0:
            q += smoothing / classes * weights
            losses -= smoothing / classes * (weights * log_p).sum(axis=1)
        divisor = float(weights[labels][counts].sum())
    else:
        check_probabilities(logits, targets, ignore_index)
        counts = np.ones(len(x), bool)
        target = np.moveaxis(targets.astype(dtype, copy=False), 1, -1).reshape(-1, classes)
        q = weights * ((1 - smoothing) * target + smoothing / classes)
        losses = -(q * log_p).sum(axis=1)
        divisor = float(len(x))
    gradient = np.exp(log_p) * q.sum(axis=1, keepdims=True) - q
    losses = np.where(counts, losses, 0)
    gradient = np.where(counts[:, None], gradient, 0)

    if reduction == "mean":
        gradient = gradient / divisor if divisor else gradient * 0
    dlogits = laid_out(np.moveaxis(gradient.reshape(*shape, classes), -1, 1))
    if reduction == "none":
        return losses.reshape(shape), dlogits
    total = float(losses.sum())
    if reduction == "sum":
        return total, dlogits
    return total / divisor if divisor else float("nan"), dlogits


@quiet
def mse_loss(x: Array, target: Array, reduction: str = "mean") -> tuple[float | Array, Array]:
    """The squared error (x - target)^2 of arrays of one shape, and its gradient with respect to x.

    Returns:
        (loss, dx). "mean" and "sum" give a float, "none" an array and the gradient of its sum. The mean over
        nothing is NaN.

    Raises:
        ValueError: if the shapes differ or the reduction is unknown.
        TypeError: if the arrays are not both float32 or both float64.
    """
    check_float("mse_loss", x, target)
    check_reduction("mse_loss", reduction)
    check_shape("mse_loss", "a target", target, x.shape)
    difference = x - target
    return reduced(difference * difference, 2 * difference, reduction, x.size)


def reduced(losses: Array, dx: Array, reduction: str, count: int) -> tuple[float | Array, Array]:
    """(loss, dx) of a loss function that gives both for each element, "mean" being over ``count`` of them."""
    if reduction == "none":
        return laid_out(losses), laid_out(dx)
    total = float(losses.sum())
    if reduction == "sum":
        return total, laid_out(dx)
    return (total / count, laid_out(dx / count)) if count else (float("nan"), laid_out(dx))


def check_reduction(op: str, reduction: str) -> None:
    """Raise ValueError unless the reduction is "mean", "sum" or "none"."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'{op}: reduction must be "mean", "sum" or "none", got {reduction!r}')


def check_labels(logits: Array, labels: Array, ignore_index: int) -> None:
    """Raise ValueError unless the integer labels fit the logits and lie in range, or are ignored."""
    expected = logits.shape[:1] + logits.shape[2:]
    check_shape("cross_entropy", f"integer labels for logits {logits.shape}", labels, expected)
    classes = logits.shape[1]
    wrong = ((labels < 0) | (labels >= classes)) & (labels != ignore_index)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"cross_entropy: label {labels[place]} at targets{list(place)} is out of range for {classes} "
            f"classes (and is not ignore_index={ignore_index})"
        )


def check_probabilities(logits: Array, targets: Array, ignore_index: int) -> None:
    """Raise unless the targets are floats of the logits' shape; probabilities cannot be ignored."""
    if targets.dtype.kind != "f":
        raise TypeError(f"cross_entropy: expected integer labels or float probabilities, got {targets.dtype}")
    check_shape("cross_entropy", "class probabilities (or integer labels)", targets, logits.shape)
    if ignore_index >= 0:
        raise ValueError(
            f"cross_entropy: ignore_index={ignore_index} goes with integer labels, not probabilities"
        )


def _log_softmax(x: Array) -> Array:
    """``x`` minus the logarithm of the sum of exp(x) along the last axis, shifted so that none overflows."""
    shifted = x - x.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
