"""The frame around losses that are a function of each element: a formula becomes a kernel.

    @device_function
    def _square(x, target, weight, positive, a, b):
        difference = x - target
        return difference * difference, float32(2) * difference

    _SQUARES = losses_of(_square)

A formula gives the loss and its derivative. It has two weights to go by, 1 where they are left out, and two
numbers. Four elements a thread at a time, in 128-bit accesses, and at the end those that are left.
"""

from __future__ import annotations

from typing import Any

from nbconv_kernels.cuda.build import Kernel, blocks, kernel
from nbconv_kernels.cuda.intrinsics import load4, store4, thread_index
from nbconv_kernels.cuda.loss_sums import BLOCK, MOST, reduced, scale_of, write_part
from nbconv_kernels.cuda.memory import Array, empty, empty_as, whole
from nbconv_kernels.cuda.reduction import block_sum
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, u32, uint32


def losses_of(formula: Any) -> Kernel:
    """The kernel of (loss, derivative) = formula(x, target, weight, positive weight, a, b)."""

    @kernel(block=BLOCK, constants=(formula.__name__,))
    def _losses(
        x: f32s,
        target: f32s,
        weight: f32s,
        positive: f32s,
        losses: f32s,
        dx: f32s,
        parts: f32s,
        a: f32,
        b: f32,
        scale: f32,
        n: u32,
        weighted: u32,
        each: u32,
    ):
        total, one = float32(0), float32(1)
        step = uint32(uint32(uint32(4) * uint32(BLOCK)) * uint32(cuda.gridDim.x))
        i = uint32(uint32(4) * thread_index())
        while uint32(i + uint32(4)) <= n:
            x0, x1, x2, x3 = load4(x, i)
            t0, t1, t2, t3 = load4(target, i)
            w0, w1, w2, w3 = one, one, one, one
            v0, v1, v2, v3 = one, one, one, one
            if weighted != uint32(0):
                w0, w1, w2, w3 = load4(weight, i)
                v0, v1, v2, v3 = load4(positive, i)
            l0, d0 = formula(x0, t0, w0, v0, a, b)
            l1, d1 = formula(x1, t1, w1, v1, a, b)
            l2, d2 = formula(x2, t2, w2, v2, a, b)
            l3, d3 = formula(x3, t3, w3, v3, a, b)
            store4(dx, i, d0 * scale, d1 * scale, d2 * scale, d3 * scale)
            if each != uint32(0):
                store4(losses, i, l0, l1, l2, l3)
            total += (l0 + l1) + (l2 + l3)
            i = uint32(i + step)
        while i < n:  # the one thread whose four are not all there
            w0 = weight[i] if weighted != uint32(0) else one
            v0 = positive[i] if weighted != uint32(0) else one
            l0, d0 = formula(x[i], target[i], w0, v0, a, b)
            dx[i] = d0 * scale
            if each != uint32(0):
                losses[i] = l0
            total += l0
            i = uint32(i + uint32(1))
        write_part(parts, block_sum(total), float32(0))

    return _losses


def elementwise_loss(
    launch: Kernel,
    x: Array,
    target: Array,
    reduction: str,
    a: float = 0.0,
    b: float = 0.0,
    weights: tuple[Array, Array] | None = None,
) -> tuple[float | Array, Array]:
    """(loss, dx) by a kernel of ``losses_of``; arrays of one shape, the weights of the classes included."""
    each = reduction == "none"
    dx, losses = empty_as(x), empty_as(x) if each else None
    grid = min(blocks(x.size, 4 * BLOCK), MOST)
    parts = empty(x, (grid, 2))
    given = (None, None) if weights is None else map(whole, weights)
    numbers = a, b, scale_of(reduction, x.size), x.size, weights is not None, each
    launch[grid](whole(x), whole(target), *given, losses, dx, parts, *numbers)
    if losses is not None:
        return losses, dx
    return reduced(parts, x.size if reduction == "mean" else 1)[0], dx
