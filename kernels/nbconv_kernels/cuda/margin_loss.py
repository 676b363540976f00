"""Hinge losses of several classes: the true class t should score higher than every other, by a margin.

    multi-margin        1 / C * sum over i != t of w[t] * max(0, margin - x[t] + x[i])^p        (as PyTorch)
    multi-class hinge   max(0, 1 + max over i != t of x[i] - x[t])           (Crammer and Singer 2001)

Memory is one row of classes for each sample, the work of a team of lanes. Limit: memory bandwidth.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbconv_kernels.cuda.build import blocks, device_function, kernel
from nbconv_kernels.cuda.loss_sums import BLOCK, MOST, check_reduction, reduced, scale_of, write_part
from nbconv_kernels.cuda.memory import Array, check_float, empty, empty_as, is_array, to_host, whole
from nbconv_kernels.cuda.reduction import block_sum, team_best, team_shift, team_sum
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, i64s, int64, u32, uint32

__all__ = ["multi_margin_loss", "multiclass_hinge_loss"]

_LEAST = -math.inf
_NOWHERE = 0xFFFFFFFF


@device_function
def _sample(base, labels, rows, classes, shift) -> Any:
    """(whether there is a sample for this team, whether its label is wrong, sample, first element, label)."""
    row = uint32(base + uint32(uint32(cuda.threadIdx.x) >> shift))
    exists = row < rows
    row = row if exists else uint32(0)
    label = labels[row]
    wrong = label < int64(0) or label >= int64(classes)
    return exists, wrong, row, uint32(row * classes), uint32(0) if wrong else uint32(label)


@kernel(block=BLOCK)
def _margin(
    x: f32s,
    labels: i64s,
    weight: f32s,
    losses: f32s,
    dx: f32s,
    parts: f32s,
    rows: u32,
    classes: u32,
    shift: u32,
    margin: f32,
    scale: f32,
    squared: u32,
    weighted: u32,
    each: u32,
):
    lanes = uint32(uint32(1) << shift)
    lane = uint32(uint32(cuda.threadIdx.x) & uint32(lanes - uint32(1)))
    at_once = uint32(uint32(BLOCK) >> shift)
    base, total, wrongs = uint32(uint32(cuda.blockIdx.x) * at_once), float32(0), float32(0)
    while base < rows:
        exists, wrong, row, start, label = _sample(base, labels, rows, classes, shift)
        least = margin - x[uint32(start + label)]
        factor = weight[label] if weighted != uint32(0) else float32(1)
        factor = factor / float32(classes)
        loss, slopes, c = float32(0), float32(0), lane
        while c < classes:
            excess = least + x[uint32(start + c)]
            excess = float32(0) if excess <= float32(0) else excess
            slope = float32(0) if excess == float32(0) else float32(1)
            if squared != uint32(0):
                excess, slope = excess * excess, float32(2) * excess
            if c != label:
                loss += excess
                slopes += slope
                if exists:
                    dx[uint32(start + c)] = factor * scale * slope
            c = uint32(c + lanes)
        loss, slopes = factor * team_sum(loss, shift), team_sum(slopes, shift)
        if exists and lane == uint32(0):
            dx[uint32(start + label)] = -(factor * scale * slopes)
            total += loss
            wrongs += float32(1) if wrong else float32(0)
            if each != uint32(0):
                losses[row] = loss
        base = uint32(base + uint32(uint32(cuda.gridDim.x) * at_once))
    total, wrongs = block_sum(total), block_sum(wrongs)
    write_part(parts, total, wrongs)


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
        TypeError: if x and weight are not both float32, or the labels are not integers.
        ValueError: if shapes or arguments do not fit, or a label is out of range.
    """
    check_float("multi_margin_loss", x, weight)
    check_reduction("multi_margin_loss", reduction)
    labels = _labels("multi_margin_loss", x, target, 1)
    n, classes = x.shape
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"multi_margin_loss: expected a weight of shape ({classes},), got {weight.shape}")
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: p must be 1 or 2, got {p}")
    shift, losses, dx, parts = _results(x, reduction)
    arrays = whole(x), labels, None if weight is None else whole(weight), losses, dx, parts
    flags = p == 2, weight is not None, losses is not None
    _margin[len(parts)](*arrays, n, classes, shift, margin, scale_of(reduction, n), *flags)
    return _loss("multi_margin_loss", x, target, parts, losses, reduction), dx


@kernel(block=BLOCK)
def _rival(
    x: f32s,
    labels: i64s,
    losses: f32s,
    dx: f32s,
    parts: f32s,
    rows: u32,
    classes: u32,
    shift: u32,
    scale: f32,
    each: u32,
):
    lanes = uint32(uint32(1) << shift)
    lane = uint32(uint32(cuda.threadIdx.x) & uint32(lanes - uint32(1)))
    at_once = uint32(uint32(BLOCK) >> shift)
    base, total, wrongs = uint32(uint32(cuda.blockIdx.x) * at_once), float32(0), float32(0)
    while base < rows:
        exists, wrong, row, start, label = _sample(base, labels, rows, classes, shift)
        best, rival, c = float32(_LEAST), uint32(_NOWHERE), lane
        while c < classes:
            value = x[uint32(start + c)]
            if c != label and (
                rival == uint32(_NOWHERE) or value > best or (value != value and best == best)
            ):
                best, rival = value, c
            c = uint32(c + lanes)
        best, rival = team_best(best, rival, shift)
        excess = float32(1) + best - x[uint32(start + label)]
        met = excess <= float32(0)
        slope = float32(0) if met else scale
        c = lane
        while exists and c < classes:
            gradient = slope if c == rival else float32(0)
            dx[uint32(start + c)] = -slope if c == label else gradient
            c = uint32(c + lanes)
        if exists and lane == uint32(0):
            loss = float32(0) if met else excess
            total += loss
            wrongs += float32(1) if wrong else float32(0)
            if each != uint32(0):
                losses[row] = loss
        base = uint32(base + uint32(uint32(cuda.gridDim.x) * at_once))
    total, wrongs = block_sum(total), block_sum(wrongs)
    write_part(parts, total, wrongs)


def multiclass_hinge_loss(x: Array, target: Array, reduction: str = "mean") -> tuple[float | Array, Array]:
    """What the best of the other classes comes too close, for x (N, C) and labels (N,); C is at least 2.

    Returns:
        (loss, dx) as ``multi_margin_loss``. Of equally good classes the first gets the gradient.

    Raises:
        TypeError: if x is not float32, or the labels are not integers.
        ValueError: if shapes or arguments do not fit, or a label is out of range.
    """
    check_float("multiclass_hinge_loss", x)
    check_reduction("multiclass_hinge_loss", reduction)
    labels = _labels("multiclass_hinge_loss", x, target, 2)
    shift, losses, dx, parts = _results(x, reduction)
    n, classes = x.shape
    scale = scale_of(reduction, n)
    _rival[len(parts)](whole(x), labels, losses, dx, parts, n, classes, shift, scale, losses is not None)
    return _loss("multiclass_hinge_loss", x, target, parts, losses, reduction), dx


def _results(x: Array, reduction: str) -> tuple[int, Array | None, Array, Array]:
    """(a team's size, losses if wanted, dx, what blocks find), the arrays not yet filled."""
    shift = team_shift(x.shape[1])
    losses = empty(x, x.shape[:1]) if reduction == "none" else None
    return shift, losses, empty_as(x), empty(x, (min(blocks(len(x) << shift, BLOCK), MOST), 2))


def _loss(
    op: str, x: Array, target: Array, parts: Array, losses: Array | None, reduction: str
) -> float | Array:
    loss, wrong = reduced(parts, len(x) if reduction == "mean" else 1)
    if wrong:
        labels = to_host(target)
        place = int(((labels < 0) | (labels >= x.shape[1])).argmax())
        raise ValueError(
            f"{op}: label {labels[place]} at target[{place}] is out of range for {x.shape[1]} classes"
        )
    return loss if losses is None else losses


def _labels(op: str, x: Array, target: Array, least: int) -> Array:
    """The labels as int64, if they are N integers for x (N, C) with at least so many classes."""
    if x.ndim != 2 or x.shape[1] < least:
        raise ValueError(f"{op}: expected scores (N, C) of {least} classes or more, got shape {x.shape}")
    if not is_array(target) or target.dtype.kind not in "iu":
        kind = target.dtype if is_array(target) else type(target).__name__
        raise TypeError(f"{op}: expected an array of integer labels, got {kind}")
    if target.shape != x.shape[:1]:
        raise ValueError(f"{op}: expected labels of shape {x.shape[:1]}, got {target.shape}")
    return whole(target.astype(np.int64, copy=False))
