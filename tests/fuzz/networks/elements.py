"""Random layers that keep an image's size, such as activations and normalisation; layers on rows."""

from __future__ import annotations

import math

import nbconv as nb
from nbconv import preprocess

from .images import Draw, Random, draw_same_conv, one_of
from .node import Node, Shape


def activation(shape: Shape, *, name: str, **options) -> nb.Layer:
    return getattr(nb, name)(**options)


def draw_activation(rng: Random) -> Node:
    name = one_of(rng, *["ReLU"] * 6, *["ReLU6"] * 2, *_ACTIVATIONS)
    options = {
        "LeakyReLU": {"negative_slope": 0.2},
        "ELU": {"alpha": 0.7},
        "GELU": {"approximate": one_of(rng, "none", "tanh")},
        "Softplus": {"beta": one_of(rng, 1.0, 3.0), "threshold": one_of(rng, 20.0, 2.0)},
        "Softmax": {"dim": one_of(rng, 1, -1)},
        "LogSoftmax": {"dim": one_of(rng, 1, -1)},
    }
    return Node(activation, {"name": name, **options.get(name, {})})


_ACTIVATIONS = (
    *("LeakyReLU", "ELU", "Sigmoid", "Tanh", "SELU", "GELU", "SiLU", "Hardswish", "Softplus"),
    *("Softmax", "LogSoftmax"),
)


def prelu(shape: Shape, *, shared: bool) -> nb.Layer:
    return nb.PReLU(1 if shared else shape[1])


def draw_prelu(rng: Random) -> Node:
    return Node(prelu, {"shared": bool(rng.random() < 0.5)})


def maxout(shape: Shape, *, pieces: int) -> nb.Layer:
    return nb.Maxout(math.gcd(pieces, shape[1]))


def draw_maxout(rng: Random) -> Node:
    return Node(maxout, {"pieces": one_of(rng, 2, 3, 4)})


def batch_norm(shape: Shape, **options) -> nb.Layer:
    return nb.BatchNorm2d(shape[1], **options)


def draw_batch_norm(rng: Random) -> Node:
    options = {"eps": one_of(rng, 1e-5, 1e-5, 1e-2), "momentum": one_of(rng, 0.1, 0.1, None, 1.0)}
    options |= {"affine": bool(rng.random() < 0.8), "track_running_stats": bool(rng.random() < 0.85)}
    return Node(batch_norm, options)


def group_norm(shape: Shape, *, groups: int, **options) -> nb.Layer:
    groups = math.gcd(groups, shape[1])
    _require_several(math.prod(shape[1:]) // groups)
    return nb.GroupNorm(groups, shape[1], **options)


def _require_several(elements: int) -> None:
    """One element alone less its mean is 0, and its gradient what rounding leaves, which no scale tells."""
    if elements < 2:
        raise ValueError("a normalisation of single elements")


def draw_group_norm(rng: Random) -> Node:
    return Node(group_norm, {"groups": one_of(rng, 1, 2, 4, 64), "affine": bool(rng.random() < 0.7)})


def layer_norm(shape: Shape, *, axes: int, **options) -> nb.Layer:
    normalized = shape[-min(axes, len(shape) - 1) :]
    _require_several(math.prod(normalized))
    return nb.LayerNorm(normalized, **options)


def draw_layer_norm(rng: Random) -> Node:
    options = {"axes": one_of(rng, 1, 2, 3), "elementwise_affine": bool(rng.random() < 0.7)}
    return Node(layer_norm, {**options, "bias": bool(rng.random() < 0.7)})


def local_norm(shape: Shape, *, name: str, **options) -> nb.Layer:
    return getattr(nb, name)(**options)


def draw_local_norm(rng: Random) -> Node:
    name = one_of(rng, "LocalResponseNorm", "SubtractiveNorm", "DivisiveNorm", "ContrastNorm")
    if name == "LocalResponseNorm":
        return Node(local_norm, {"name": name, "size": one_of(rng, 1, 2, 3, 5), "alpha": 0.5, "k": 2.0})
    return Node(local_norm, {"name": name, "kernel_size": one_of(rng, 3, 5, 9)})


def dropout(shape: Shape, *, name: str, p: float) -> nb.Layer:
    return getattr(nb, name)(p)


def draw_dropout(rng: Random) -> Node:
    return Node(dropout, {"name": one_of(rng, "Dropout", "Dropout2d"), "p": one_of(rng, 0.0, 0.0, 0.3, 1.0)})


def constants(shape: Shape, *, name: str, whole: bool) -> nb.Layer:
    """Preprocessing by constants; those that are measured come with the rest of the state."""
    return getattr(preprocess, name)(shape[1:] if whole and len(shape) in (2, 4) else shape[1:2])


def draw_constants(rng: Random) -> Node:
    name = one_of(rng, "MeanImage", "ChannelMean", "Standardize")
    return Node(constants, {"name": name, "whole": name == "MeanImage" or bool(rng.random() < 0.5)})


def zca(shape: Shape, *, count: int) -> nb.Layer:
    elements = math.prod(shape[1:])
    if elements > _LARGEST_ZCA:
        raise ValueError(f"a matrix of {elements} x {elements} would be all the work there is")
    return preprocess.ZCA(shape[1:], min(count, elements))


_LARGEST_ZCA = 200


def draw_zca(rng: Random) -> Node:
    return Node(zca, {"count": int(rng.integers(1, 50))})


ELEMENTS: dict[Draw, float] = {
    draw_activation: 8,
    draw_prelu: 1,
    draw_batch_norm: 4,
    draw_group_norm: 1,
    draw_layer_norm: 1,
    draw_local_norm: 1,
    draw_dropout: 1,
    draw_constants: 0.7,
    draw_zca: 0.3,
}
"""Layers that keep the whole shape, and how often they come."""

KEEPING: dict[Draw, float] = {**ELEMENTS, draw_same_conv: 8, draw_maxout: 0.7}
"""Layers that keep height and width."""


# To rows of features, and on them


def flatten(shape: Shape) -> nb.Layer:
    return nb.Flatten()


def mean_of_channels(shape: Shape, *, keepdims: bool) -> nb.Layer:
    return nb.GlobalAvgPool2d(keepdims)


def components(shape: Shape, *, name: str, count: int) -> nb.Layer:
    return getattr(preprocess, name)(shape[1:], min(count, math.prod(shape[1:])))


def draw_to_rows(rng: Random) -> Node:
    if rng.random() < 0.15:
        count = int(rng.integers(1, 20))
        return Node(components, {"name": one_of(rng, "PCA", "PCAWhitening"), "count": count})
    return one_of(rng, draw_flat(rng), Node(mean_of_channels, {"keepdims": True}))


def draw_flat(rng: Random) -> Node:
    return one_of(rng, Node(flatten), Node(mean_of_channels, {"keepdims": False}))


def dense(shape: Shape, *, out: int, bias: bool) -> nb.Layer:
    return nb.Dense(shape[1], out, bias)


def draw_dense(rng: Random) -> Node:
    return Node(dense, {"out": int(one_of(rng, 1, 2, 3, 8, 10, 17, 64)), "bias": bool(rng.random() < 0.8)})


ROWS: dict[Draw, float] = {
    draw_dense: 6,
    draw_activation: 4,
    draw_prelu: 0.5,
    draw_maxout: 0.7,
    draw_layer_norm: 0.7,
    draw_dropout: 0.7,
    draw_constants: 0.5,
}
"""Layers on rows of features."""
