"""The kernels of the cross entropy: one sample's classes are a row, the work of a team of lanes.

Maximum, sum of exponentials, then loss and gradient, the later sweeps from cache. Of labels, a launch before
adds up the weights, 256 blocks at most whose sums every block of the next adds up again: so the host need not
wait for them.

Limit: memory bandwidth for rows that fit into the cache; the exponential is taken twice.
"""

from __future__ import annotations

import math
from typing import Any

from nbconv_kernels.cuda.activation.softmax import line_exponentials
from nbconv_kernels.cuda.build import device_function, kernel
from nbconv_kernels.cuda.intrinsics import thread_index
from nbconv_kernels.cuda.loss_sums import BLOCK, write_part
from nbconv_kernels.cuda.reduction import block_sum, team_sum
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, i64, i64s, int64, u32, uint32

__all__ = ["labelled", "probable", "weights_of_labels"]


@device_function
def _weight_of(weight, weighted, c) -> Any:
    return weight[c] if weighted != uint32(0) else float32(1)


@kernel(block=BLOCK)
def weights_of_labels(
    labels: i64s, weight: f32s, parts: f32s, rows: u32, classes: u32, ignore: i64, weighted: u32
):
    """Sums of the labels' weights, and how many are wrong."""
    i, step = thread_index(), uint32(uint32(cuda.gridDim.x) * uint32(BLOCK))
    share, wrong = float32(0), float32(0)
    while i < rows:
        label = labels[i]
        if label != ignore:
            if label >= int64(0) and label < int64(classes):
                share += _weight_of(weight, weighted, uint32(label))
            else:
                wrong += float32(1)
        i = uint32(i + step)
    share, wrong = block_sum(share), block_sum(wrong)
    write_part(parts, share, wrong)


@kernel(block=BLOCK)
def labelled(
    x: f32s,
    labels: i64s,
    weight: f32s,
    shares: f32s,
    losses: f32s,
    dx: f32s,
    parts: f32s,
    rows: u32,
    classes: u32,
    shift: u32,
    share_count: u32,
    ignore: i64,
    smoothing: f32,
    weighted: u32,
    mean: u32,
    each: u32,
):
    """Losses and gradients of rows with a label each, and what each block has found."""
    thread, lanes = uint32(cuda.threadIdx.x), uint32(uint32(1) << shift)
    lane = uint32(thread & uint32(lanes - uint32(1)))
    divisor, mass, everywhere = float32(0), float32(classes), smoothing / float32(classes)
    if mean != uint32(0):
        divisor = block_sum(shares[uint32(uint32(2) * thread)] if thread < share_count else float32(0))
    if weighted != uint32(0) and smoothing > float32(0):
        mass, c = float32(0), thread
        while c < classes:
            mass += weight[c]
            c = uint32(c + uint32(BLOCK))
        mass = block_sum(mass)
    # The mean over nothing, or over weights of zero, has no gradient.
    scale = float32(1) / divisor if divisor != float32(0) else float32(0)
    scale = scale if mean != uint32(0) else float32(1)
    total, at_once = float32(0), uint32(uint32(BLOCK) >> shift)
    base = uint32(uint32(cuda.blockIdx.x) * at_once)
    while base < rows:
        row = uint32(base + uint32(thread >> shift))
        exists = row < rows
        row = row if exists else uint32(0)
        start, end, label = uint32(row * classes), uint32(uint32(row + uint32(1)) * classes), labels[row]
        counts = label != ignore and label >= int64(0) and label < int64(classes)
        target = uint32(start + (uint32(label) if counts else uint32(0)))
        most, exponentials = line_exponentials(x, uint32(start + lane), lanes, end, shift)
        log_sum = math.log(exponentials)
        own = (float32(1) - smoothing) * _weight_of(weight, weighted, uint32(target - start))
        factor = (own + everywhere * mass) * scale / exponentials
        loss, at = float32(0), uint32(start + lane)
        while exists and at < end:
            value = x[at] - most
            gradient = float32(0)
            if counts:
                q = float32(0)
                if smoothing > float32(0):  # without it a logit of -inf elsewhere costs nothing
                    q = everywhere * _weight_of(weight, weighted, uint32(at - start))
                    loss += q * (log_sum - value)
                gradient = math.exp(value) * factor - q * scale
                if at == target:
                    loss += own * (log_sum - value)
                    gradient -= own * scale
            dx[at] = gradient
            at = uint32(at + lanes)
        loss = team_sum(loss, shift)
        if exists and lane == uint32(0):
            total += loss
            if each != uint32(0):
                losses[row] = loss
        base = uint32(base + uint32(uint32(cuda.gridDim.x) * at_once))
    write_part(parts, block_sum(total), float32(0))


@kernel(block=BLOCK)
def probable(
    x: f32s,
    targets: f32s,
    weight: f32s,
    losses: f32s,
    dx: f32s,
    parts: f32s,
    rows: u32,
    classes: u32,
    shift: u32,
    smoothing: f32,
    scale: f32,
    weighted: u32,
    each: u32,
):
    """Losses and gradients of rows with probabilities, and what each block has found."""
    thread, lanes = uint32(cuda.threadIdx.x), uint32(uint32(1) << shift)
    lane = uint32(thread & uint32(lanes - uint32(1)))
    kept, everywhere = float32(1) - smoothing, smoothing / float32(classes)
    total, at_once = float32(0), uint32(uint32(BLOCK) >> shift)
    base = uint32(uint32(cuda.blockIdx.x) * at_once)
    while base < rows:
        row = uint32(base + uint32(thread >> shift))
        exists = row < rows
        row = row if exists else uint32(0)
        start, end = uint32(row * classes), uint32(uint32(row + uint32(1)) * classes)
        most, exponentials = line_exponentials(x, uint32(start + lane), lanes, end, shift)
        log_sum = math.log(exponentials)
        loss, mass, at = float32(0), float32(0), uint32(start + lane)
        while at < end:
            q = (kept * targets[at] + everywhere) * _weight_of(weight, weighted, uint32(at - start))
            loss += q * (log_sum - (x[at] - most))
            mass += q
            at = uint32(at + lanes)
        loss, mass = team_sum(loss, shift), team_sum(mass, shift)
        factor, at = mass * scale / exponentials, uint32(start + lane)
        while exists and at < end:
            q = (kept * targets[at] + everywhere) * _weight_of(weight, weighted, uint32(at - start))
            dx[at] = math.exp(x[at] - most) * factor - q * scale
            at = uint32(at + lanes)
        if exists and lane == uint32(0):
            total += loss
            if each != uint32(0):
                losses[row] = loss
        base = uint32(base + uint32(uint32(cuda.gridDim.x) * at_once))
    write_part(parts, block_sum(total), float32(0))
