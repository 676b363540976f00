"""Random layers on images: convolutions, pools, resampling, padding, preprocessing of sizes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import nbconv as nb
from nbconv import preprocess

from .node import Node, Shape

Random = np.random.Generator
Draw = Callable[[Random], Node]


def one_of(rng: Random, *values):
    return values[rng.integers(len(values))]


def sizes(rng: Random, low: int, high: int):
    """An integer, or a pair of them."""
    first, second = (int(value) for value in rng.integers(low, high + 1, 2))
    return first if rng.random() < 0.6 else (first, second)


def channels(rng: Random) -> int:
    """Numbers that fill vectors and Winograd's tiles, and those that fill none."""
    return int(one_of(rng, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 20, 32, 33, 48, 64))


def conv(shape: Shape, *, out: int, groups: int, **options) -> nb.Layer:
    """``groups`` 0 is a depthwise convolution; others are what they have in common with the channels."""
    groups = shape[1] if groups == 0 else math.gcd(groups, shape[1])
    return nb.Conv2d(shape[1], -(-out // groups) * groups, groups=groups, **options)


def draw_conv(rng: Random) -> Node:
    kernel = sizes(rng, 1, 5) if rng.random() < 0.6 else one_of(rng, 1, 3, 3)
    plain = rng.random() < 0.4  # the convolutions that most networks are made of
    options = {
        "out": channels(rng),
        "kernel_size": kernel,
        "groups": one_of(rng, 1, 1, 1, 0, 2, 4),
        "stride": 1 if plain else sizes(rng, 1, 3),
        "padding": kernel // 2 if plain and isinstance(kernel, int) else sizes(rng, 0, 3),
        "dilation": 1 if plain else one_of(rng, 1, 1, 2, 3, (1, 2), (3, 1)),
        "bias": bool(rng.random() < 0.7),
    }
    if rng.random() < 0.15:
        options |= {"padding": one_of(rng, "same", "valid"), "stride": 1}
    if rng.random() < 0.2:
        options["padding_mode"] = one_of(rng, "constant", "reflect", "symmetric", "replicate", "circular")
        if options["padding_mode"] == "constant":
            options["padding_value"] = 0.5
    return Node(conv, options)


def draw_same_conv(rng: Random) -> Node:
    """One that keeps height and width."""
    kernel = one_of(rng, 1, 1, 3, 3, 5)
    options = {"out": channels(rng), "kernel_size": kernel, "padding": kernel // 2}
    return Node(
        conv, {**options, "groups": one_of(rng, 1, 1, 0, 2), "stride": 1, "bias": bool(rng.random() < 0.5)}
    )


def conv_transpose(shape: Shape, *, out: int, groups: int, **options) -> nb.Layer:
    groups = shape[1] if groups == 0 else math.gcd(groups, shape[1])
    return nb.ConvTranspose2d(shape[1], -(-out // groups) * groups, groups=groups, **options)


def draw_conv_transpose(rng: Random) -> Node:
    options = {"out": int(rng.integers(1, 20)), "kernel_size": sizes(rng, 1, 4), "stride": sizes(rng, 1, 3)}
    options |= {"padding": sizes(rng, 0, 2), "output_padding": sizes(rng, 0, 1)}
    options |= {"groups": one_of(rng, 1, 1, 0, 2), "dilation": one_of(rng, 1, 1, 2, (2, 1))}
    return Node(conv_transpose, {**options, "bias": bool(rng.random() < 0.7)})


def max_pool(shape: Shape, **options) -> nb.Layer:
    return nb.MaxPool2d(**options)


def draw_max_pool(rng: Random) -> Node:
    options = {"kernel_size": sizes(rng, 1, 4), "stride": one_of(rng, None, sizes(rng, 1, 3))}
    options |= {"padding": sizes(rng, 0, 1), "dilation": one_of(rng, 1, 1, 1, 2)}
    return Node(max_pool, {**options, "ceil_mode": bool(rng.random() < 0.3)})


def avg_pool(shape: Shape, **options) -> nb.Layer:
    return nb.AvgPool2d(**options)


def draw_avg_pool(rng: Random) -> Node:
    options = {"kernel_size": sizes(rng, 1, 4), "stride": one_of(rng, None, sizes(rng, 1, 3))}
    options |= {"padding": sizes(rng, 0, 1), "ceil_mode": bool(rng.random() < 0.3)}
    options |= {"count_include_pad": bool(rng.random() < 0.5), "divisor_override": one_of(rng, None, None, 3)}
    return Node(avg_pool, options)


def adaptive_avg_pool(shape: Shape, **options) -> nb.Layer:
    return nb.AdaptiveAvgPool2d(**options)


def draw_adaptive_avg_pool(rng: Random) -> Node:
    return Node(adaptive_avg_pool, {"output_size": one_of(rng, sizes(rng, 1, 6), (None, 3), (2, None))})


def pad(shape: Shape, **options) -> nb.Layer:
    return nb.Pad2d(**options)


def draw_pad(rng: Random) -> Node:
    mode = one_of(rng, "zeros", "constant", "reflect", "symmetric", "replicate", "circular")
    sides = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (2, 2)))
    value = {"value": -0.7} if mode == "constant" else {}
    return Node(pad, {"padding": one_of(rng, sides, sizes(rng, 0, 2)), "mode": mode, **value})


def upsample(shape: Shape, **options) -> nb.Layer:
    return nb.Upsample(**options)


def draw_upsample(rng: Random) -> Node:
    mode = one_of(rng, "nearest", "bilinear")
    corners = {"align_corners": bool(rng.random() < 0.5)} if mode == "bilinear" else {}
    if rng.random() < 0.5:
        return Node(upsample, {"size": sizes(rng, 1, 12), "mode": mode, **corners})
    factor = one_of(rng, 2, 1.5, 0.6, (2.5, 1.3), (1.7, 0.6))
    return Node(upsample, {"scale_factor": factor, "mode": mode, **corners})


def resize(shape: Shape, **options) -> nb.Layer:
    return preprocess.Resize(**options)


def draw_resize(rng: Random) -> Node:
    return Node(resize, {"size": sizes(rng, 2, 12)})


def center_crop(shape: Shape, **options) -> nb.Layer:
    return preprocess.CenterCrop(**options)


def draw_center_crop(rng: Random) -> Node:
    return Node(center_crop, {"size": sizes(rng, 1, 8)})


WINDOWS: dict[Draw, float] = {
    draw_conv: 8,
    draw_conv_transpose: 2,
    draw_max_pool: 3,
    draw_avg_pool: 2,
    draw_adaptive_avg_pool: 1,
    draw_pad: 1,
    draw_upsample: 1,
    draw_resize: 0.5,
    draw_center_crop: 0.5,
}
"""Layers that may change height and width, and how often they come."""
