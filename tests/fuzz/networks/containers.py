"""Random layers made of layers: the containers, unpooling, and the blocks of the model families."""

from __future__ import annotations

import nbconv as nb
from nbconv.models import AuxiliaryHead, densenet, inception, mobilenet, resnet

from .elements import ELEMENTS, KEEPING
from .images import Draw, Random, conv, one_of
from .node import Node, Path, Shape


def weighted(rng: Random, draws: dict[Draw, float]) -> Node:
    """What one of them draws, each as often as it weighs."""
    weights = list(draws.values())
    return list(draws)[rng.choice(len(weights), p=[weight / sum(weights) for weight in weights])](rng)


def keeping(rng: Random, most: int = 3) -> Path:
    """Some layers that keep height and width."""
    return tuple(weighted(rng, KEEPING) for _ in range(rng.integers(0, most + 1)))


def sequential(shape: Shape, layers: nb.Sequential) -> nb.Layer:
    return layers


def draw_sequential(rng: Random) -> Node:
    return Node(sequential, {}, (keeping(rng),))


def residual(shape: Shape, *paths: nb.Sequential, activation: str | None) -> nb.Layer:
    after = getattr(nb, activation)() if activation else None
    body = paths[0]
    if len(paths) == 1:  # a convolution brings the body back to what goes around it
        c, size = shape[1], body.output_shape(shape)[2:]
        if size != shape[2:]:
            raise ValueError("the body must keep the size")
        body.append(nb.Conv2d(body.output_shape(shape)[1], c, 3, padding=1, bias=False))
        return nb.Residual(body, None, after)
    return nb.Residual(body, paths[1], after)


def draw_residual(rng: Random) -> Node:
    options = {"activation": one_of(rng, "ReLU", "ReLU", "ReLU6", "Tanh", None)}
    if rng.random() < 0.6:
        return Node(residual, options, (keeping(rng),))
    out, stride = int(one_of(rng, 4, 8, 16, 33)), one_of(rng, 1, 2)
    ends = [
        {"out": out, "kernel_size": k, "padding": k // 2, "stride": stride, "groups": 1, "bias": bool(k == 3)}
        for k in (3, 1)
    ]
    body, around = (Node(conv, end) for end in ends)
    return Node(residual, options, ((body, *keeping_channels(rng)), (around, *keeping_channels(rng, 1))))


def keeping_channels(rng: Random, most: int = 2) -> Path:
    """Some layers that keep the whole shape."""
    return tuple(weighted(rng, ELEMENTS) for _ in range(rng.integers(0, most + 1)))


def concat(shape: Shape, *branches: nb.Sequential) -> nb.Layer:
    return nb.Concat(*branches)


def draw_concat(rng: Random) -> Node:
    return Node(concat, {}, tuple(keeping(rng) for _ in range(rng.integers(1, 4))))


def dense_block(shape: Shape, *paths: nb.Sequential, growth: int) -> nb.Layer:
    """Each path is followed by a convolution, as it sees more channels than it was drawn for."""
    layers, c = [], shape[1]
    for path in paths:
        seen = (shape[0], c, *shape[2:])
        try:
            inside = path.output_shape(seen)[1]
        except nb.LayerError:
            path, inside = nb.Sequential(), c  # it counts the channels of the block's own input
        layers.append(nb.Sequential(*path, nb.Conv2d(inside, growth, 3, padding=1)))
        c += growth
    return nb.DenseBlock(*layers)


def draw_dense_block(rng: Random) -> Node:
    paths = tuple(keeping(rng, 2) for _ in range(rng.integers(0, 4)))
    return Node(dense_block, {"growth": int(one_of(rng, 1, 4, 8))}, paths)


class Hourglass(nb.Layer):
    """A maximum pool, layers on what is left, and the maxima back in their places."""

    def __init__(self, pool: nb.MaxPool2d, body: nb.Layer, unpool: nb.MaxUnpool2d) -> None:
        self.pool, self.body, self.unpool = pool, body, unpool

    def output_shape(self, input_shape: Shape) -> Shape:
        pooled = self.pool.output_shape(input_shape)
        shape = self.body.output_shape(pooled)
        if shape != pooled:
            raise self.error(f"the body must keep the shape {pooled}, got {shape}")
        return self.unpool.output_shape(shape, input_shape)

    def forward(self, x, training=False, *, input_grad=True):
        y, indices, through_pool = self.pool.forward_with_indices(x, training)
        y, through_body = self.body.forward(y, training)
        options = {"indices": indices, "output_size": x.shape}
        y, through_unpool = self.unpool.forward(y, training, **options)

        def backprop(dy):
            dx = through_pool(through_body(through_unpool(dy)))
            return dx if input_grad else None

        return y, backprop


def hourglass(shape: Shape, body: nb.Sequential, *, kernel_size, stride, padding) -> nb.Layer:
    window = kernel_size, stride, padding
    return Hourglass(nb.MaxPool2d(*window), body, nb.MaxUnpool2d(*window))


def draw_hourglass(rng: Random) -> Node:
    """Its windows do not overlap: else one place would have two values."""
    kernel = one_of(rng, 2, 2, 3, (2, 3))
    options = {"kernel_size": kernel, "stride": one_of(rng, None, 3), "padding": one_of(rng, 0, 0, 1)}
    return Node(hourglass, options, (keeping_channels(rng),))


def auxiliary_head(shape: Shape, classifier: nb.Sequential) -> nb.Layer:
    return AuxiliaryHead(classifier)


def draw_auxiliary_head(rng: Random) -> Node:
    return Node(auxiliary_head, {}, (keeping(rng, 1),))


def family_block(shape: Shape, *, name: str, out: int, stride: int) -> nb.Layer:
    c = shape[1]
    match name:
        case "basic_block" | "bottleneck":
            return getattr(resnet, name)(c, out, stride)
        case "separable" | "inverted_residual":
            return getattr(mobilenet, name)(c, out, stride)
        case "dense_block":
            return densenet.dense_block(c, 2, out)
        case "transition":
            return densenet.transition(c, out)
        case "inception":
            return inception.inception(c, (out, 2, 5, 3, 4, 6))
    return inception.naive_inception(c, out, 4, 3)


_BLOCKS = (
    *("basic_block", "bottleneck", "separable", "inverted_residual", "dense_block", "transition"),
    *("inception", "naive_inception"),
)


def draw_family_block(rng: Random) -> Node:
    options = {
        "name": one_of(rng, *_BLOCKS),
        "out": int(one_of(rng, 3, 4, 8, 16)),
        "stride": one_of(rng, 1, 2),
    }
    return Node(family_block, options)


CONTAINERS: dict[Draw, float] = {
    draw_sequential: 0.5,
    draw_residual: 2,
    draw_concat: 1.5,
    draw_dense_block: 1,
    draw_hourglass: 0.7,
    draw_auxiliary_head: 0.2,
    draw_family_block: 2,
}
"""Layers made of layers, and how often they come."""
