"""Which output pixels see the taps alike, in a convolution and in its input gradient."""

from __future__ import annotations

import functools
import math

from nbconv_kernels.cuda.conv.implicit_gemm import Gather, Phase
from nbconv_kernels.cuda.conv.packing import fours
from nbconv_kernels.geometry import Conv2dGeometry

__all__ = ["backward_input_plan", "forward_plan"]

Plan = tuple[Gather, tuple[Phase, ...], tuple[int, ...]]


@functools.lru_cache(maxsize=1024)
def forward_plan(g: Conv2dGeometry) -> Plan:
    """A convolution as a gathering product, and its taps in order."""
    channels, filters = fours(g.c // g.groups), g.k // g.groups
    gather = Gather(
        *(g.n, g.h, g.w, g.groups * channels, channels),
        *(g.stride_h, g.stride_w, g.dilation_h, g.dilation_w),
        *(g.p, g.q, 1, 1),
        *(filters, g.r * g.s * channels, fours(filters), g.r * g.s * channels * fours(filters)),
    )
    phase = Phase(g.p, g.q, 0, 0, -g.pad_top, -g.pad_left, g.r, g.s, 0)
    return gather, (phase,), tuple(range(g.r * g.s))


@functools.lru_cache(maxsize=1024)
def backward_input_plan(g: Conv2dGeometry) -> Plan:
    """Its input gradient: pixel y reads the output's row p where p * stride = y + pad - r * dilation."""
    channels, filters = g.c // g.groups, fours(g.k // g.groups)
    step_h, step_w = _tap_step(g.stride_h, g.dilation_h), _tap_step(g.stride_w, g.dilation_w)
    gather = Gather(
        *(g.n, g.p, g.q, g.groups * filters, filters),
        *(1, 1, -step_h * g.dilation_h // g.stride_h, -step_w * g.dilation_w // g.stride_w),
        *(g.h, g.w, g.stride_h, g.stride_w),
        *(channels, g.r * g.s * filters, fours(channels), g.r * g.s * filters * fours(channels)),
    )
    phases: list[Phase] = []
    order: list[int] = []
    for first_row in range(min(g.stride_h, g.h)):
        taps_h = _taps(first_row + g.pad_top, g.r, g.stride_h, g.dilation_h)
        for first_column in range(min(g.stride_w, g.w)):
            taps_w = _taps(first_column + g.pad_left, g.s, g.stride_w, g.dilation_w)
            seen = [r * g.s + s for r in taps_h for s in taps_w]
            top = (first_row + g.pad_top - taps_h[0] * g.dilation_h) // g.stride_h if seen else 0
            left = (first_column + g.pad_left - taps_w[0] * g.dilation_w) // g.stride_w if seen else 0
            phases.append(
                Phase(
                    *(-(-(g.h - first_row) // g.stride_h), -(-(g.w - first_column) // g.stride_w)),
                    *(first_row, first_column, top, left),
                    *((len(taps_h), len(taps_w)) if seen else (0, 1)),
                    len(order),
                )
            )
            order += seen
    # Taps that reach only what is not there, in an input smaller than the stride, are packed all the same.
    order += sorted(set(range(g.r * g.s)) - set(order))
    # The longest first, so that no processor begins one when the others are done.
    phases.sort(key=lambda phase: -phase.taps_h * phase.taps_w)
    return gather, tuple(phases), tuple(order)


def _tap_step(stride: int, dilation: int) -> int:
    """From a tap that reaches a pixel, how many taps on is the next that does."""
    return stride // math.gcd(stride, dilation)


def _taps(distance: int, taps: int, stride: int, dilation: int) -> list[int]:
    """The taps that reach a pixel so far behind the first window's beginning."""
    return [tap for tap in range(taps) if (distance - tap * dilation) % stride == 0]
