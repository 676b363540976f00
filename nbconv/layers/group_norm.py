"""Normalisation of each example by itself."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbconv import initializers
from nbconv.layers.base import Layer
from nbconv.layers.validate import positive_integer
from nbconv.parameter import Parameter
from nbconv.typing import Array, Backprop, Shape


class _OwnStatistics(Layer):
    """Base: ``op(x, shape, weight, bias, eps)``, with mean and variance of each example.

    Training and evaluation are the same: there are no running statistics.
    """

    op: str
    eps: float
    weight: Parameter | None
    bias: Parameter | None

    @property
    def output_is_free(self) -> bool:
        return True

    def infer(self, x: Array) -> Array:
        self.check(x)
        weight = None if self.weight is None else self.weight.data
        bias = None if self.bias is None else self.bias.data
        y: Array = getattr(self.ops, self.op)(x, self._grouping(), weight, bias, self.eps)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y = self.infer(x)
        backward, grouping, eps = getattr(self.ops, self.op + "_backward"), self._grouping(), self.eps
        weight, bias = self.weight, self.bias
        scale = None if weight is None else weight.data

        def backprop(dy: Array) -> Array | None:
            dx, dweight, dbias = backward(dy, x, grouping, scale, eps)
            if weight is not None and weight.requires_grad:
                weight.accumulate(dweight)
            if bias is not None and bias.requires_grad:
                bias.accumulate(dbias)
            return dx if input_grad else None

        return y, backprop

    def _grouping(self) -> Any:
        """What the op takes after ``x``."""
        raise NotImplementedError


class GroupNorm(_OwnStatistics):
    """The channels of each image, in groups, brought to mean 0 and variance 1; then scaled and shifted.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias``, input and output (N, num_channels, H, W); mean and
    variance are of one group of consecutive channels of one image, so that batches may be small.

    Args:
        num_groups: 1 normalises all channels together, num_channels each by itself.
        num_channels: channels of the input, a multiple of num_groups.
        eps: added to the variance.
        affine: whether ``weight`` and ``bias``, (num_channels,), are learned.

    Raises:
        ValueError: for arguments that contradict each other.

    Source: Wu and He, "Group normalization", 2018.
    """

    op = "group_norm"

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        self.num_groups = positive_integer(num_groups, "num_groups")
        self.num_channels = positive_integer(num_channels, "num_channels")
        if self.num_channels % self.num_groups:
            raise self.error(f"{num_channels} channels cannot be parted into {num_groups} groups")
        self.eps = float(eps)
        self.affine = bool(affine)
        self.weight = Parameter((self.num_channels,), initializers.ones()) if affine else None
        self.bias = Parameter((self.num_channels,), initializers.zeros()) if affine else None

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 4:
            raise self.error(f"expected an input of shape (N, {self.num_channels}, H, W), got {input_shape}")
        if input_shape[1] != self.num_channels:
            raise self.error(
                f"expected {self.num_channels} input channels, got {input_shape[1]} "
                f"in an input of shape {input_shape}"
            )
        return input_shape

    def _grouping(self) -> int:
        return self.num_groups


class LayerNorm(_OwnStatistics):
    """Each example brought to mean 0 and variance 1; then scaled and shifted element by element.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias``, input and output (N, ..., *normalized_shape); mean
    and variance are over these last axes.

    Args:
        normalized_shape: sizes of the last axes: (C, H, W) of images, or an integer for features.
        eps: added to the variance.
        elementwise_affine: whether ``weight``, of that shape, is learned.
        bias: whether ``bias`` is learned as well.

    Source: Ba et al., "Layer normalization", 2016.
    """

    op = "layer_norm"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        sizes = normalized_shape if isinstance(normalized_shape, list | tuple) else (normalized_shape,)
        self.normalized_shape = tuple(positive_integer(size, "normalized_shape") for size in sizes)
        if not self.normalized_shape:
            raise self.error("normalized_shape must have at least one axis")
        self.eps = float(eps)
        self.elementwise_affine = bool(elementwise_affine)
        affine, shape = self.elementwise_affine, self.normalized_shape
        self.weight = Parameter(shape, initializers.ones()) if affine else None
        self.bias = Parameter(shape, initializers.zeros()) if affine and bias else None

    def output_shape(self, input_shape: Shape) -> Shape:
        count = len(self.normalized_shape)
        if len(input_shape) <= count or input_shape[-count:] != self.normalized_shape:
            sizes = ", ".join(map(str, self.normalized_shape))
            raise self.error(f"expected an input of shape (N, ..., {sizes}), got {input_shape}")
        return input_shape

    def _grouping(self) -> Shape:
        return self.normalized_shape
