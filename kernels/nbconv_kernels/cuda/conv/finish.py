"""What happens to the sums of a convolution or a dense layer before they are stored.

    y = min(high, max(low, sum + bias + what y holds))        NaN passes through

All of it is optional and costs a few instructions a result in the kernel that has the sums in registers. Sums
that were split among blocks lie in a workspace; ``add_up`` brings them together, in the order of the splits.

Limit of ``add_up``: memory bandwidth.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from nbconv_kernels.cuda.build import blocks, device_function, kernel
from nbconv_kernels.cuda.intrinsics import thread_index
from nbconv_kernels.cuda.memory import Array
from nbconv_kernels.cuda.target import f32, f32s, float32, i32, u32, uint32

__all__ = ["PLAIN", "Finish", "Kept", "Target", "add_up", "finish_of", "finished"]

_BLOCK = 256
_BOUNDS = {None: (-math.inf, math.inf), "relu": (0.0, math.inf), "relu6": (0.0, 6.0)}


Kept = dict[str, Any]
"""Weights as an algorithm wants them, by the algorithm, for as long as the weights are the same."""


class Finish(NamedTuple):
    """Bounds of the results, and whether they are added to what their place holds."""

    low: float
    high: float
    add: bool


PLAIN = Finish(-math.inf, math.inf, False)


class Target(NamedTuple):
    """Some channels of an array in channels-last memory, from ``channel`` on, and the finish."""

    y: Array
    pitch: int
    channel: int = 0
    finish: Finish = PLAIN


def finish_of(op: str, activation: str | None, add: bool = False) -> Finish:
    """The finish of an op with that activation.

    Raises:
        ValueError: for an activation that has none.
    """
    if activation not in _BOUNDS:
        raise ValueError(f'{op}: activation must be None, "relu" or "relu6", got {activation!r}')
    return Finish(*_BOUNDS[activation], add)


@device_function
def finished(total, low, high):
    """``total`` brought into low .. high; a comparison with NaN changes nothing."""
    total = low if total < low else total
    return high if total > high else total


@kernel(block=_BLOCK)
def _add_up(
    parts: f32s,
    bias: f32s,
    y: f32s,
    size: u32,
    splits: u32,
    columns: u32,
    pitch: u32,
    first: u32,
    has_bias: i32,
    adding: i32,
    low: f32,
    high: f32,
):
    i = thread_index()
    if i < size:
        total = float32(0)
        at = i
        for _ in range(splits):
            total += parts[at]
            at = uint32(at + size)
        row = uint32(i // columns)
        column = uint32(i - row * columns)
        to = uint32(row * pitch + first + column)
        if has_bias != 0:
            total += bias[column]
        if adding != 0:
            total += y[to]
        y[to] = finished(total, low, high)


def add_up(parts: Array, bias: Array | None, target: Target) -> None:
    """Sum ``parts`` (splits, pixels, columns) over the splits into the target."""
    splits, pixels, columns = parts.shape
    low, high, adding = target.finish
    _add_up[blocks(pixels * columns, _BLOCK)](
        parts,
        bias,
        target.y,
        pixels * columns,
        splits,
        columns,
        target.pitch,
        target.channel,
        bias is not None,
        adding,
        low,
        high,
    )
