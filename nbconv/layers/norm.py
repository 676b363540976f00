"""Normalisation."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nbconv import initializers
from nbconv.layers.base import Layer
from nbconv.layers.state import buffer
from nbconv.layers.validate import positive_integer
from nbconv.parameter import Parameter
from nbconv.typing import Array, Backprop, Shape


class BatchNorm2d(Layer):
    """Each channel brought to mean 0 and variance 1, then scaled and shifted by learned numbers.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias``, input and output (N, num_features, H, W). Training
    uses mean and (biased) variance of the batch, and lets the running statistics follow them, the variance
    unbiased: ``running = (1 - momentum) * running + momentum * batch``. Evaluation uses the running ones, and
    so does training where the layer is frozen.

    Args:
        num_features: channels of the input.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None weighs all batches equally.
        affine: whether ``weight`` and ``bias`` are learned.
        track_running_stats: without, evaluation uses the batch's statistics as well.

    Source: Ioffe and Szegedy, "Batch normalization", 2015.
    """

    buffer_names: ClassVar[tuple[str, ...]] = ("running_mean", "running_var", "num_batches_tracked")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        self.num_features = positive_integer(num_features, "num_features")
        self.eps = float(eps)
        self.momentum = None if momentum is None else float(momentum)
        self.affine = bool(affine)
        self.track_running_stats = bool(track_running_stats)
        shape = (self.num_features,)
        self.weight = Parameter(shape, initializers.ones()) if affine else None
        self.bias = Parameter(shape, initializers.zeros()) if affine else None
        tracked = self.track_running_stats
        self.running_mean: Array | None = buffer(shape, 0.0, self.dtype) if tracked else None
        self.running_var: Array | None = buffer(shape, 1.0, self.dtype) if tracked else None
        # Only the equal weighing needs the count.
        counted = tracked and momentum is None
        self.num_batches_tracked: Array | None = np.zeros((), np.int64) if counted else None

    @property
    def statistics(self) -> tuple[Array | None, Array | None]:
        """The running mean and variance."""
        return self.running_mean, self.running_var

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 4:
            raise self.error(f"expected an input of shape (N, {self.num_features}, H, W), got {input_shape}")
        if input_shape[1] != self.num_features:
            raise self.error(
                f"expected {self.num_features} input channels, got {input_shape[1]} "
                f"in an input of shape {input_shape}"
            )
        return input_shape

    @property
    def output_is_free(self) -> bool:
        return True

    def infer(self, x: Array) -> Array:
        self.check(x)
        mean, var = self._statistics(x, training=False)
        weight, bias = self._scale_and_shift()
        y: Array = self.ops.batch_norm2d(x, mean, var, weight, bias, self.eps)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        return self._forward(x, training, input_grad, None)

    def forward_rectified(self, x: Array, training: bool, input_grad: bool) -> tuple[Array, Backprop]:
        """This layer and a ReLU behind it, in the same sweeps over memory."""
        return self._forward(x, training, input_grad, "relu")

    def _forward(
        self, x: Array, training: bool, input_grad: bool, activation: str | None
    ) -> tuple[Array, Backprop]:
        self.check(x)
        ops, eps, weight, bias = self.ops, self.eps, self.weight, self.bias
        training = training and not self.frozen
        mean, var = self._statistics(x, training)
        scale, shift = self._scale_and_shift()
        y: Array = ops.batch_norm2d(x, mean, var, scale, shift, eps, activation)
        from_batch = training or not self.track_running_stats
        output = None if from_batch or activation is None else y

        def backprop(dy: Array) -> Array | None:
            if from_batch:
                dx, *gradients = ops.batch_norm2d_backward(dy, x, mean, var, scale, eps, shift, activation)
            else:
                dy = dy if output is None else ops.relu_backward(dy, output)
                dx, *gradients = ops.batch_norm2d_inference_backward(dy, x, mean, var, scale, eps)
            dweight, dbias = gradients
            if weight is not None and weight.requires_grad:
                weight.accumulate(dweight)
            if bias is not None and bias.requires_grad:
                bias.accumulate(dbias)
            return dx if input_grad else None

        return y, backprop

    def _statistics(self, x: Array, training: bool) -> tuple[Array, Array]:
        """What to normalise with; training lets the running statistics follow."""
        if not training and self.running_mean is not None and self.running_var is not None:
            return self.running_mean, self.running_var
        n, _, h, w = x.shape
        count = n * h * w
        if training and count < 2:
            raise self.error(
                f"training needs more than one value per channel, got an input of shape {x.shape}"
            )
        mean, var = self.ops.batch_norm2d_statistics(x)
        if training and self.running_mean is not None and self.running_var is not None:
            if self.num_batches_tracked is not None:
                self.num_batches_tracked = self.num_batches_tracked + 1
            # Not running + momentum * (batch - running): of a small number after a large one that leaves what
            # the large one's digits have room for. The weights are rounded such that they make 1.
            kept = float(mean.dtype.type(1 - self._momentum()))
            # New arrays: a thread that predicts meanwhile keeps the ones it has.
            self.running_mean = kept * self.running_mean + (1 - kept) * mean
            self.running_var = kept * self.running_var + (1 - kept) * count / (count - 1) * var
        return mean, var

    def _momentum(self) -> float:
        if self.momentum is not None:
            return self.momentum
        return 1.0 / int(self.num_batches_tracked) if self.num_batches_tracked is not None else 0.0

    def _scale_and_shift(self) -> tuple[Array | None, Array | None]:
        return (
            None if self.weight is None else self.weight.data,
            None if self.bias is None else self.bias.data,
        )
