"""Boxes erased from images, and mixtures of two images.

Memory is (N, H, W, C); tasks share its rows. Limit: memory bandwidth.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.augmentation import check_boxes, check_partners, per_image
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.tasks import empty_as, row_of, task_count

__all__ = ["erase_boxes", "mix_images"]


@kernel
def _erase_task(task, n_tasks, x, boxes, value, y, height, line, channels):
    rows = x.size // line
    for row in range(rows * task // n_tasks, rows * (task + 1) // n_tasks):
        image = row // height
        top, left, bottom, right = boxes[image]
        values, out = x[row * line : (row + 1) * line], y[row * line : (row + 1) * line]
        for i in range(line):
            out[i] = values[i]
        if top <= row - image * height < bottom:
            box = out[left * channels : right * channels]
            for i in range(box.size):
                box[i] = value


@kernel
def _erase(n_tasks, x, boxes, value, y, height, line, channels, n_threads):
    arguments = (n_tasks, x, boxes, value, y, height, line, channels)
    parallel_for(_erase_task, n_tasks, n_threads, arguments)


def erase_boxes(x: Array, boxes: Array, value: float = 0.0) -> Array:
    """``x`` (N, C, H, W) with ``value`` in a box of each image: integers (N, 4): top, left, bottom, right.

    Raises:
        ValueError: if shapes do not fit, or a box is not within its image.
        TypeError: if x is neither float32 nor float64, or boxes are no integers.
    """
    dtype = check_float("erase_boxes", x)
    check_boxes(x.shape, boxes)
    y = empty_as(x)
    if x.size:
        places = np.ascontiguousarray(boxes, np.int64)
        size = (x.shape[2], x.shape[3] * x.shape[1], x.shape[1])
        _erase(task_count(x.size), row_of(x), places, dtype.type(value), row_of(y), *size, get_num_threads())
    return y


@kernel
def _mix_task(task, n_tasks, x, partners, weights, y, height):
    rows = partners.size * height
    line = x.size // rows
    for row in range(rows * task // n_tasks, rows * (task + 1) // n_tasks):
        image = row // height
        other = row + (partners[image] - image) * height
        weight, rest = weights[image], weights.dtype.type(1) - weights[image]
        values, others = x[row * line : (row + 1) * line], x[other * line : (other + 1) * line]
        out = y[row * line : (row + 1) * line]
        for i in range(line):
            out[i] = weight * values[i] + rest * others[i]


@kernel
def _mix(n_tasks, x, partners, weights, y, height, n_threads):
    parallel_for(_mix_task, n_tasks, n_threads, (n_tasks, x, partners, weights, y, height))


def mix_images(x: Array, partners: Array, weights: Array) -> Array:
    """``weights[n] * x[n] + (1 - weights[n]) * x[partners[n]]`` of (N, C, H, W).

    Raises:
        ValueError: if shapes do not fit, a partner is none of the batch, or weights are not finite.
        TypeError: if x is neither float32 nor float64, partners are no integers, or weights no floats.
    """
    dtype = check_float("mix_images", x)
    check_partners(x.shape, partners)
    per_image("mix_images", "weights", weights, x.shape[:1])
    y = empty_as(x)
    if x.size:
        others, shares = np.ascontiguousarray(partners, np.int64), np.ascontiguousarray(weights, dtype)
        _mix(task_count(x.size), row_of(x), others, shares, row_of(y), x.shape[2], get_num_threads())
    return y
